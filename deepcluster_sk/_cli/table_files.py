"""Tables of numbers in text."""

import csv
import re
from collections.abc import Sequence

import numpy as np

from . import errors


def read_csv(path: str) -> np.ndarray:
    """Read rows of numbers, with a line of names above them or without one."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise errors.no_text(path, error) from error
    # numpy skips empty lines; comments are emptied here, or it would cut off the end of 1.5#2, too
    lines = ["" if re.match(r"\s*(#|$)", line) else line for line in text.split("\n")]
    first = next((i for i, line in enumerate(lines) if line), None)
    if first is not None and _are_names(_cells(lines[first])):
        lines[first] = ""
    if not any(lines):
        raise errors.empty_table(path)
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        raise errors.no_numbers(path, _first_fault(lines) or str(error)) from error


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # an endless quotation
        return [line]


def _are_names(cells: Sequence[str]) -> bool:
    """Tell a line of names from one of numbers, also where one of these is badly written.

    Some names are numbers, such as years, and the first one is empty where pandas wrote an index.
    """
    numbers = [cell for cell in cells if _is_number(cell)]
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


def _first_fault(lines: Sequence[str]) -> str | None:
    """Say where a table has something else than a number, or a row of another length."""
    n_columns = None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        cells = _cells(line)
        for column, cell in enumerate(cells, start=1):
            if not _is_number(cell):
                return f"{cell[:100]!r} in line {number}, column {column}"
        n_columns = n_columns or len(cells)
        if len(cells) != n_columns:
            return f"line {number} has {len(cells)} columns, those above have {n_columns}"
    return None
