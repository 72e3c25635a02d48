"""Tables that are written: CSV, TSV and Parquet, by the suffix, or standard output."""

import codecs
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".csv", ".tsv", ".parquet")
_ANY_NAME = "deepcluster_sk.any_name"  # handler of file names that an encoding lacks


def _any_name(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: bytes of a file name as they were, characters escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(_ANY_NAME, _any_name)


def write_table(target: Path | None, columns: dict[str, Sequence[Any] | np.ndarray]) -> None:
    """Write columns of one length.

    Parameters
    ----------
    target : Path or None
        None stands for standard output, which gets CSV.
    columns : dict of str to sequence
        Texts, integers, or floats, where NaN stands for what is missing.
    """
    if target is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=_ANY_NAME)
        _write_text(sys.stdout, columns, ",")
    elif target.suffix.lower() == ".parquet":
        _write_parquet(target, columns)
    else:
        with open(target, "w", newline="", encoding="utf-8", errors=_ANY_NAME) as file:
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

    # Parquet holds UTF-8: bytes of a file name that are none are escaped
    pd.DataFrame(
        {
            name: column
            if isinstance(column, np.ndarray)
            else [text.encode("utf-8", "backslashreplace").decode("utf-8") for text in column]
            for name, column in columns.items()
        }
    ).to_parquet(target, engine="pyarrow", index=False)
