"""Clustering measures that scikit-learn lacks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import make_scorer, silhouette_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils.validation import check_consistent_length, column_or_1d

__all__ = [
    "MatchedContingency",
    "clustering_accuracy_score",
    "clustering_accuracy_scorer",
    "embedding_silhouette_score",
    "matched_contingency",
]


class MatchedContingency(NamedTuple):
    """Samples per class and cluster, ordered so that matched pairs are on the diagonal.

    Parameters
    ----------
    table : ndarray of shape (n_classes, n_clusters), int
        Numbers of samples.
    classes : ndarray of shape (n_classes,)
        The label of each row.
    clusters : ndarray of shape (n_clusters,)
        The label of each column.
    """

    table: np.ndarray
    classes: np.ndarray
    clusters: np.ndarray


def matched_contingency(labels_true: ArrayLike, labels_pred: ArrayLike) -> MatchedContingency:
    """Count samples per class and cluster under the best one-to-one matching of both.

    The matching is found by the Hungarian algorithm on the full contingency table. Classes keep
    their order; classes and clusters without a partner come last.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Class labels: integers or strings, in any range.
    labels_pred : array-like of shape (n_samples,)
        Cluster labels, in any range; a label of -1 (noise) is a cluster like any other.

    Returns
    -------
    contingency : MatchedContingency
        A named tuple of `table`, `classes` and `clusters`.

    Raises
    ------
    ValueError
        If the lengths differ, or the arrays are empty or not one-dimensional.

    Examples
    --------
    >>> from deepcluster_sk.metrics import matched_contingency
    >>> matched_contingency(["cat", "cat", "dog", "dog"], [7, 7, 3, 7]).clusters
    array([7, 3])
    """
    check_consistent_length(labels_true, labels_pred)
    true, pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    if len(true) == 0:
        raise ValueError("labels_true and labels_pred are empty; expected at least one sample.")
    table = contingency_matrix(true, pred)
    rows, columns = linear_sum_assignment(table, maximize=True)
    rows = np.append(rows, np.setdiff1d(np.arange(table.shape[0]), rows))
    columns = np.append(columns, np.setdiff1d(np.arange(table.shape[1]), columns))
    return MatchedContingency(
        table[np.ix_(rows, columns)], np.unique(true)[rows], np.unique(pred)[columns]
    )


def clustering_accuracy_score(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Compute the share of samples that agree under the best matching of clusters to classes.

    The one-to-one matching is found by the Hungarian algorithm on the full contingency table. With
    more clusters than classes, or fewer, the surplus stays unmatched and its samples count as
    errors.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Class labels: integers or strings, in any range.
    labels_pred : array-like of shape (n_samples,)
        Cluster labels, in any range; a label of -1 (noise) is a cluster like any other.

    Returns
    -------
    accuracy : float
        In ``(0, 1]``; 1 for a perfect match up to the names of the clusters.

    Raises
    ------
    ValueError
        If the lengths differ, or the arrays are empty or not one-dimensional.

    References
    ----------
    Yang et al., "Image clustering using local discriminant models and global integration", IEEE
    Transactions on Image Processing 19(10), 2010.

    Examples
    --------
    >>> from deepcluster_sk.metrics import clustering_accuracy_score
    >>> clustering_accuracy_score(["cat", "cat", "dog", "dog"], [7, 7, 3, 7])
    0.75
    """
    table = matched_contingency(labels_true, labels_pred).table
    return float(np.trace(table) / table.sum())


def embedding_silhouette_score(
    features: ArrayLike, labels: ArrayLike, *, max_samples: int = 10_000
) -> float:
    """Compute the mean silhouette coefficient by the cosine distance, also for many samples.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features), float
        Such as ``transform`` returns.
    labels : array-like of shape (n_samples,), int
        Clusters; samples with -1 are left out.
    max_samples : int, default=10_000
        Of more samples, a fixed random subset of this size is scored: time and memory grow with
        its square.

    Returns
    -------
    score : float
        In [-1, 1], higher is better; -1 if there are fewer than two clusters, or as many as
        samples.

    Examples
    --------
    >>> from deepcluster_sk.metrics import embedding_silhouette_score
    >>> embedding_silhouette_score([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 1, 1])
    1.0
    >>> embedding_silhouette_score([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 0, 0])
    -1.0
    """
    values, clusters = np.asarray(features), column_or_1d(labels)
    check_consistent_length(values, clusters)
    rows = np.flatnonzero(clusters != -1)
    if len(rows) > max_samples:
        rows = np.random.default_rng(0).choice(rows, max_samples, replace=False)
    if not 2 <= len(np.unique(clusters[rows])) < len(rows):
        return -1.0
    # one piece, whatever joblib is set to: pieces would round differently
    score = silhouette_score(values[rows], clusters[rows], metric="cosine", n_jobs=1)
    return float(score)


clustering_accuracy_scorer = make_scorer(clustering_accuracy_score)
"""Scorer for ``scoring=`` of cross-validation and grid search; needs ``y``."""
