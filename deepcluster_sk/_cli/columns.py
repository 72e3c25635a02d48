"""Columns of a table: which ones are features, names of rows, and classes."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import errors

_UNNAMED = ("", "Unnamed: 0")  # the second is what pandas calls a column without a name
_FEWEST = 3  # rows; two numbers count by chance
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "-"}


class Wanted(NamedTuple):
    """What the options say about columns: names, or numbers from 1."""

    id: str | None = None
    label: str | None = None
    dropped: Sequence[str] = ()

    @property
    def any(self) -> bool:
        """Whether an option names a column."""
        return self != Wanted()


class Columns(NamedTuple):
    """Where the columns are, from 0."""

    id: int | None
    label: int | None
    features: list[int]
    names: Sequence[str] | None
    """Of all columns; None for a table without a line of names."""

    def name(self, column: int) -> str:
        """Return what a message calls a column: its name, or its number from 1."""
        named = self.names is not None and column < len(self.names) and self.names[column]
        return repr(self.names[column]) if named and self.names else str(column + 1)


class Table(NamedTuple):
    """A table that was read."""

    X: np.ndarray
    ids: list[str] | None
    labels: list[str] | None


def find_columns(
    path: str, wanted: Wanted, names: Sequence[str] | None, n_columns: int, n_indexed: int = 0
) -> Columns:
    """Find the columns that the options name.

    Parameters
    ----------
    n_indexed : int, default=0
        The first columns that are the index of a data frame, and no features.

    Raises
    ------
    ValueError
        If there is no such column, several have the name, or none is left.
    """

    def place(option: str, name: str) -> int:
        places = [i for i, other in enumerate(names or ()) if other == name]
        if len(places) > 1:
            raise errors.several_columns(path, option, name, [i + 1 for i in places])
        if not places and not (name.isascii() and name.isdecimal()):
            raise errors.no_column(path, option, name, names, n_columns)
        found = places[0] if places else int(name) - 1
        if not 0 <= found < n_columns:
            raise errors.no_column(path, option, name, names, n_columns)
        return found

    id_column = None if wanted.id is None else place("--id-column", wanted.id)
    label = None if wanted.label is None else place("--label-column", wanted.label)
    others = {*range(n_indexed), id_column, label}
    others |= {place("--drop-column", name) for name in wanted.dropped}
    features = [column for column in range(n_columns) if column not in others]
    if not features:
        raise errors.no_features(path)
    return Columns(id_column, label, features, names)


def is_missing(cell: str) -> bool:
    """Whether a cell stands for a value that is missing."""
    return cell.strip().lower() in _MISSING


def warn_of_counting(path: str, X: np.ndarray, columns: Columns) -> None:
    """Warn of a first column without a name that only counts, such as an index of pandas."""
    first = columns.features[0]
    named = columns.names is not None and columns.names[first] not in _UNNAMED
    if first or named or len(X) < _FEWEST or X.shape[1] < 2:
        return
    counted = X[:, 0] - np.arange(len(X))
    if (counted == 0).all() or (counted == 1).all():
        warnings.warn(
            f"the first column of {path!r} has no name and only counts the rows: {X[0, 0]:g}, "
            f"{X[1, 0]:g}, {X[2, 0]:g} and so on. It is clustered as a feature. To leave it out, "
            "use --id-column 1.",
            UserWarning,
            stacklevel=2,
        )
