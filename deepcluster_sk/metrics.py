"""Clustering measures that scikit-learn lacks."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import make_scorer
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils.validation import check_consistent_length, column_or_1d

__all__ = ["clustering_accuracy_score", "clustering_accuracy_scorer"]


def clustering_accuracy_score(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of samples that agree under the best one-to-one matching of clusters to classes.

    The matching is found by the Hungarian algorithm on the full contingency table. With more
    clusters than classes, or fewer, the surplus stays unmatched and its samples count as errors.

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
    check_consistent_length(labels_true, labels_pred)
    true, pred = column_or_1d(labels_true), column_or_1d(labels_pred)
    if len(true) == 0:
        raise ValueError("labels_true and labels_pred are empty; expected at least one sample.")
    table = contingency_matrix(true, pred)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(np.sum(table[rows, columns]) / len(true))


clustering_accuracy_scorer = make_scorer(clustering_accuracy_score)
"""Scorer for ``scoring=`` of cross-validation and grid search; needs ``y``."""
