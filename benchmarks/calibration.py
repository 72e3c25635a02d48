"""How far the confidence of ``predict_proba`` can be trusted, before and after its calibration.

    python benchmarks/calibration.py --sets digits-rows wine cancer
    python benchmarks/calibration.py --data-folder DATA --picture reliability.png

The estimators run with their defaults, with the number of classes as ``n_clusters``; no class is
used in the calibration. Its recipe was chosen on the design sets; the held-out ones were looked at
in the end. At most 3,000 samples of each set are used, 4,000 of the letters.

A sample is *right* if its cluster is matched with its class (Hungarian method), and the accuracy is
the share of these. Its *pair share* is the share of its cluster's members that have its class: what
somebody sees who looks into the cluster, whatever the matching. For the largest probability of
each sample, before and after the calibration, the tables have the mean; the expected calibration
error, which is the mean distance between confidence and what it stands for in 10 bins of equally
many samples; the area under the ROC curve of right and wrong samples; and the share of samples with
a confidence of 0.9 or more, with the accuracy among these.

Each run is appended to the file of results at once, and runs that are there are not repeated.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import load
from machine import describe
from quality import OURS, read
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

DESIGN = ("digits-rows", "landsat", "isolet", "clothing")
HELD_OUT = (
    *("pendigits", "letter", "worm", "cifar10", "wine", "cancer", "digits", "coil20"),
    *("fashion-rows", "imagenette-rows"),
)
N_SAMPLES, MORE_SAMPLES = 3000, {"letter": 4000}
N_BINS = 10
SURE = 0.9
WHEN = ("before", "after")
COLUMNS = ("confidence", "error, matched", "error, pairs", "AUROC")
Run = dict[str, Any]


# ---- measuring


def measure(name: str, method: str, seed: int, folder: Path | None) -> Run:
    """Fit once; return how good the clusters and their confidences are."""
    X, y = load(name, folder)
    n = min(len(X), MORE_SAMPLES.get(name, N_SAMPLES))
    X, classes = X[:n], np.unique(y[:n], return_inverse=True)[1]
    start = time.perf_counter()
    model = OURS[method](n_clusters=int(classes.max()) + 1, random_state=seed).fit(X)
    seconds = time.perf_counter() - start
    right, shares = judged(model.labels_, classes)
    return {
        "n": n,
        "seconds": seconds,
        "accuracy": right.mean(),
        "pair share": shares.mean(),
        "before": trusted(uncalibrated(model).predict_proba(X).max(axis=1), right, shares),
        "after": trusted(model.predict_proba(X).max(axis=1), right, shares),
    }


def uncalibrated(model: Any) -> Any:
    """Return a copy whose probabilities are the softmax of its head."""
    model = copy.deepcopy(model)
    model._objective.calibration.reset()
    return model


def judged(labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each sample whether it is right, and its pair share."""
    n_clusters = max(labels.max(), classes.max()) + 1
    counts = np.zeros((n_clusters, n_clusters))
    np.add.at(counts, (labels, classes), 1)
    class_of = linear_sum_assignment(-counts)[1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return class_of[labels] == classes, shares[labels, classes]


def trusted(confidence: np.ndarray, right: np.ndarray, shares: np.ndarray) -> Run:
    """Return the measures of confidences, and what a reliability diagram shows."""
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(N_BINS, len(order)))
    sizes = np.array([len(members) for members in bins])
    means = {
        "confidence": np.array([confidence[members].mean() for members in bins]),
        "right": np.array([right[members].mean() for members in bins]),
        "pairs": np.array([shares[members].mean() for members in bins]),
    }
    errors = {part: np.abs(means["confidence"] - means[part]) for part in ("right", "pairs")}
    sure = confidence >= SURE
    return {
        "confidence": confidence.mean(),
        "error, matched": np.average(errors["right"], weights=sizes),
        "error, pairs": np.average(errors["pairs"], weights=sizes),
        "AUROC": None if right.all() or not right.any() else roc_auc_score(right, confidence),
        "sure": sure.mean(),
        "right of sure": right[sure].mean() if sure.any() else None,
        "bins": {"confidence": means["confidence"].tolist(), "right": means["right"].tolist()},
    }


def run_missing(tasks: Sequence[tuple[str, str, int]], results: Path, folder: Path | None) -> None:
    """Run what is not in the file of results yet, and append it."""
    done = {(run["set"], run["method"], run["seed"]) for run in read(results)}
    for name, method, seed in tasks:
        if (name, method, seed) in done:
            continue
        with threadpool_limits(1):
            run = measure(name, method, seed, folder)
        with results.open("a", encoding="utf-8") as file:
            record = {"set": name, "method": method, "seed": seed, **run}
            file.write(json.dumps(record, default=float) + "\n")
        print(f"{name}, {method}: {run['seconds']:.0f} s", flush=True)


# ---- tables


def print_table(runs: list[Run], method: str) -> None:
    """Print a row per set, and the means of the design sets and of the held-out ones."""
    print(f"\n{method}, {' -> '.join(WHEN)}:\n")
    print("| data | samples | accuracy | pair share | " + " | ".join(COLUMNS), end="")
    print(f" | share of confidence >= {SURE} (accuracy) |")
    print("|" + " --- |" * (5 + len(COLUMNS)))
    for run in runs:
        print(row(run["set"], f"{run['n']:,}", [run]))
    for title, names in (("design", DESIGN), ("held out", HELD_OUT)):
        group = [run for run in runs if run["set"] in names]
        if len(group) > 1:
            print(row(f"mean, {title}", f"{len(group)} sets", group))


def row(title: str, size: str, runs: list[Run]) -> str:
    """One row of the table: the means of some runs."""
    cells = [title, size]
    cells += [f"{mean([run[part] for run in runs]):.3f}" for part in ("accuracy", "pair share")]
    for column in COLUMNS:
        values = [mean([run[when][column] for run in runs]) for when in WHEN]
        cells.append(" -> ".join(f"{value:.3f}" for value in values))
    cells.append(" -> ".join(sure_and_right([run[when] for run in runs]) for when in WHEN))
    return "| " + " | ".join(cells) + " |"


def mean(values: list[float | None]) -> float:
    """Return the mean of the values that exist."""
    existing = [value for value in values if value is not None]
    return float(np.mean(existing)) if existing else float("nan")


def sure_and_right(parts: list[Run]) -> str:
    """Return the share of sure samples and, in brackets, the accuracy among them."""
    shares = np.array([part["sure"] for part in parts])
    if not shares.any():
        return f"{0:.2f}"
    accuracies = [part["right of sure"] or 0.0 for part in parts]
    return f"{shares.mean():.2f} ({np.average(accuracies, weights=shares):.3f})"


# ---- picture


def draw(runs: list[Run], file: Path) -> None:
    """Draw a reliability diagram per set, and one in which all sets weigh the same."""
    from matplotlib.figure import Figure

    n_columns = min(5, len(runs) + 1)
    n_rows = -(-(len(runs) + 1) // n_columns)
    size = 2.75 * n_columns, 2.75 * n_rows + 0.9
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flat
    for run, axis in zip(runs, axes, strict=False):
        draw_panel(axis, run["set"], {when: points([run[when]]) for when in WHEN})
    last = list(axes)
    draw_panel(last[0], "all", {when: points([run[when] for run in runs]) for when in WHEN})
    for unused in last[1:]:
        unused.set_axis_off()
    handles, labels = last[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=13, frameon=False)
    figure.supxlabel("confidence", fontsize=13)
    figure.supylabel("share of right samples", fontsize=13)
    figure.savefig(file)


def points(parts: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences and shares of right samples, averaged over bins of several sets."""
    confidence = np.concatenate([part["bins"]["confidence"] for part in parts])
    right = np.concatenate([part["bins"]["right"] for part in parts])
    groups = np.array_split(np.argsort(confidence, kind="stable"), min(N_BINS, len(confidence)))
    means = [(confidence[group].mean(), right[group].mean()) for group in groups]
    x, y = zip(*means, strict=True)
    return np.array(x), np.array(y)


def draw_panel(axis: Any, title: str, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw confidences against shares of right samples."""
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1, label="as it should be")
    colors = {"before": "#d55e00", "after": "#0072b2"}
    for when, (x, y) in curves.items():
        label = f"{when} calibration"
        axis.plot(x, y, "o-", color=colors[when], markersize=4.5, linewidth=1.6, label=label)
    axis.set(xlim=(0, 1.04), ylim=(0, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
    axis.tick_params(labelsize=11)
    axis.set_title(title, fontsize=13)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=[*DESIGN, *HELD_OUT])
    parser.add_argument("--methods", nargs="+", default=["CC"], choices=list(OURS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--results", type=Path, default=Path("calibration.jsonl"))
    parser.add_argument("--picture", type=Path, help="reliability diagrams of the first method")
    args = parser.parse_args()
    tasks = [(name, method, args.seed) for method in args.methods for name in args.sets]
    run_missing(tasks, args.results, args.data_folder)
    by_task = {(run["set"], run["method"], run["seed"]): run for run in read(args.results)}
    print("\n" + describe())
    for method in args.methods:
        print_table([by_task[name, method, args.seed] for name in args.sets], method)
    if args.picture:
        draw([by_task[name, args.methods[0], args.seed] for name in args.sets], args.picture)


if __name__ == "__main__":
    main()
