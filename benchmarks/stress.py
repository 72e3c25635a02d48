"""Many fits and predictions in one process: in threads, one after the other, row by row.

    python benchmarks/stress.py                    # everything, some minutes
    python benchmarks/stress.py --parts threads
    python benchmarks/stress.py --fits 20 --predictions 1000

=======  =========================================================================================
part     what it does
=======  =========================================================================================
threads  small fits and predictions in 8 threads, each compared with the same one alone, bit by bit
fits     fits one after the other: memory, threads, descriptors, and tensors that are left behind
rows     predictions of one row: memory
=======  =========================================================================================

Ends with an error if a result differs or something grows.
"""

import argparse
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import describe
from quality import OURS
from sklearn.datasets import load_digits

N_THREADS = 8
DIGITS = load_digits()
DATA = {"images": DIGITS.images[:200], "rows": DIGITS.data[:200]}
SMALL: dict[str, Any] = {"max_epochs": 3, "batch_size": 50, "random_state": 0}
GROWTH = 30  # MB that the heap may grow by: gaps in it, not what is left behind


class Held(NamedTuple):
    """What the process holds."""

    memory: float
    threads: int
    descriptors: int
    tensors: int
    generators: int


def held() -> Held:
    """Count, after everything that is not used any more is gone."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    objects = gc.get_objects()
    return Held(
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        sum(isinstance(x, torch.Tensor) for x in objects),
        sum(isinstance(x, torch.Generator) for x in objects),
    )


def outcome(method: str, kind: str) -> tuple[Any, ...]:
    """Return the bits of a small fit and of its predictions."""
    model = OURS[method](10, **SMALL).fit(DATA[kind])
    return model.history_, model.labels_.tobytes(), model.predict_proba(DATA[kind]).tobytes()


def threads_part(n_fits: int, n_predictions: int) -> None:
    """Compare fits and predictions in threads with those alone."""
    jobs = [(method, kind) for method in OURS for kind in DATA]
    expected = {job: outcome(*job) for job in jobs}
    todo = [jobs[number % len(jobs)] for number in range(N_THREADS * n_fits)]
    start = time.perf_counter()
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(lambda job: outcome(*job), todo))
    n_equal = sum(expected[job] == result for job, result in zip(todo, found, strict=True))
    seconds = time.perf_counter() - start
    print(f"| fits in {N_THREADS} threads | {n_equal} of {len(todo)} equal | {seconds:.0f} s |")
    model = OURS["CC"](10, **SMALL).fit(DATA["images"])
    pieces = [DATA["images"][number % 180 : number % 180 + 20] for number in range(n_predictions)]
    alone = [model.predict_proba(piece) for piece in pieces]
    start = time.perf_counter()
    with ThreadPoolExecutor(N_THREADS) as pool:
        results = pool.map(model.predict_proba, pieces)
        same = sum(np.array_equal(a, b) for a, b in zip(alone, results, strict=True))
    seconds = time.perf_counter() - start
    print(
        f"| predictions in {N_THREADS} threads | {same} of {len(pieces)} equal | {seconds:.0f} s |"
    )
    if n_equal < len(todo) or same < len(pieces):
        raise SystemExit("Results in threads differ from those alone.")


def growth(name: str, work: Callable[[int], Any], warm_up: int, n: int) -> None:
    """Repeat something, and compare what is held before and after."""
    for number in range(warm_up):
        work(number)
    before = held()
    for number in range(n):
        work(number)
    after = held()
    changes = ", ".join(
        f"{field} {old:.0f} -> {new:.0f}"
        for field, old, new in zip(Held._fields, before, after, strict=True)
    )
    print(f"| {n:,} {name} | {changes} |", flush=True)
    if after.memory - before.memory > GROWTH or after[1:] > before[1:]:
        raise SystemExit(f"{n} {name} left something behind.")


def fits_part(n_fits: int) -> None:
    """Fit again and again, all methods and kinds of data in turn."""
    jobs = [(method, kind) for method in OURS for kind in DATA]
    growth("fits", lambda number: outcome(*jobs[number % len(jobs)]), len(jobs), n_fits)


def rows_part(n_rows: int) -> None:
    """Predict single rows and single images."""
    for kind, X in DATA.items():
        model = OURS["CC"](10, **SMALL).fit(X)

        def predict(number: int, model: Any = model, X: Any = X) -> None:
            model.predict(X[number % len(X)][None])

        growth(f"predictions of one of {kind}", predict, 200, n_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["threads", "fits", "rows"])
    parser.add_argument("--thread-fits", type=int, default=20, help="per thread")
    parser.add_argument("--thread-predictions", type=int, default=200)
    parser.add_argument("--fits", type=int, default=100)
    parser.add_argument("--predictions", type=int, default=10_000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # that clusters are empty after so few epochs

    print(describe() + "\n")
    print("| what | result | |\n| --- | --- | --- |", flush=True)
    parts = {
        "threads": lambda: threads_part(args.thread_fits, args.thread_predictions),
        "fits": lambda: fits_part(args.fits),
        "rows": lambda: rows_part(args.predictions),
    }
    for part in args.parts:
        parts[part]()


if __name__ == "__main__":
    main()
