"""What the values of options are read as."""

import ast
from typing import Any

from . import errors


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise errors.not_positive(text)
    return int(text)


def size(text: str) -> int | tuple[int, int]:
    """Read ``64`` or ``48x64``."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise errors.no_size(text)
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def assignment(text: str) -> tuple[str, Any]:
    """Read ``name=value``, the value as Python would, or else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise errors.no_assignment(text)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def n_clusters(text: str) -> int | str:
    """Read an integer of at least 1, or ``auto``."""
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise errors.no_number_of_clusters(text)
    return text if text == "auto" else int(text)


def distance(text: str) -> float | str:
    """Read a number in [0, 2], or ``auto``."""
    try:
        value = text if text == "auto" else float(text)
    except ValueError:
        raise errors.no_distance(text) from None
    if isinstance(value, float) and not 0 <= value <= 2:
        raise errors.no_distance(text)
    return value
