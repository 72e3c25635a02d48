"""Tables in Parquet, read by pandas."""

from typing import Any

import numpy as np

from . import errors
from .columns import Columns, Table, Wanted, find_columns, warn_of_counting
from .libraries import require


def read_parquet(path: str, wanted: Wanted) -> Table:
    """Read the columns of numbers.

    Raises
    ------
    ImportError
        If pandas or pyarrow is not installed.
    ValueError
        If the file is damaged, or a feature is no number.
    """
    require(f"reading {path!r}", "pandas", "pyarrow")
    import pandas as pd

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # pyarrow raises errors of many kinds for damaged files
        raise errors.unreadable_array(path, error) from error
    if not len(frame):
        raise errors.empty_frame(path)
    indexed = [name for name in frame.index.names if name is not None]
    if indexed:  # its levels may be named as columns, but are no features
        frame = frame.reset_index()
    names = [str(name) for name in frame.columns]
    columns = find_columns(path, wanted, names, len(names), len(indexed))
    X = _numbers(path, frame, columns)
    warn_of_counting(path, X, columns)
    ids = None if columns.id is None else [str(value) for value in frame.iloc[:, columns.id]]
    return Table(X, ids, _labels(path, frame, columns))


def _numbers(path: str, frame: Any, columns: Columns) -> np.ndarray:
    """Return the features, as float32 where all of them are, otherwise as float64."""
    from pandas.api.types import is_numeric_dtype

    features = frame.iloc[:, columns.features]
    for column, dtype in zip(columns.features, features.dtypes, strict=True):
        if not is_numeric_dtype(dtype):  # bool is numeric to pandas
            value = repr(frame.iloc[0, column])[:100]
            raise errors.text_column(path, columns.name(column), dtype, value)
    single = all(dtype == np.float32 for dtype in features.dtypes)
    X: np.ndarray = features.to_numpy(np.float32 if single else np.float64, na_value=np.nan)
    missing = np.argwhere(np.isnan(X))
    if len(missing):
        row, column = missing[0]
        raise errors.missing_value(
            path, f"row {row}", columns.name(columns.features[column]), "NaN"
        )
    return X


def _labels(path: str, frame: Any, columns: Columns) -> list[str] | None:
    """Return the classes of the rows, or None where no option names their column."""
    if columns.label is None:
        return None
    values = frame.iloc[:, columns.label]
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise errors.missing_class(path, f"row {missing[0]}", columns.name(columns.label))
    return [str(value) for value in values]
