"""Quality of clusterings against the seconds that they take.

    python benchmarks/time_to_quality.py --data-folder DATA --picture time_to_quality.png
    python benchmarks/time_to_quality.py --sets digits --methods CC KMeans

Each run is a process of its own, one at a time, with all cores. "warm" counts the fit alone,
"cold" the process from its start to the labels, with the imports that the method needs. Our
estimators run with their defaults, and with a quarter and a half of the epochs that these choose: a
curve has three points, and each of them is what a user gets for the seconds. Peers get their own
defaults and the scaling of rows that suits them on the set; UMAP gets no seed, with which it would
use one core only. UMAP, EVoC and ClustPy come with ``pip install -e ".[bench]"``.

Runs are appended to the file of results at once, and runs that are there are not repeated.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from deepcluster_sk.methods import METHODS as REGISTRY

Run = dict[str, Any]
OURS = tuple(method.short_name for method in REGISTRY.values())
PEERS = ("KMeans", "UMAP+GMM", "UMAP+HDBSCAN", "EVoC", "ClustPy-DEC")
SETS = ("digits", "digits-rows", "pendigits", "cifar10", "mnist", "fashion")
LARGE_TABLES = ("mnist-rows", "fashion-rows")
SHARES = (0.25, 0.5, 1.0)
GOALS = {"digits": ("ARI", 0.97), "mnist": ("ACC", 0.98), "fashion": ("NMI", 0.70)}
# chosen by the classes: the best one in the tables of RESULTS.md
SCALINGS = {"pendigits": "unit", "cifar10": "global"}
MODULES = {"UMAP": "umap", "EVoC": "evoc", "ClustPy-DEC": "clustpy.deep"}

# one process per run: nothing is warm that a new user's process does not have warm
FIT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import time_to_quality
print(json.dumps(time_to_quality.fit(json.loads(sys.argv[2]))))
"""


def fit(task: Run) -> Run:
    """Fit once in this process; return the scores, the seconds, and when it was done."""
    from data_sets import load

    folder = Path(task["folder"]) if task["folder"] else None
    X, y = load(task["set"], folder)
    prepare = prepared_ours if task["method"] in OURS else prepared_peer
    cluster = prepare(task, X, len(np.unique(y)))
    start = time.perf_counter()
    labels = cluster()
    seconds, done = time.perf_counter() - start, time.time()
    from quality import SCORES  # only now: peers do not need torch

    scores = {name: score(y, labels) for name, score in SCORES.items()}
    return {"warm": seconds, "done": done, **scores}


def prepared_ours(task: Run, X: np.ndarray, n_clusters: int) -> Any:
    """Return what fits one of our estimators, for a share of its epochs."""
    from quality import OURS as CLASSES

    model = CLASSES[task["method"]](n_clusters, random_state=task["seed"])
    if task["share"] < 1:
        model.set_params(max_epochs=max(1, round(task["share"] * epochs_of(model, X))))
    return lambda: model.fit_predict(X)


def epochs_of(model: Any, X: np.ndarray) -> int:
    """Return the epochs that an estimator chooses for some samples."""
    from deepcluster_sk._estimator.fitting import read
    from deepcluster_sk._estimator.plan import make_plan
    from deepcluster_sk._runtime.random import Seeds

    plan = make_plan(model, read(model, X, goes_on=False), lambda: Seeds(0), goes_on=False)
    return plan.config.max_epochs


def prepared_peer(task: Run, X: np.ndarray, n_clusters: int) -> Any:
    """Return what fits a peer; imports and the scaling of the rows are not timed."""
    from baselines import clustpy, evoc, kmeans, scaled, umap_then

    rows = scaled(X, SCALINGS.get(task["set"], "raw"))
    name, _, part = task["method"].partition("+")
    if name in MODULES:
        import_module(MODULES[name])
    runs = {"KMeans": kmeans, "UMAP": umap_then(part, seeded=False), "EVoC": evoc}
    run = clustpy(name.removeprefix("ClustPy-")) if name.startswith("ClustPy") else runs[name]
    return lambda: next(iter(run(rows, n_clusters, task["seed"]).values()))


def measure(task: Run) -> Run:
    """Fit in a fresh process."""
    folder = str(Path(__file__).parent)
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT, folder, json.dumps(task)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {**task, "error": done.stderr.strip().splitlines()[-1]}
    found = json.loads(done.stdout.splitlines()[-1])
    return {**task, **found, "cold": found.pop("done") - start}


def run_missing(tasks: list[Run], results: Path) -> list[Run]:
    """Measure what is not in the file of results yet; return the runs of all tasks."""
    runs = read(results)
    for task in tasks:
        if not any(key(run) == key(task) for run in runs):
            runs.append(measure(task))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(runs[-1]) + "\n")
    asked = {key(task) for task in tasks}
    return [run for run in runs if key(run) in asked]


def key(run: Run) -> tuple[Any, ...]:
    return run["set"], run["method"], run["seed"], run["share"]


def read(results: Path) -> list[Run]:
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()]


def grouped(runs: list[Run]) -> dict[tuple[str, str, float], list[Run]]:
    """Return the runs of all seeds by data set, method and share of the epochs."""
    groups: dict[tuple[str, str, float], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["set"], run["method"], run["share"]), []).append(run)
    return groups


def table(runs: list[Run]) -> list[str]:
    rows = ["| data | method | epochs | ACC | NMI | ARI (worst) | cold | warm | goal |"]
    rows.append("| --- " * 9 + "|")
    for (name, method, share), of_seeds in grouped(runs).items():
        errors = [run["error"] for run in of_seeds if "error" in run]
        if errors:
            rows.append(f"| {name} | {method} | failed: {errors[0]} |")
            continue
        mean = {k: np.mean([run[k] for run in of_seeds]) for k in ("ACC", "NMI", "ARI")}
        cold, warm = (np.median([run[k] for run in of_seeds]) for k in ("cold", "warm"))
        worst = min(run["ARI"] for run in of_seeds)
        epochs = f"{share:g} of the default" if method in OURS else ""
        rows.append(
            f"| {name} | {method} | {epochs} | {mean['ACC']:.3f} | {mean['NMI']:.3f} | "
            f"{mean['ARI']:.3f} ({worst:.3f}) | {cold:.1f} s | {warm:.1f} s | "
            f"{reached(name, mean)} |"
        )
    return rows


def reached(name: str, mean: dict[str, Any]) -> str:
    """Tell whether a group of runs is as good as is to be reached on a data set."""
    if name not in GOALS:
        return ""
    score, goal = GOALS[name]
    return f"{score} >= {goal:g}: {'yes' if mean[score] >= goal else 'no'}"


def draw(runs: list[Run], path: Path) -> None:
    """Draw NMI against seconds: a line of shares for ours, a point for each peer."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(run["set"] for run in runs))
    figure = Figure(figsize=(10, 3.2 * -(-len(names) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 2), 2, squeeze=False, sharex=True).ravel()
    methods = list(dict.fromkeys(run["method"] for run in runs))
    for panel, name in zip(panels, names, strict=False):
        for number, method in enumerate(methods):
            found = {
                share: of_seeds
                for (of, by, share), of_seeds in grouped(runs).items()
                if (of, by) == (name, method) and not any("error" in run for run in of_seeds)
            }
            points = [
                (np.median([r["warm"] for r in of]), np.mean([r["NMI"] for r in of]))
                for _, of in sorted(found.items())
            ]
            if points:
                marker = "o-" if method in OURS else "s"
                panel.plot(*zip(*points, strict=True), marker, color=f"C{number}", label=method)
        panel.set(title=name, xscale="log", xlabel="seconds of a fit", ylabel="NMI")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    handles = {h.get_label(): h for panel in panels for h in panel.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=(*SETS, *LARGE_TABLES))
    parser.add_argument("--methods", nargs="+", default=[*OURS, *PEERS], choices=(*OURS, *PEERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--shares", nargs="+", type=float, default=[*SHARES])
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--results", type=Path, default=Path("time_to_quality.jsonl"))
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    from machine import describe

    print(describe() + "\n")
    folder = str(args.data_folder) if args.data_folder else None
    tasks = [
        {"set": name, "method": method, "seed": seed, "share": share, "folder": folder}
        for seed, name, method in product(args.seeds, args.sets, args.methods)
        for share in (args.shares if method in OURS else [1.0])
    ]
    runs = run_missing(tasks, args.results)
    print("\n".join(table(runs)))
    if args.picture:
        draw(runs, args.picture)


if __name__ == "__main__":
    main()
