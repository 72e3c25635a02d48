"""Clustering quality of every method on real data sets, beside KMeans and other packages.

For each data set and method: ACC, NMI and ARI as mean and worst over the seeds, and the median
seconds of a fit. All samples are used for training and for evaluation. Our estimators run with
their defaults: nothing is set but ``n_clusters`` and ``random_state``.

    python benchmarks/quality.py --sets digits digits-rows --methods CC KMeans
    python benchmarks/quality.py --sets mnist fashion --data-folder DATA --seeds 0 1 2

The folder holds ``mnist.npz`` and ``fashion_mnist.npz`` (arrays X_train, y_train, X_test, y_test)
and ``coil20.npz``, ``pendigits.npz``, ``letter.npz``, ``landsat_train.npz``, ``isolet1.npz``
(arrays X, y) and ``scrna_worm_neuron.npz`` (counts of genes in cells: the parts data, indices,
indptr and shape of a CSR matrix, and y). UMAP and the methods of ClustPy are skipped where they
are not installed (``pip install -e ".[bench]"``).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler, normalize

from deepcluster_sk.methods import METHODS
from deepcluster_sk.metrics import clustering_accuracy_score

Data = tuple[np.ndarray, np.ndarray]
SCORES = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}
FILES = {
    "mnist": "mnist.npz",
    "fashion": "fashion_mnist.npz",
    "coil20": "coil20.npz",
    "pendigits": "pendigits.npz",
    "letter": "letter.npz",
    "landsat": "landsat_train.npz",
    "isolet": "isolet1.npz",
    "worm": "scrna_worm_neuron.npz",
}
TABLES = {"pendigits", "letter", "landsat", "isolet", "worm"}


def load(name: str, folder: Path | None) -> Data:
    """Return samples and classes of a data set, shuffled: files are often sorted by class."""
    if name in ("digits", "digits-rows"):
        digits = load_digits()
        X, y = (digits.images if name == "digits" else digits.data), digits.target
    else:
        if folder is None or not (folder / FILES[name]).exists():
            raise FileNotFoundError(f"{FILES[name]} not found in --data-folder {folder}")
        with np.load(folder / FILES[name]) as data:
            if "X" in data:
                X, y = data["X"], data["y"]
            elif "indptr" in data:
                X, y = expression(data), data["y"]
            else:
                X = np.concatenate([data["X_train"], data["X_test"]])
                y = np.concatenate([data["y_train"], data["y_test"]])
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


def expression(data: np.lib.npyio.NpzFile, n_genes: int = 2000) -> np.ndarray:
    """Return log counts per 10,000 of the genes that vary most, as is usual for single cells."""
    counts = csr_array((data["data"], data["indices"], data["indptr"]), shape=tuple(data["shape"]))
    rows = np.log1p(normalize(counts, norm="l1") * 1e4).toarray()
    most_variable = np.sort(rows.var(axis=0).argsort()[-n_genes:])
    return rows[:, most_variable].astype(np.float32)


def baseline_rows(X: np.ndarray, name: str) -> np.ndarray:
    """Flatten for the baselines; tables are standardised, pixels are left as they are."""
    rows = X.reshape(len(X), -1).astype(np.float32)
    return StandardScaler().fit_transform(rows) if name in TABLES else rows


def kmeans(X: np.ndarray, k: int, seed: int) -> np.ndarray:
    return KMeans(k, n_init=10, random_state=seed).fit_predict(X)


def umap_then(cluster: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def run(X: np.ndarray, k: int, seed: int) -> np.ndarray:
        import umap

        embedding = umap.UMAP(n_components=10, min_dist=0.0, random_state=seed).fit_transform(X)
        return cluster(k, random_state=seed).fit_predict(embedding)

    return run


def clustpy(method: str) -> Callable[..., np.ndarray]:
    def run(X: np.ndarray, k: int, seed: int) -> np.ndarray:
        import clustpy.deep

        if method == "VaDE":  # its loss is for values in [0, 1]
            X = (X - X.min()) / (X.max() - X.min())
        return getattr(clustpy.deep, method)(k, random_state=seed).fit_predict(X)

    return run


OURS = {method.short_name: method.load_class() for method in METHODS.values()}
BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "KMeans": kmeans,
    "UMAP+KMeans": umap_then(KMeans),
    "UMAP+GMM": umap_then(GaussianMixture),
    **{f"ClustPy-{name}": clustpy(name) for name in ("DEC", "IDEC", "DCN", "VaDE")},
}


def measure(name: str, method: str, data: Data, seed: int) -> dict[str, float]:
    """Fit once; return the scores and the seconds."""
    X, y = data
    k = len(np.unique(y))
    rows = baseline_rows(X, name) if method in BASELINES else None
    start = time.perf_counter()
    if rows is None:
        labels = OURS[method](n_clusters=k, random_state=seed).fit_predict(X)
    else:
        labels = BASELINES[method](rows, k, seed)
    seconds = time.perf_counter() - start
    return {**{s: score(y, labels) for s, score in SCORES.items()}, "seconds": seconds}


def summary(name: str, method: str, runs: list[dict[str, float]]) -> str:
    """One row of the table."""
    cells = [name, method]
    for score in SCORES:
        values = [run[score] for run in runs]
        cells.append(f"{np.mean(values):.3f} ({min(values):.3f})")
    seconds = [run["seconds"] for run in runs]
    cells += [f"{np.mean(seconds):.1f} ({max(seconds):.1f})", str(len(runs))]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=["digits", "digits-rows"])
    parser.add_argument("--methods", nargs="+", default=[*OURS, *BASELINES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--json", type=Path, help="append every run to this file, a line each")
    args = parser.parse_args()

    print(describe() + "\n")
    print("| data | method | ACC mean (worst) | NMI | ARI | seconds mean (slowest) | seeds |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in args.sets:
        data = load(name, args.data_folder)
        for method in args.methods:
            runs = []
            try:
                for seed in args.seeds:
                    runs.append(measure(name, method, data, seed))
                    if args.json:
                        record = {"set": name, "method": method, "seed": seed, **runs[-1]}
                        with args.json.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(record) + "\n")
            except ImportError as error:
                print(f"| {name} | {method} | not installed: {error.name} |", flush=True)
                continue
            print(summary(name, method, runs), flush=True)


if __name__ == "__main__":
    main()
