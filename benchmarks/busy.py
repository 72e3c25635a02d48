"""Fits on a machine that has other work, against the same fits on a quiet one.

    python benchmarks/busy.py
    python benchmarks/busy.py --rounds 5 --epochs 20 --before ../older_checkout

============  ====================================================================================
situation     what runs beside the fit
============  ====================================================================================
quiet         nothing
two fits      the same fit, in a second process; the slower one counts
torch         a process that multiplies matrices with all of torch's threads
two busy      two processes that count in Python
============  ====================================================================================

Every fit is a process of its own, which imports, warms up, and times some epochs of
ContrastiveClustering on the bundled digits. The rounds alternate between the situations, and with
``--before`` between the package of this checkout and that of another one. The table has medians,
and their ratio to the quiet ones of the same package. Leave the machine alone meanwhile.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from machine import describe

HERE = Path(__file__).parent.parent

FIT = """
import sys, time, warnings
from sklearn.datasets import load_digits
from deepcluster_sk import ContrastiveClustering
warnings.simplefilter("ignore")
kind, epochs = sys.argv[1], int(sys.argv[2])
X = load_digits().images if kind == "images" else load_digits().data
ContrastiveClustering(10, max_epochs=1, random_state=0).fit(X[:300])
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
ContrastiveClustering(10, max_epochs=epochs, random_state=0).fit(X)
print(time.perf_counter() - start, flush=True)
"""
TORCH = """
import torch
a = torch.rand(600, 600)
while True:
    a = (a @ a).clamp(0, 1)
"""
COUNT = """
while True:
    sum(range(100_000))
"""


class Fit:
    """A fit in a process of its own, which waits until it may begin."""

    def __init__(self, package: Path, kind: str, epochs: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FIT, kind, str(epochs)],
            env={**os.environ, "PYTHONPATH": str(package)},
            cwd=package,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Wait for imports and warm-up."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise SystemExit("The fit did not start; its error stands above.")

    def begin(self) -> None:
        """Let the fit begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        """Return how long it took."""
        output, _ = self._process.communicate()
        return float(output)


def timed(package: Path, kind: str, epochs: int, n_fits: int, others: list[str]) -> float:
    """Return the seconds of the slowest of some fits, beside other processes."""
    fits = [Fit(package, kind, epochs) for _ in range(n_fits)]
    for fit in fits:
        fit.wait_until_ready()
    busy = [subprocess.Popen([sys.executable, "-c", other]) for other in others]
    try:
        for fit in fits:
            fit.begin()
        return max(fit.seconds() for fit in fits)
    finally:
        for process in busy:
            process.kill()
            process.wait()


SITUATIONS: dict[str, tuple[int, list[str]]] = {
    "quiet": (1, []),
    "two fits": (2, []),
    "torch": (1, [TORCH]),
    "two busy": (1, [COUNT, COUNT]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=["images", "rows"])
    parser.add_argument("--situations", nargs="+", default=[*SITUATIONS], choices=[*SITUATIONS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--before", type=Path, help="folder of another checkout")
    args = parser.parse_args()
    packages = {"this": HERE}
    if args.before is not None:
        packages = {"before": args.before.resolve(), **packages}

    print(describe() + "\n")
    print(f"| digits, {args.epochs} epochs of CC | package | seconds | times the quiet ones |")
    print("| --- | --- | --- | --- |", flush=True)
    for kind in args.kinds:
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.rounds):
            for situation in args.situations:
                n_fits, others = SITUATIONS[situation]
                for name, package in packages.items():
                    one = timed(package, kind, args.epochs, n_fits, others)
                    seconds.setdefault((situation, name), []).append(one)
        for (situation, name), all_rounds in seconds.items():
            middle = median(all_rounds)
            quiet = median(seconds.get(("quiet", name), [middle]))
            print(
                f"| {kind}, {situation} | {name} | {middle:.1f} | {middle / quiet:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
