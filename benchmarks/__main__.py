"""Run every speed measurement that needs no data: ``python benchmarks``.

Each script prints its own table; ``--help`` of a script tells what can be chosen.
"""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("startup.py", "speed.py", "growth.py", "memory.py", "distributed.py")


def main() -> None:
    folder = Path(__file__).parent
    for script in SCRIPTS:
        print(f"\n## {script}\n", flush=True)
        subprocess.run([sys.executable, str(folder / script)], check=True)


if __name__ == "__main__":
    main()
