"""Clustering quality of every method on real data sets, beside the best of usual methods.

All samples are used for training and for evaluation. Our estimators run with their defaults:
nothing is set but ``n_clusters`` and ``random_state``. KMeans, UMAP followed by KMeans, GMM and
HDBSCAN, HDBSCAN alone and EVoC get raw, globally scaled, standardised and unit rows, and the table
of differences takes the best of all of them.

    python benchmarks/quality.py --sets digits digits-rows --methods CC "KMeans raw"
    python benchmarks/quality.py --sets rows --data-folder DATA --results rows.jsonl
    python benchmarks/quality.py --sets clothing-photos --methods CC --encoder hog ...
    python benchmarks/quality.py --sets rows --methods "CC n_clusters=auto" ...

Parameters of our estimators may follow their name. ``rows`` stands for all sets of rows. Only our
estimators take image files; ``--encoder`` and ``--image-size`` are parameters of these. Each run is
appended to the file of results at once, and runs that are there are not repeated: an interrupted
measurement goes on where it was. Runs are shared out to processes of one thread each.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from baselines import BASELINES, scaled
from data_sets import CONFIRMED, FILE_SETS, IMAGES, SEARCHED, SETS, load
from machine import describe
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepcluster_sk.methods import METHODS
from deepcluster_sk.metrics import clustering_accuracy_score

SCORES: dict[str, Callable[..., float]] = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}
OURS = {method.short_name: method.load_class() for method in METHODS.values()}
Run = dict[str, Any]


def measure(name: str, method: str, seed: int, folder: Path | None) -> list[Run]:
    """Fit once; return the scores and the seconds of each clustering that comes of it."""
    X, y = load(name, folder)
    n_clusters = len(np.unique(y))
    try:
        start = time.perf_counter()
        if is_ours(method):
            name_of_class, *given = method.split()
            parameters = dict(map(_parameter, given))
            parameters = {"n_clusters": n_clusters, **parameters}
            model = OURS[name_of_class](random_state=seed, **parameters)
            found = {method: model.fit_predict(X)}
        else:
            run, how = BASELINES[method]
            labels = run(scaled(X, how), n_clusters, seed)
            found = {f"{part} {how}": of_part for part, of_part in labels.items()}
        seconds = time.perf_counter() - start
    except ImportError as error:
        return [{"error": str(error)}]
    return [
        {
            "method": part,
            "seconds": seconds,
            "clusters": len(set(of.tolist()) - {-1}),
            **{s: score(y, of) for s, score in SCORES.items()},
        }
        for part, of in found.items()
    ]


def is_ours(method: str) -> bool:
    """Tell our estimators, also with parameters as in ``CC encoder=hog``, from baselines."""
    return method.split()[0] in OURS


def _parameter(given: str) -> tuple[str, str | int | float]:
    name, _, value = given.partition("=")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            pass
    return name, value


def run_missing(
    tasks: Iterable[tuple[str, str, int]], results: Path, folder: Path | None, n_processes: int
) -> None:
    """Run what is not in the file of results yet, and append it."""
    done = {(run["set"], run["task"], run["seed"]) for run in read(results)}
    missing = [task for task in tasks if task not in done]
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measure, *task, folder): task for task in missing}
        for number, future in enumerate(as_completed(running), start=1):
            name, task, seed = running[future]
            with results.open("a", encoding="utf-8") as file:
                for run in future.result():
                    record = {"set": name, "task": task, "seed": seed, **run}
                    file.write(json.dumps(record) + "\n")
            print(f"{number} of {len(missing)}: {name}, {task}, seed {seed}", flush=True)


def read(results: Path) -> list[Run]:
    """Return the runs in a file of results."""
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()]


def by_method(runs: list[Run], name: str) -> dict[str, list[Run]]:
    """Return the runs on one data set, by method."""
    methods: dict[str, list[Run]] = {}
    for run in runs:
        if run["set"] == name and "error" not in run:
            methods.setdefault(run["method"], []).append(run)
    return methods


def summary(name: str, method: str, runs: list[Run]) -> str:
    """One row of the table of all results."""
    cells = [name, method]
    for score in SCORES:
        values = [run[score] for run in runs]
        cells.append(f"{np.mean(values):.3f} ({min(values):.3f})")
    seconds = [run["seconds"] for run in runs]
    # what ran before the numbers were recorded has none
    numbers = sorted({run["clusters"] for run in runs if "clusters" in run})
    cells += [f"{np.mean(seconds):.1f} ({max(seconds):.1f})", ", ".join(map(str, numbers))]
    cells += [str(len(runs))]
    return "| " + " | ".join(cells) + " |"


def difference(name: str, methods: dict[str, list[Run]], ours: list[str]) -> str:
    """One row of the table of differences in NMI: our methods beside the best baselines."""
    means = {method: np.mean([run["NMI"] for run in runs]) for method, runs in methods.items()}
    kmeans = _best(means, lambda method: method.startswith("KMeans"))
    best = _best(means, lambda method: not is_ours(method))
    cells = [name]
    for label, mean in (kmeans, best):
        cells.append(f"{mean:.3f} {label}" if label else "")
    for method in ours:
        if method in means:
            worst = min(run["NMI"] for run in methods[method])
            beside = f", {means[method] - best[1]:+.3f}" if best[0] else ""
            cells.append(f"{means[method]:.3f} ({worst:.3f}){beside}")
        else:
            cells.append("")
    return "| " + " | ".join(cells) + " |"


def _best(means: dict[str, Any], chosen: Callable[[str], bool]) -> tuple[str, float]:
    """Return the best of the chosen methods, and its mean."""
    some = {method: mean for method, mean in means.items() if chosen(method)}
    if not some:
        return "", float("nan")
    method = max(some, key=lambda name: some[name])
    return method, some[method]


def print_tables(runs: list[Run], names: list[str]) -> None:
    """Print all results, and the differences to the best baselines."""
    print("\n" + describe() + "\n")
    scores = "ACC mean (worst) | NMI | ARI"
    print(f"| data | method | {scores} | seconds mean (slowest) | clusters | seeds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        for method, some in by_method(runs, name).items():
            print(summary(name, method, some))
    print("\nNMI, mean (worst), and the difference to the best baseline:\n")
    measured = {run["task"] for run in runs if run["set"] in names and is_ours(run["task"])}
    ours = [*OURS, *sorted(measured - OURS.keys())]
    print("| data | best KMeans | best baseline | " + " | ".join(ours) + " |")
    print("| --- | --- | --- |" + " --- |" * len(ours))
    for name in names:
        print(difference(name, by_method(runs, name), ours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=["digits", "digits-rows"])
    parser.add_argument("--methods", nargs="+", default=[*OURS, *BASELINES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--encoder", help="of our estimators, by name")
    parser.add_argument("--image-size", type=int, help="of our estimators")
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--results", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    groups = {"searched": SEARCHED, "confirmed": CONFIRMED, "images": IMAGES}
    groups["rows"] = tuple(name for name in SETS if name not in IMAGES)
    names = [name for given in args.sets for name in groups.get(given, (given,))]
    given = {"encoder": args.encoder, "image_size": args.image_size}
    settings = "".join(f" {name}={value}" for name, value in given.items() if value is not None)
    methods = [method + settings if is_ours(method) else method for method in args.methods]
    arrays = [method for method in methods if not is_ours(method)]
    if arrays and not FILE_SETS.isdisjoint(names):
        ours = ", ".join(OURS)
        parser.error(f"image files can be clustered by {ours}, not by {', '.join(arrays)}")
    tasks = [(name, method, seed) for name in names for method in methods for seed in args.seeds]
    run_missing(tasks, args.results, args.data_folder, args.processes)
    print_tables(read(args.results), names)


if __name__ == "__main__":
    main()
