"""Numbers that displays and the report show in the same way."""

from collections.abc import Sequence

import numpy as np

CERTAIN = 0.9  # confidence from which on a member counts as certain
_WEAK = 0.5  # mean confidence of clusters that may mean nothing


def agreement_in_words(mean_confidence: float, *, images: bool) -> str:
    """Say what the mean confidence of a clustering means, and what to try if it is low."""
    said = f"expected agreement {mean_confidence:.0%}"
    if mean_confidence >= _WEAK:
        return said
    remedy = "a pretrained encoder" if images else "another scale of the columns"
    return f"{said}: the clusters may mean little. Try {remedy}, or another number of clusters."


def standardized(values: np.ndarray) -> np.ndarray:
    """Return rows of features as standard deviations from the mean of their column."""
    deviation = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1))


def without_start(values: Sequence[float]) -> np.ndarray:
    """Return the values of a term with NaN in place of zeros before its start."""
    curve = np.array(values, dtype=np.float64)
    curve[np.cumsum(curve != 0) == 0] = np.nan
    return curve
