"""What is clustered: the images and rows that the arguments name."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._inspection.pictures import as_samples
from .._runtime.files import special_kind
from . import errors
from .array_files import read_array
from .table_files import read_csv

_ARRAYS = (".npy", ".npz", ".csv")


class Source(NamedTuple):
    """What is clustered."""

    X: Any
    names: list[str]
    """Paths, or row numbers."""
    paths: list[str] | None
    """Image files; None for rows."""


def open_sources(sources: Sequence[str]) -> Source:
    """Find what the arguments name."""
    if any(source.lower().endswith(_ARRAYS) for source in sources):
        if len(sources) > 1:
            raise errors.several_sources(len(sources), _ARRAYS)
        X = _read_rows(sources[0])
        return Source(X, [str(row) for row in range(len(X))], None)
    paths: dict[str, None] = {}  # a set that keeps its order
    for source in sources:
        found = as_samples(source) if os.path.isdir(source) else [source]
        paths.update(dict.fromkeys(found))
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise errors.missing_sources(missing)
    return Source(list(paths), list(paths), list(paths))


def _read_rows(path: str) -> np.ndarray:
    """Open a file of rows or images; nothing in it is executed."""
    kind = special_kind(path)  # opening a pipe would wait
    if kind is not None:
        raise errors.special_file(path, kind)
    return read_csv(path) if path.lower().endswith(".csv") else read_array(path)
