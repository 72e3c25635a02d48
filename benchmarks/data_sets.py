"""Real data sets with classes, for measuring clusterings.

scikit-learn brings the digits, wine and breast cancer. The others are read from a folder with
``mnist.npz`` and ``fashion_mnist.npz`` (arrays X_train, y_train, X_test, y_test); ``coil20.npz``,
``pendigits.npz``, ``letter.npz``, ``landsat_train.npz``, ``isolet1.npz``, ``features_clothing.npz``
and ``features_cifar10_10k.npz`` (arrays X, y); and ``scrna_worm_neuron.npz`` (counts of genes in
cells: the parts data, indices, indptr and shape of a CSR matrix, and y). Some sets are in no group
and are named one by one: ``mnist-rows`` and ``fashion-rows``; ``imagenette-rows``, pixels of small
copies of ``imagenette96_jpegs.npz`` (bytes of JPEG files, offsets, labels); ``imagenette-features``
and ``clothing-features``, which ``features.py`` makes of these and of the photographs;
``clothing-photos``, paths of JPEG files in a folder per class, ``clothing/CLASS/NAME.jpg``; and
``digits-features``, those of a fitted ``ContrastiveClustering``.
"""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
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
FILE_SETS = {"clothing-photos"}  # not arrays, but paths of images


def load(name: str, folder: Path | None = None) -> Data:
    """Return samples and classes of a data set, shuffled: files are often sorted by class."""
    if name in BUNDLED:
        bundle = BUNDLED[name]()
        X, y = bundle.data, bundle.target
        X = bundle.images if name in IMAGES else X
    elif name in UNGROUPED:
        X, y = UNGROUPED[name](folder)
    else:
        X, y = _from_file(FILES[name], folder)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    return _thinned(X, y) if name.endswith("-unequal") else (X, y)


def _from_file(file: str, folder: Path | None) -> Data:
    with np.load(_found(file, folder)) as data:
        if "X" in data:
            return data["X"], data["y"]
        if "indptr" in data:
            return _expression(data), data["y"]
        if "bytes" in data:
            return _small_images(data), data["labels"]
        X = np.concatenate([data["X_train"], data["X_test"]])
        return X, np.concatenate([data["y_train"], data["y_test"]])


def _found(name: str, folder: Path | None) -> Path:
    if folder is None or not (folder / name).exists():
        raise FileNotFoundError(f"{name} not found in --data-folder {folder}")
    return folder / name


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


def _small_images(data: np.lib.npyio.NpzFile, size: int = 16) -> np.ndarray:
    """Decode JPEG files that lie one behind the other, and make them small."""
    content, images = data["bytes"].tobytes(), []
    for start, end in pairwise(data["offsets"]):
        with Image.open(io.BytesIO(content[start:end])) as image:
            images.append(np.asarray(image.convert("RGB").resize((size, size))))
    return np.stack(images)


def _flat(file: str) -> Callable[[Path | None], Data]:
    def read(folder: Path | None) -> Data:
        X, y = _from_file(file, folder)
        return X.reshape(len(X), -1).astype(np.float32), y

    return read


def _photographs(folder: Path | None) -> Data:
    """Return the paths of the clothing photographs, and the numbers of their classes."""
    paths = sorted(_found("clothing", folder).glob("*/*.jpg"))
    y = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    return np.array([str(path) for path in paths]), y


def _learned_features(folder: Path | None) -> Data:
    """Return the features that contrastive clustering learns of the digits, on seed 0."""
    from deepcluster_sk import ContrastiveClustering  # the other sets need no torch

    X, y = load("digits")
    return ContrastiveClustering(10, random_state=0).fit(X).transform(X), y


UNGROUPED: dict[str, Callable[[Path | None], Data]] = {
    "mnist-rows": _flat("mnist.npz"),
    "fashion-rows": _flat("fashion_mnist.npz"),
    "imagenette-rows": _flat("imagenette96_jpegs.npz"),
    "imagenette-features": _flat("features_imagenette.npz"),
    "digits-features": _learned_features,
    "clothing-features": _flat("features_clothing_photos.npz"),
    "clothing-photos": _photographs,
}
