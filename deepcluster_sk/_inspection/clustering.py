"""What pages show of a clustering: labels, features, names, pictures, places on the map."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .assignments import (
    Assignments,
    features,
    final_estimator,
    from_probabilities,
    input_shape,
    soft_assignments,
)
from .names import sample_names
from .pictures import as_samples, is_image
from .report_data import Listed, listed_rows, second_choice, shortened
from .sprites import Sprites, chosen_rows, sprites


class Clustering(NamedTuple):
    """A fitted estimator, samples, and what it says of them."""

    estimator: Any
    input_shape: tuple[int, ...] | None
    """Of one sample; None if the estimator does not tell."""
    samples: Any
    found: Assignments
    probabilities: np.ndarray
    features: np.ndarray | None
    classes: np.ndarray | None
    names: list[str]

    @property
    def image(self) -> bool:
        """Tell whether the samples can be shown as pictures."""
        return is_image(self.samples, self.input_shape)


def clustering(
    estimator: Any,
    X: Any,
    y: ArrayLike | None,
    names: Sequence[str] | None,
    *,
    placed: bool = False,
) -> Clustering:
    """Ask a fitted estimator about samples, and check what comes with them.

    Parameters
    ----------
    estimator, X, y, names
        As in :func:`report`.
    placed : bool, default=False
        Whether to refuse an estimator without features, which has no map.
    """
    probabilities = soft_assignments(estimator, X)
    samples = as_samples(X)
    check_consistent_length(probabilities, samples, y, names)
    return Clustering(
        estimator,
        input_shape(estimator),
        samples,
        _with_outliers(from_probabilities(probabilities), estimator, X),
        probabilities,
        features(estimator, X) if placed or hasattr(estimator, "transform") else None,
        None if y is None else column_or_1d(y).astype(str),
        [shortened(str(n)) for n in (sample_names(samples) if names is None else names)],
    )


def _with_outliers(found: Assignments, estimator: Any, X: Any) -> Assignments:
    """Take samples out of their clusters that the estimator counts as outliers."""
    if getattr(final_estimator(estimator), "outlier_fraction", None) is None:
        return found
    return found._replace(labels=np.where(estimator.predict(X) < 0, -1, found.labels))


def pictures_of(known: Clustering, wanted: list[np.ndarray], most: int, most_bytes: int) -> Sprites:
    """Render pictures of the wanted samples and of others, or none for rows of features."""
    if not known.image:
        return Sprites("", {})
    readable = np.isfinite(known.probabilities).all(axis=1)
    rows = chosen_rows(wanted, known.found, readable, most)
    return sprites(
        known.samples, rows, known.found, input_shape=known.input_shape, most_bytes=most_bytes
    )


def listed_samples(
    known: Clustering, wanted: list[np.ndarray], positions: np.ndarray | None
) -> Listed:
    """Return the samples that a page lists, among them those wanted, with their places."""
    return Listed(
        rows=listed_rows(known.found, np.unique(np.concatenate([[], *wanted]).astype(np.intp))),
        found=known.found,
        names=known.names,
        classes=known.classes,
        second=second_choice(known.probabilities, known.found),
        positions=positions,
    )
