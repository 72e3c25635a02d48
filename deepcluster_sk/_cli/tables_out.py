"""Tables that are written: CSV, TSV and Parquet, by the suffix, or standard output."""

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._runtime.files import ANY_NAME

SUFFIXES = (".csv", ".tsv", ".parquet")


def write_table(target: Path | None, columns: dict[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns of one length.

    Parameters
    ----------
    target : Path or None
        None stands for standard output, which gets CSV.
    columns : dict of str to sequence
        Texts; arrays of integers; arrays of floats, where NaN stands for what is missing; lists of
        integers and None.
    """
    if target is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=ANY_NAME)
        _write_text(sys.stdout, columns, ",")
    elif target.suffix.lower() == ".parquet":
        _write_parquet(target, columns)
    else:
        with open(target, "w", newline="", encoding="utf-8", errors=ANY_NAME) as file:
            _write_text(file, columns, "\t" if target.suffix.lower() == ".tsv" else ",")


def _write_text(file: Any, columns: dict[str, Sequence[Any] | np.ndarray], delimiter: str) -> None:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*map(_cells, columns.values()), strict=True))


def _cells(column: Sequence[Any] | np.ndarray) -> Iterable[Any]:
    """Return what is written for a column: floats with four places, nothing for NaN."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return ("" if value != value else f"{value:.4f}" for value in column.tolist())
    return column.tolist() if isinstance(column, np.ndarray) else column


def _write_parquet(target: Path, columns: dict[str, Sequence[Any] | np.ndarray]) -> None:
    import pandas as pd

    def column(values: Sequence[Any] | np.ndarray) -> Any:
        if isinstance(values, np.ndarray):
            return values
        if all(isinstance(value, str) for value in values):
            # Parquet holds UTF-8: bytes of a file name that are none are escaped
            return [text.encode("utf-8", "backslashreplace").decode("utf-8") for text in values]
        return pd.array(values, dtype="Int64")

    frame = pd.DataFrame({name: column(values) for name, values in columns.items()})
    frame.to_parquet(target, engine="pyarrow", index=False)
