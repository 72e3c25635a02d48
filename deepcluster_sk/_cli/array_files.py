"""Arrays in NumPy's formats."""

import os
import zipfile

import numpy as np
from numpy.lib.format import open_memmap

from . import errors


def read_array(path: str) -> np.ndarray:
    """Open an ``.npy`` as a memory map, or read an ``.npz``; nothing in it is executed."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        X = _read_npz(path) if suffix == ".npz" else open_memmap(path, mode="r")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # numpy raises errors of many kinds for damaged files
        raise errors.unreadable_array(path, error) from error
    if X.ndim == 0 or X.dtype.kind not in "biuf":
        raise errors.no_real_array(path, X.shape, X.dtype)
    return np.asanyarray(X)


def _read_npz(path: str) -> np.ndarray:
    with zipfile.ZipFile(path):  # numpy would take any other file for an array, or for a pickle
        pass
    with np.load(path) as data:
        names = list(data)
        if "X" not in names and len(names) != 1:
            raise errors.several_arrays(names)
        X: np.ndarray = data["X" if "X" in names else names[0]]
        return X
