"""Checks that several augmentations make of their parameters."""

from . import _errors as errors


def probability(name: str, value: float) -> float:
    """Return a number in [0, 1]; any other is refused."""
    if not 0 <= value <= 1:
        raise errors.no_probability(name, value)
    return value


def not_negative(name: str, value: float) -> float:
    """Return a number from 0 on; any other is refused, and so is NaN."""
    if not value >= 0:
        raise errors.negative(name, value)
    return value


def positive_range(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return two positive numbers in ascending order; any others are refused."""
    if not 0 < value[0] <= value[1]:
        raise errors.no_positive_range(name, value)
    return value
