"""What pictures of a clustering start from: labels, confidences, and the samples to show."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import MetaEstimatorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from . import errors


class Assignments(NamedTuple):
    """Hard labels with their confidence."""

    labels: np.ndarray
    """Shape (n_samples,), int64; -1 for samples that belong to no cluster."""
    confidence: np.ndarray
    """Shape (n_samples,), float64 in [0, 1]: the probability of the sample's own cluster."""
    n_clusters: int

    @property
    def sizes(self) -> np.ndarray:
        """Members per cluster, shape (n_clusters,)."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.n_clusters)

    @property
    def mean_confidence(self) -> np.ndarray:
        """Mean confidence per cluster, shape (n_clusters,); NaN for an empty one."""
        known = self.labels >= 0
        total = np.bincount(
            self.labels[known], weights=self.confidence[known], minlength=self.n_clusters
        )
        confidence = np.full(self.n_clusters, np.nan)
        np.divide(total, self.sizes, out=confidence, where=self.sizes > 0)
        return confidence

    def members(self, cluster: int) -> np.ndarray:
        """Row numbers of a cluster, the most confident first."""
        rows = np.flatnonzero(self.labels == cluster)
        return rows[np.argsort(-self.confidence[rows], kind="stable")]

    def examples(self, cluster: int, n_confident: int, n_uncertain: int) -> tuple[np.ndarray, ...]:
        """Return the most confident members, and of the others the least confident ones first."""
        rows = self.members(cluster)
        rest = rows[n_confident:]
        return rows[:n_confident], rest[len(rest) - min(n_uncertain, len(rest)) :][::-1]


def from_probabilities(probabilities: ArrayLike) -> Assignments:
    """Read soft assignments (n_samples, n_clusters); rows of NaN or zeros have no cluster."""
    table = np.asarray(probabilities, dtype=np.float64)
    assigned = np.isfinite(table).all(axis=1) & (table.sum(axis=1) > 0)
    best = np.where(assigned, np.where(np.isfinite(table), table, 0).argmax(axis=1), -1)
    # what the other clusters have tells apart samples whose own probability rounds to one
    others = np.where(np.arange(table.shape[1]) == best[:, None], 0, table).sum(axis=1)
    return Assignments(best, np.where(assigned, 1 - others, 0.0), table.shape[1])


def from_labels(
    labels: ArrayLike, confidence: ArrayLike | None = None, n_clusters: int | None = None
) -> Assignments:
    """Check labels (and confidences) that a user passes.

    Raises
    ------
    ValueError
        If they are empty, not integers, or of different length.
    """
    clusters = column_or_1d(labels)
    if clusters.dtype.kind not in "iu" or len(clusters) == 0:
        raise errors.bad_labels(clusters)
    check_consistent_length(clusters, confidence)
    trust = np.ones(len(clusters)) if confidence is None else column_or_1d(confidence)
    most = max(int(clusters.max()) + 1, n_clusters or 1)
    return Assignments(clusters.astype(np.int64), trust.astype(np.float64), most)


class Described(NamedTuple):
    """What a fitted estimator says of samples."""

    probabilities: np.ndarray
    """As :func:`soft_assignments` returns them: (n_samples, n_clusters), float."""
    scores: np.ndarray | None
    """How typical the samples are (n_samples,), higher is more; None if the estimator does not
    know."""
    features: np.ndarray | None
    """As :func:`features` returns them: (n_samples, n_features), float32; None if it has none."""
    offset: float | None
    """Samples with a lower score belong to no cluster; None if all samples belong to one."""

    @property
    def found(self) -> Assignments:
        """Labels, as ``predict`` returns them, with their confidence."""
        found = from_probabilities(self.probabilities)
        if self.offset is None or self.scores is None:
            return found
        return found._replace(labels=np.where(self.scores < self.offset, -1, found.labels))


def described(estimator: Any, X: Any, *, need_features: bool = True) -> Described:
    """Ask a fitted estimator for everything at once.

    Estimators of this package encode the samples once. The earlier steps of a pipeline transform
    them once.

    Parameters
    ----------
    estimator, X
        As in :func:`report`; the estimator may also be one of another package.
    need_features : bool, default=True
        Whether to refuse an estimator without features.

    Raises
    ------
    TypeError
        If it has no probabilities, and is no pipeline that has labels; if it has no features but
        needs them; if it is a class.
    NotFittedError
        If it is not fitted.
    """
    final = final_estimator(estimator)
    name = _assigning_method(estimator)
    method = method_of(final, name)
    if need_features and not (_encodes(final) or _is_preceded(estimator)):
        raise errors.missing_features(final)
    values = _before_final(estimator, X)
    offset = getattr(final, "offset_", None)
    if hasattr(final, "_describe"):
        told = final._describe(values)
        return Described(told.assignments, told.scores, told.features, offset)
    outputs = method(values)
    scores = np.asarray(final.score_samples(values)) if hasattr(final, "score_samples") else None
    encoded = None
    if _encodes(final):
        encoded = _checked_features(final.transform(values))
    elif _is_preceded(estimator):
        encoded = _checked_features(values)
    probabilities = outputs if name == "predict_proba" else _one_hot(outputs, final)
    return Described(probabilities, scores, encoded, offset)


def assign(estimator: Any, X: Any) -> Assignments:
    """Ask a fitted estimator for labels, as ``predict`` returns them, with their confidence."""
    if getattr(final_estimator(estimator), "offset_", None) is not None:
        return described(estimator, X, need_features=False).found
    return from_probabilities(soft_assignments(estimator, X))


def soft_assignments(estimator: Any, X: Any) -> np.ndarray:
    """Return what a fitted estimator predicts: (n_samples, n_clusters), float.

    Where the last step of a pipeline has labels alone, such as k-means, each sample belongs to one
    cluster with a probability of one.

    Raises
    ------
    TypeError
        If it has no probabilities, and is no pipeline that has labels.
    """
    name = _assigning_method(estimator)
    outputs: np.ndarray = method_of(estimator, name)(X)
    return outputs if name == "predict_proba" else _one_hot(outputs, final_estimator(estimator))


def _assigning_method(estimator: Any) -> str:
    """Name the method that assigns: in pipelines whose last step has labels alone, ``predict``."""
    best, final = _unwrapped(estimator), final_estimator(estimator)
    if hasattr(final, "predict_proba"):
        return "predict_proba"
    if isinstance(best, Pipeline):
        if not hasattr(final, "predict"):
            raise errors.missing_method(final, "predict")
        return "predict"
    if hasattr(final, "predict"):
        raise errors.labels_alone(final)
    return "predict_proba"


def _one_hot(labels: np.ndarray, final: Any) -> np.ndarray:
    """Return labels as probabilities of zero and one; a row of zeros for a label of -1."""
    found = from_labels(labels)
    n_clusters = getattr(final, "n_clusters", None)
    n_columns = max(found.n_clusters, n_clusters if isinstance(n_clusters, int) else 1)
    one_hot: np.ndarray = (found.labels[:, None] == np.arange(n_columns)).astype(np.float32)
    return one_hot


def features(estimator: Any, X: Any) -> np.ndarray:
    """Return the features that clusters were found in: (n_samples, n_features), float32.

    These are what ``transform`` returns: NaN for image files that were skipped. Where the last step
    of a pipeline clusters and has no encoder, such as k-means, they are what it gets from the steps
    before it.

    Raises
    ------
    TypeError
        If there are no features, or the estimator is a class.
    NotFittedError
        If it is not fitted.
    """
    final = final_estimator(estimator)
    best = _unwrapped(estimator)
    if hasattr(best, "fit"):
        check_is_fitted(best)
    if _encodes(final):
        return _checked_features(method_of(best, "transform")(X))
    if not _is_preceded(best):
        raise errors.missing_features(final)
    return _checked_features(_before_final(best, X))


def _checked_features(values: Any) -> np.ndarray:
    checked: np.ndarray = check_array(values, dtype=np.float32, ensure_all_finite="allow-nan")
    return checked


def _before_final(estimator: Any, X: Any) -> Any:
    """Return what the earlier steps of a pipeline make of X for the last one."""
    best = _unwrapped(estimator)
    if not isinstance(best, Pipeline):
        return X
    check_is_fitted(best)
    return _before_final(best[-1], best[:-1].transform(X) if len(best) > 1 else X)


def _is_preceded(estimator: Any) -> bool:
    """Tell pipelines with earlier steps from everything else."""
    best = _unwrapped(estimator)
    return isinstance(best, Pipeline) and (len(best) > 1 or _is_preceded(best[-1]))


def _encodes(final: Any) -> bool:
    """Tell encoders from estimators whose ``transform`` measures distances to clusters."""
    clusters = hasattr(final, "predict")
    return hasattr(final, "transform") and (not clusters or hasattr(final, "predict_proba"))


def method_of(estimator: Any, name: str) -> Callable[..., Any]:
    """Return a method of an estimator.

    Raises
    ------
    TypeError
        If it has no such method, or is a class.
    """
    if isinstance(estimator, type):
        raise errors.class_in_place_of_instance(estimator)
    method: Callable[..., Any] | None = getattr(estimator, name, None)
    if method is None:
        raise errors.missing_method(estimator, name)
    return method


def final_estimator(estimator: Any) -> Any:
    """Return the one that clusters: itself, the last step of a pipeline, the best of a search.

    Raises
    ------
    TypeError
        If it is a class.
    NotFittedError
        If a search has no best estimator.
    """
    estimator = _unwrapped(estimator)
    return final_estimator(estimator[-1]) if isinstance(estimator, Pipeline) else estimator


def _unwrapped(estimator: Any) -> Any:
    """Return the best estimator of a search, or a frozen one; anything else as it is."""
    if isinstance(estimator, type):
        raise errors.class_in_place_of_instance(estimator)
    if isinstance(estimator, FrozenEstimator):
        return _unwrapped(estimator.estimator)
    if isinstance(estimator, MetaEstimatorMixin) and not isinstance(estimator, Pipeline):
        if hasattr(estimator, "best_estimator_"):
            return _unwrapped(estimator.best_estimator_)
        if hasattr(estimator, "refit"):
            raise errors.search_without_best(estimator)
    return estimator


def trained_estimator(estimator: Any) -> Any:
    """Return the one that clusters, which has kept the losses of its training.

    Raises
    ------
    TypeError
        If it is a class, or an estimator of another package.
    NotFittedError
        If it is not fitted.
    """
    final = final_estimator(estimator)
    if hasattr(final, "fit"):
        check_is_fitted(final)
    if not (hasattr(final, "loss_curve_") and hasattr(final, "history_")):
        raise errors.missing_training(final)
    return final


def is_calibrated(estimator: Any) -> bool:
    """Tell whether confidences estimate how far samples belong to their clusters."""
    objective = getattr(final_estimator(estimator), "_objective", None)
    return bool(getattr(getattr(objective, "calibration", None), "changes", False))


def input_shape(estimator: Any) -> tuple[int, ...] | None:
    """Return the shape of a sample, which estimators of other packages have not kept."""
    shape: tuple[int, ...] | None = getattr(final_estimator(estimator), "input_shape_", None)
    return shape


def check_clusters(clusters: Sequence[int] | None, n_clusters: int) -> np.ndarray:
    """Return the numbers of the clusters to show; None stands for all.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    chosen = np.arange(n_clusters) if clusters is None else np.asarray(clusters, dtype=np.intp)
    if chosen.ndim != 1 or not ((chosen >= 0) & (chosen < n_clusters)).all():
        raise errors.bad_clusters(clusters, n_clusters)
    return chosen
