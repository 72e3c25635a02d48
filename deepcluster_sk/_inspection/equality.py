"""Samples that are equal, byte by byte: files by their content, rows by their values."""

import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import gen_batches

from .names import paths_of

_ROWS = 1024  # read at once


def first_equal(samples: Any, rows: np.ndarray) -> np.ndarray:
    """Return, for each of the rows, the first of them that is equal to it.

    Arrays in files, chunked arrays and datasets are read piece by piece. Of files, only those of
    the same size are read.

    Parameters
    ----------
    samples : array-like, dataset, or list of paths
    rows : ndarray of shape (m,), int
        Which samples are compared, in ascending order.

    Returns
    -------
    first : ndarray of shape (m,), int64
        Among `rows`.
    """
    paths = paths_of(samples)
    keys = _keys_of_rows(samples, rows) if paths is None else _keys_of_files(paths, rows)
    seen: dict[Hashable, int] = {}
    return np.array(
        [seen.setdefault(key, row) for key, row in zip(keys, rows.tolist(), strict=True)],
        dtype=np.int64,
    )


def _keys_of_files(paths: list[str], rows: np.ndarray) -> Iterator[Hashable]:
    """Yield size and digest of files; the path where no other file has the size."""
    sizes = [os.path.getsize(paths[r]) if os.path.isfile(paths[r]) else -1 for r in rows]
    counts = Counter(sizes)
    for row, size in zip(rows, sizes, strict=True):
        if size < 0 or counts[size] == 1:
            yield paths[row]
            continue
        with open(paths[row], "rb") as file:
            yield size, hashlib.file_digest(file, "blake2b").digest()


def _keys_of_rows(samples: Any, rows: np.ndarray) -> Iterator[Hashable]:
    """Yield a digest of the values of each row."""
    read = _reader(samples)
    for piece in gen_batches(len(rows), _ROWS):
        for values in read(rows[piece]):
            yield hashlib.blake2b(_as_bytes(values), digest_size=16).digest()


def _as_bytes(values: np.ndarray) -> bytes:
    if values.dtype == object:  # columns of several types
        return "\0".join(map(str, values.ravel())).encode("utf-8", "surrogatepass")
    return np.ascontiguousarray(values).tobytes()


def _reader(samples: Any) -> Any:
    """Return a function that reads some rows of anything as an array."""
    from .._data.readers import (  # only now: torch takes its time
        ArrayReader,
        ChunkedArray,
        DatasetReader,
        as_numpy,
        is_memory_mapped,
    )

    if hasattr(samples, "iloc"):
        return lambda rows: samples.iloc[rows].to_numpy()
    if issparse(samples):
        matrix = samples.tocsr()
        return lambda rows: matrix[rows].toarray()
    if isinstance(samples, list | tuple):
        array = np.asarray(samples)
        return lambda rows: array[rows]
    if is_memory_mapped(samples) or isinstance(samples, ChunkedArray):
        return ArrayReader(samples).read
    if not hasattr(samples, "shape"):
        return DatasetReader(samples).read
    if hasattr(samples, "detach"):
        return lambda rows: as_numpy(samples[rows])
    return lambda rows: np.asarray(samples[rows])
