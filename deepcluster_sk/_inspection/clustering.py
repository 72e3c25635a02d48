"""What pages show of a clustering: labels, features, names, pictures, places on the map."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .assignments import Assignments, Described, described, input_shape
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
    scores: np.ndarray | None
    """How typical the samples are, higher is more; None if the estimator does not tell."""
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
    """Ask a fitted estimator about samples once, and check what comes with them.

    Parameters
    ----------
    estimator, X, y, names
        As in :func:`report`.
    placed : bool, default=False
        Whether to refuse an estimator without features, which has no map.
    """
    return clustering_of(estimator, described(estimator, X, need_features=placed), X, y, names)


def clustering_of(
    estimator: Any,
    known: Described,
    X: Any,
    y: ArrayLike | None,
    names: Sequence[str] | None,
) -> Clustering:
    """Put together what the estimator has said of samples, and check what comes with them."""
    samples = as_samples(X)
    check_consistent_length(known.probabilities, samples, y, names)
    return Clustering(
        estimator,
        input_shape(estimator),
        samples,
        known.found,
        known.probabilities,
        known.features,
        known.scores,
        None if y is None else column_or_1d(y).astype(str),
        [shortened(str(n)) for n in (sample_names(samples) if names is None else names)],
    )


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
