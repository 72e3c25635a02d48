"""Linear evaluation: how much a linear classifier gets out of the features of every method.

The encoder is fitted on the training part without labels; logistic regression on its standardised
features of the training part is then tested on the test part. For each data set and method: the
accuracy as mean and worst over the seeds, and the median seconds of fitting the encoder (without
the classifier). Our estimators run with their defaults: nothing is set but ``n_clusters`` and
``random_state``. Beside them stand the pixels themselves and their principal components; these
depend on no seed and run once.

    python benchmarks/linear_evaluation.py --sets digits
    python benchmarks/linear_evaluation.py --sets mnist --data-folder DATA --seeds 0 1 2

The digits are split in halves, stratified and the same for every seed. MNIST comes with its own
split; the folder holds ``mnist.npz`` (arrays X_train, y_train, X_test, y_test). The encoder sees
the whole training part, the classifier a stratified subset of ``--probe-rows`` of it, the same for
every seed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data_sets import FILES
from machine import describe
from quality import OURS
from sklearn.base import TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

SETS = ("digits", "mnist")


class Split(NamedTuple):
    """Images and classes: for the encoder, for the classifier, and for the test."""

    X_train: np.ndarray
    X_probe: np.ndarray
    y_probe: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(name: str, folder: Path | None, probe_rows: int) -> Split:
    """Return the parts of a data set."""
    if name == "digits":
        digits = load_digits()
        X_train, X_test, y_train, y_test = train_test_split(
            digits.images, digits.target, test_size=0.5, stratify=digits.target, random_state=0
        )
    else:
        if folder is None or not (folder / FILES[name]).exists():
            raise FileNotFoundError(f"{FILES[name]} not found in --data-folder {folder}")
        with np.load(folder / FILES[name]) as data:
            X_train, y_train = data["X_train"], data["y_train"]
            X_test, y_test = data["X_test"], data["y_test"]
    X_probe, y_probe = X_train, y_train
    if probe_rows < len(X_train):
        X_probe, _, y_probe, _ = train_test_split(
            X_train, y_train, train_size=probe_rows, stratify=y_train, random_state=0
        )
    return Split(X_train, X_probe, y_probe, X_test, y_test)


def rows(X: np.ndarray) -> np.ndarray:
    return X.reshape(len(X), -1).astype(np.float64)


def pixels(n_pixels: int) -> TransformerMixin:
    return FunctionTransformer(rows)


def principal_components(n_pixels: int) -> TransformerMixin:
    """Return 64 components, of small images half as many as pixels: the last ones are noise."""
    return make_pipeline(FunctionTransformer(rows), PCA(min(64, n_pixels // 2)))


BASELINES = {"PCA": principal_components, "pixels": pixels}


def make_encoder(method: str, split: Split, seed: int, epochs: int | None) -> Any:
    """Return the unfitted transformer from images to features."""
    if method in BASELINES:
        return BASELINES[method](split.X_train[0].size)
    settings = {} if epochs is None else {"max_epochs": epochs}
    n_clusters = len(np.unique(split.y_probe))
    return OURS[method](n_clusters=n_clusters, random_state=seed, **settings)


def make_probe() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def measure(method: str, split: Split, seed: int, epochs: int | None) -> dict[str, float]:
    """Fit encoder and classifier once; return the accuracy and the seconds of the encoder."""
    encoder = make_encoder(method, split, seed, epochs)
    start = time.perf_counter()
    encoder.fit(split.X_train)
    seconds = time.perf_counter() - start
    # in float32 the line search of the solver can stall before it converges
    train, test = (encoder.transform(X).astype(np.float64) for X in (split.X_probe, split.X_test))
    probe = make_probe().fit(train, split.y_probe)
    return {"accuracy": float(probe.score(test, split.y_test)), "seconds": seconds}


def summary(name: str, method: str, runs: list[dict[str, float]]) -> str:
    """One row of the table."""
    values = [run["accuracy"] for run in runs]
    seconds = np.median([run["seconds"] for run in runs])
    cells = [name, method, f"{np.mean(values):.3f} ({min(values):.3f})", f"{seconds:.1f}"]
    return "| " + " | ".join([*cells, str(len(runs))]) + " |"


def main() -> None:
    methods = [*OURS, *BASELINES]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=["digits"], choices=SETS)
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument(
        "--probe-rows",
        type=int,
        default=10_000,
        help="fit the classifier on at most so many training rows (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, help="max_epochs of our estimators, for trial runs")
    parser.add_argument("--json", type=Path, help="append every run to this file, a line each")
    args = parser.parse_args()

    print(describe() + "\n")
    print("| data | method | accuracy mean (worst) | seconds (median) | seeds |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in args.sets:
        split = load(name, args.data_folder, args.probe_rows)
        for method in args.methods:
            runs = []
            for seed in args.seeds[:1] if method in BASELINES else args.seeds:
                runs.append(measure(method, split, seed, args.epochs))
                if args.json:
                    record = {"set": name, "method": method, "seed": seed, **runs[-1]}
                    record |= {"epochs": args.epochs, "probe_rows": len(split.X_probe)}
                    with args.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
            print(summary(name, method, runs), flush=True)


if __name__ == "__main__":
    main()
