"""Peak memory of a fit on a memory map, for a small and a large one.

Each fit runs in a process of its own, on uint8 images of random bytes in a temporary file; the peak
resident size of the process is what the operating system says, with PyTorch itself and the pages
of the file that are mapped. The data should not count: the difference between the two fits is to
stay below 300 MB however large the second one is.

    python benchmarks/memory.py                          # 400 MB and 4 GB
    python benchmarks/memory.py --megabytes 40 400 --side 64

Whatever a fit keeps per sample (features for the search of neighbours, a graph of them) grows with
the number of images; large images are few.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from torch import nn

from deepcluster_sk import ContrastiveClustering


def write_images(path: Path, megabytes: int, side: int) -> int:
    """Write images of random bytes, piece by piece; return their number."""
    n = megabytes * 10**6 // side**2 // 3
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, side, side, 3))
    rng = np.random.default_rng(0)
    for start in range(0, n, 256):
        piece = images[start : start + 256]
        piece[:] = rng.integers(0, 256, size=piece.shape, dtype=np.uint8)
    images.flush()
    return n


def tiny_encoder() -> nn.Module:
    """Return a network that costs little beside reading."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 8, stride=8), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )  # fmt: skip


def peak_of_fit(path: Path, epochs: int, batch_size: int) -> int:
    """Fit in this process; return its peak resident size in bytes."""
    images = np.load(path, mmap_mode="r")
    model = ContrastiveClustering(
        10, encoder=tiny_encoder, max_epochs=epochs, batch_size=batch_size, random_state=0
    )
    model.fit(images)
    model.predict(images)
    return peak_resident_size()


def peak_resident_size() -> int:
    """Return that of this process in bytes.

    What ``getrusage`` says on Linux is no less than the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        sys.exit("This benchmark measures memory on Linux and macOS only.")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(megabytes: int, args: argparse.Namespace) -> float:
    """Write a file, fit on it in a new process, and return the peak in MB."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.npy"
        n = write_images(path, megabytes, args.side)
        settings = json.dumps([os.fspath(path), args.epochs, args.batch_size])
        command = [sys.executable, __file__, "--fit", settings]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    peak = int(output) / 1e6
    print(
        f"{megabytes:>6} MB of images ({n} of {args.side} pixels): peak {peak:6.0f} MB", flush=True
    )
    return peak


def main() -> None:
    """Measure both sizes and print the difference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs=2, default=[400, 4000])
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        path, epochs, batch_size = json.loads(args.fit)
        print(peak_of_fit(Path(path), epochs, batch_size))
        return
    small, large = (measure(megabytes, args) for megabytes in args.megabytes)
    print(f"difference: {large - small:.0f} MB")


if __name__ == "__main__":
    main()
