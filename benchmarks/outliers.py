"""Samples of another kind, found among all by what is learned from all of them together.

Letters, and images of noise, are mixed into the digits, and pictures of noise into a folder of
photographs. An estimator is fitted to everything, without knowing which samples are of the other
kind; ``score_samples`` is compared with scikit-learn's IsolationForest and LocalOutlierFactor, with
their defaults, on the estimator's features and on the pixels.

    python benchmarks/outliers.py
    python benchmarks/outliers.py --data-folder DATA --methods CC TCC

The folder has photographs as ``clothing/CLASS/NAME.jpg``; without it, these are left out.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from deepcluster_sk.methods import METHODS

OURS = {method.short_name: method.load_class() for method in METHODS.values()}
LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"
SHARE = 0.05  # of the samples are of another kind
Mixed = tuple[Any, np.ndarray, dict[str, Any]]  # samples, which are odd, parameters


def letters(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw letters like the digits: (n, 8, 8) in [0, 16]."""
    images = np.empty((n, 8, 8))
    for image in images:
        page = Image.new("L", (64, 64))
        font = ImageFont.load_default(size=int(rng.integers(48, 64)))
        place = tuple(32 + rng.normal(0, 2, size=2))
        draw = ImageDraw.Draw(page)
        letter = LETTERS[rng.integers(len(LETTERS))]
        draw.text(place, letter, 255, font, anchor="mm", stroke_width=int(rng.integers(0, 3)))
        small = page.rotate(rng.normal(0, 8), Image.Resampling.BICUBIC).resize((8, 8), Image.BOX)
        image[:] = np.asarray(small, dtype=np.float64)
        image *= 16 / image.max()
    return images


def mixed(usual: np.ndarray, odd: np.ndarray, rng: np.random.Generator) -> Mixed:
    """Shuffle samples of two kinds."""
    X = np.concatenate([usual, odd])
    order = rng.permutation(len(X))
    return X[order], (order >= len(usual)), {"n_clusters": 10}


def digits_and(kind: str, rng: np.random.Generator) -> Mixed:
    images = load_digits().images
    n = round(SHARE * len(images))
    odd = letters(n, rng) if kind == "letters" else rng.uniform(0, 16, size=(n, 8, 8))
    return mixed(images, odd, rng)


def rows_and_letters(rng: np.random.Generator) -> Mixed:
    X, is_odd, parameters = digits_and("letters", rng)
    return X.reshape(len(X), -1), is_odd, parameters


def photographs_and_noise(folder: Path, scratch: Path, rng: np.random.Generator) -> Mixed:
    paths = sorted((folder / "clothing").rglob("*.jpg"))
    n = round(SHARE * len(paths))
    for number in range(n):  # blots of all sizes
        side = int(rng.integers(4, 64))
        blots = Image.fromarray(rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8))
        blots.resize((320, 320), Image.Resampling.BICUBIC).save(scratch / f"{number}.jpg")
    paths += sorted(scratch.glob("*.jpg"))
    is_odd = np.array([path.parent == scratch for path in paths])
    return paths, is_odd, {"n_clusters": 10, "encoder": "hog"}


def scores(model: Any, X: Any) -> dict[str, np.ndarray]:
    """Return how typical samples are by each method, higher for more."""
    found = {"score_samples": model.score_samples(X)}
    spaces = {"features": model.transform(X)}
    if isinstance(X, np.ndarray):
        spaces["pixels"] = X.reshape(len(X), -1)
    for space, rows in spaces.items():
        forest = IsolationForest(random_state=0).fit(rows)
        found[f"IsolationForest, {space}"] = forest.score_samples(rows)
        found[f"LocalOutlierFactor, {space}"] = (
            LocalOutlierFactor().fit(rows).negative_outlier_factor_
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["CC"], choices=list(OURS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", help="some of the sets")
    parser.add_argument("--max-epochs", type=int, help="of the estimators, for a quick trial")
    parser.add_argument("--data-folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sets: dict[str, Callable[[np.random.Generator], Mixed]] = {
            "digits and letters": lambda rng: digits_and("letters", rng),
            "digits and noise": lambda rng: digits_and("noise", rng),
            "digits as rows, and letters": rows_and_letters,
        }
        if args.data_folder:
            sets["photographs and noise"] = lambda rng: photographs_and_noise(
                args.data_folder, Path(scratch), rng
            )
        print(describe() + "\n\n| data | method | scores | AUC mean (worst) | average precision |")
        print("| --- | --- | --- | --- | --- |")
        for name in args.sets or sets:
            for method in args.methods:
                measure(name, sets[name], method, args)


def measure(
    name: str,
    make: Callable[[np.random.Generator], Mixed],
    method: str,
    args: argparse.Namespace,
) -> None:
    """Print the rows of one data set and method."""
    results: dict[str, list[tuple[float, float]]] = {}
    epochs = {} if args.max_epochs is None else {"max_epochs": args.max_epochs}
    for seed in args.seeds:
        X, is_odd, parameters = make(np.random.default_rng(seed))
        model = OURS[method](random_state=seed, **parameters, **epochs).fit(X)
        for by, score in scores(model, X).items():
            both = roc_auc_score(is_odd, -score), average_precision_score(is_odd, -score)
            results.setdefault(by, []).append(both)
    for by, values in results.items():
        auc, precision = np.array(values).T
        cells = [name, method, by, f"{auc.mean():.3f} ({auc.min():.3f})", f"{precision.mean():.3f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
