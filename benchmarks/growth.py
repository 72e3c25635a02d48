"""Seconds per epoch as the rows grow tenfold.

    python benchmarks/growth.py --rows 1000 10000 100000

Whole fits of random grey images of 28 x 28 pixels with the default number of epochs for 100,000
rows; the searches for neighbours and the final assignment are shared out over the epochs. For the
smaller sizes the median of several fits stands, as single ones are short.
"""

import argparse
import time

import numpy as np
from machine import describe
from quality import OURS

EPOCHS = 12
BATCH_SIZE = 250  # no row of round numbers is left out


def seconds_per_epoch(method: str, X: np.ndarray, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        model = OURS[method](
            n_clusters=10, max_epochs=EPOCHS, batch_size=BATCH_SIZE, random_state=0
        )
        start = time.perf_counter()
        model.fit(X)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) / EPOCHS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--methods", nargs="+", default=["CC"], choices=[*OURS])
    args = parser.parse_args()

    print(describe() + "\n")
    print("| method | rows | seconds per epoch | against the row above |")
    print("| --- | --- | --- | --- |", flush=True)
    for method in args.methods:
        before = None
        for n in args.rows:
            X = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
            seconds = seconds_per_epoch(method, X, rounds=5 if n < 5_000 else 1)
            ratio = "" if before is None else f"{seconds / before:.2f}"
            print(f"| {method} | {n:,} | {seconds:.2f} | {ratio} |", flush=True)
            before = seconds


if __name__ == "__main__":
    main()
