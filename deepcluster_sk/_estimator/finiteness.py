"""Finding NaN and infinity, in memory at once, and elsewhere as rows are read."""

import math

import numpy as np

from .._data.readers import Reader
from . import errors


class CheckedRows:
    """Flattened samples of a reader, converted and checked for finite values as they are read."""

    def __init__(self, reader: Reader, dtype: np.dtype, name: str) -> None:
        self._reader = reader
        self._name = name
        self.shape = (reader.shape[0], math.prod(reader.shape[1:]))
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        samples = self._reader.read(rows)
        batch = samples.reshape(len(samples), self.shape[1]).astype(self.dtype, copy=False)
        bad = _not_finite(batch)
        if len(bad):
            row = np.arange(len(self))[rows][bad[0]]
            raise errors.not_finite(self._name, _what(batch[bad[0]]), int(row))
        return batch


def check_finite(X: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, naming the first row that has one."""
    bad = _not_finite(X)
    if len(bad):
        extent = f" ({len(bad)} of {len(X)} rows are affected)"
        raise errors.not_finite(name, _what(X[bad[0]]), int(bad[0]), extent)


def _not_finite(X: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows with NaN or infinity."""
    if X.dtype == np.uint8:
        return np.empty(0, dtype=np.intp)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(X, dtype=np.float64)):
            return np.empty(0, dtype=np.intp)
    return np.flatnonzero(~np.isfinite(X).all(axis=1))  # none: a sum that overflowed


def _what(row: np.ndarray) -> str:
    return "NaN" if np.isnan(row).any() else "infinity (inf)"
