"""Real data sets with classes, for measuring clusterings.

scikit-learn brings the digits, wine and breast cancer. The others are read from a folder with
``mnist.npz`` and ``fashion_mnist.npz`` (arrays X_train, y_train, X_test, y_test); ``coil20.npz``,
``pendigits.npz``, ``letter.npz``, ``landsat_train.npz``, ``isolet1.npz``, ``features_clothing.npz``
and ``features_cifar10_10k.npz`` (arrays X, y); and ``scrna_worm_neuron.npz`` (counts of genes in
cells: the parts data, indices, indptr and shape of a CSR matrix, and y).
"""

from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.preprocessing import normalize

Data = tuple[np.ndarray, np.ndarray]
BUNDLED = {
    "digits": load_digits,
    "digits-rows": load_digits,
    "digits-unequal": load_digits,
    "digits-rows-unequal": load_digits,
    "wine": load_wine,
    "cancer": load_breast_cancer,
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
    "clothing": "features_clothing.npz",
    "cifar10": "features_cifar10_10k.npz",
}
IMAGES = ("digits", "digits-unequal", "mnist", "fashion", "coil20")
# choices were made on the first ones; the second ones were looked at in the end
SEARCHED = ("digits-rows", "pendigits", "isolet", "clothing", "wine")
CONFIRMED = ("letter", "landsat", "worm", "cifar10", "cancer")
SETS = (*BUNDLED, *FILES)


def load(name: str, folder: Path | None = None) -> Data:
    """Return samples and classes of a data set, shuffled: files are often sorted by class."""
    if name in BUNDLED:
        bundle = BUNDLED[name]()
        X, y = bundle.data, bundle.target
        X = bundle.images if name in IMAGES else X
    else:
        X, y = _from_file(name, folder)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return _thinned(X, y) if name.endswith("-unequal") else (X, y)


def _from_file(name: str, folder: Path | None) -> Data:
    if folder is None or not (folder / FILES[name]).exists():
        raise FileNotFoundError(f"{FILES[name]} not found in --data-folder {folder}")
    with np.load(folder / FILES[name]) as data:
        if "X" in data:
            return data["X"], data["y"]
        if "indptr" in data:
            return _expression(data), data["y"]
        X = np.concatenate([data["X_train"], data["X_test"]])
        return X, np.concatenate([data["y_train"], data["y_test"]])


def _expression(data: np.lib.npyio.NpzFile, n_genes: int = 2000) -> np.ndarray:
    """Return log counts per 10,000 of the genes that vary most, as is usual for single cells."""
    counts = csr_array((data["data"], data["indices"], data["indptr"]), shape=tuple(data["shape"]))
    rows = np.log1p(normalize(counts, norm="l1") * 1e4).toarray()
    most_variable = np.sort(rows.var(axis=0).argsort()[-n_genes:])
    return rows[:, most_variable].astype(np.float32)


def _thinned(X: np.ndarray, y: np.ndarray) -> Data:
    """Keep 180 samples of one class, 18 of another, and evenly falling numbers of the others."""
    classes = np.random.default_rng(0).permutation(np.unique(y))
    sizes = np.linspace(180, 18, len(classes)).round().astype(int)
    parts = [np.flatnonzero(y == c)[:n] for c, n in zip(classes, sizes, strict=True)]
    kept = np.sort(np.concatenate(parts))
    return X[kept], y[kept]
