"""Tables of numbers in text, with commas or tabs between them."""

import csv
import re
from collections.abc import Sequence

import numpy as np

from . import errors
from .columns import Columns, Table, Wanted, find_columns, is_missing, warn_of_counting

_NOTHING = Wanted()


def read_csv(path: str, wanted: Wanted = _NOTHING) -> Table:
    """Read rows of numbers, with a line of names above them or without one.

    Raises
    ------
    ValueError
        If there are no rows, a feature is no number, or rows differ in length.
    """
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    lines = _lines(path, delimiter)
    first = next((i for i, line in enumerate(lines) if line), None)
    names = None
    if first is not None and _are_names(cells := _cells(lines[first], delimiter)):
        names = [cell.strip() for cell in cells]
        lines[first] = ""
    row = next(filter(None, lines), None)
    if row is None:
        raise errors.empty_table(path, "tab" if delimiter == "\t" else "comma")
    n_columns = len(_cells(row, delimiter))
    if names is not None and len(names) != n_columns:
        if wanted.any:
            raise errors.other_number_of_names(path, len(names), n_columns)
        names = None  # they only help to name columns
    columns = find_columns(path, wanted, names, n_columns)
    # loadtxt would take longer rows, too, where it reads only some of the columns
    ids, labels = _texts(path, lines, delimiter, columns) if wanted.any else (None, None)
    used = columns.features if wanted.any else None
    try:
        X = np.loadtxt(
            lines, delimiter=delimiter, ndmin=2, comments=None, quotechar='"', usecols=used
        )
    except ValueError as error:
        raise _fault(path, lines, delimiter, columns, str(error)) from error
    if np.isnan(X).any():
        raise _fault(path, lines, delimiter, columns, "NaN")
    warn_of_counting(path, X, columns)
    return Table(X, ids, labels)


def _lines(path: str, delimiter: str) -> list[str]:
    """Read the lines of a file; those that are empty or comments become empty texts."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise errors.no_text(path, error) from error
    # numpy skips empty lines; comments are emptied here, or it would cut off the end of 1.5#2, too
    nothing = re.compile(r"[^\S\t]*(#|$)" if delimiter == "\t" else r"\s*(#|$)")
    return ["" if nothing.match(line) else line for line in text.split("\n")]


def _texts(
    path: str, lines: Sequence[str], delimiter: str, columns: Columns
) -> tuple[list[str] | None, list[str] | None]:
    """Return the names and the classes of the rows, or None for what no option names."""
    n_columns, ids, labels = None, [], []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        cells = _cells(line, delimiter)
        n_columns = n_columns or len(cells)
        if len(cells) != n_columns:
            raise _fault(path, lines, delimiter, columns, "")
        if columns.id is not None:
            ids.append(cells[columns.id].strip())
        if columns.label is not None:
            labels.append(cells[columns.label].strip())
            if is_missing(labels[-1]):
                raise errors.missing_class(path, f"line {number}", columns.name(columns.label))
    return ids if columns.id is not None else None, labels if columns.label is not None else None


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # an endless quotation
        return [line]


def _are_names(cells: Sequence[str]) -> bool:
    """Tell a line of names from one of numbers, also where one of these is badly written.

    Some names are numbers, such as years, and the first one is empty where pandas wrote an index.
    """
    numbers = [cell for cell in cells if _is_number(cell)]
    if numbers and any(cell and is_missing(cell) for cell in cells):
        return False
    return (
        len(numbers) < len(cells)
        and all(cell.strip().isdecimal() for cell in numbers)
        and all(cell.strip() for cell in cells[1:])
        and not any(map(_is_other_number, cells))
    )


def _is_number(cell: str) -> bool:
    """Whether numpy reads a cell; Python takes 1_000 and digits of other scripts as well."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _is_other_number(cell: str) -> bool:
    """Whether a cell is a complex or hexadecimal number, or has separators of thousands."""
    if re.fullmatch(r"\s*[+-]?0[xX][0-9a-fA-F]+\s*", cell):
        return True
    try:
        complex(cell.replace(",", ""))
    except ValueError:
        return False
    return any(map(str.isdecimal, cell)) and not _is_number(cell)  # j alone is a name


def _fault(
    path: str, lines: Sequence[str], delimiter: str, columns: Columns, otherwise: str
) -> ValueError:
    """Say where a table has something else than a number, or a row of another length."""
    n_columns = None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        cells = _cells(line, delimiter)
        n_columns = n_columns or len(cells)
        for column in columns.features:
            if column >= len(cells):
                break
            if is_missing(cells[column]):
                return errors.missing_value(
                    path, f"line {number}", columns.name(column), cells[column].strip()
                )
            if not _is_number(cells[column]):
                fault = f"{cells[column][:100]!r} in line {number}, column {columns.name(column)}"
                return errors.no_numbers(path, fault)
        if len(cells) != n_columns:
            return errors.no_numbers(
                path, f"line {number} has {len(cells)} columns, those above have {n_columns}"
            )
    return errors.no_numbers(path, otherwise)
