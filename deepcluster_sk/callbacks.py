"""Callbacks that watch a fit, for the ``set_callbacks`` method of the estimators.

Any callback of scikit-learn fits there, shipped with it or written after its protocol. This module
adds what needs no labels.
"""

from typing import Any

import numpy as np
from scipy.special import entr

from ._estimator.sklearn_callbacks import ScoringMonitor
from ._inspection.assignments import soft_assignments

__all__ = ["ClusterMonitor"]


class ClusterMonitor(ScoringMonitor):
    """Follow the clusters during a fit, without labels.

    After each epoch, the training samples are assigned as if the training ended there. A row is
    logged for each epoch, and one for the whole fit, with

    - ``"confidence"``: mean over the samples of the largest assignment, in [1 / n_clusters, 1];
    - ``"assignment_entropy"``: mean over the samples of the entropy of the assignments, in nats, in
      [0, log n_clusters]; 0 if every sample belongs to one cluster alone;
    - ``"n_empty"``: number of clusters that no sample is assigned to;
    - ``"cluster_sizes"``: list of the samples per cluster, decreasing.

    An epoch costs about two passes over the data more, and with several heads a search of
    neighbours where the training has none.

    Methods ``get_logs`` and those of the protocol are those of
    :class:`sklearn.callback.ScoringMonitor`: ``get_logs().data`` is a list of dictionaries,
    ``get_logs().data_as_pandas`` a frame. Fits in other processes are logged as well.

    Raises
    ------
    ImportError
        Under scikit-learn < 1.9, which has no callbacks.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.callbacks import ClusterMonitor
    >>> monitor = ClusterMonitor()
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).set_callbacks(monitor)
    >>> model = model.fit(load_digits().images)
    >>> [row["task_name"] for row in monitor.get_logs().data]
    ['fit', 'epoch', 'epoch']
    >>> sum(monitor.get_logs().data[0]["cluster_sizes"])
    1797
    """

    def __init__(self) -> None:
        super().__init__(scoring=_summary)

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, fitted_estimator: Any = None
    ) -> None:
        """Log a row, for an epoch and for the whole fit.

        Parameters
        ----------
        estimator : object
            The estimator whose fit is watched.
        context : CallbackContext
            The epoch, or the fit.
        X : array-like
            The training samples.
        fitted_estimator : object
            The estimator as if the training ended here.
        """
        no_labels = ()  # the parent class logs nothing for None
        super().on_fit_task_end(
            estimator, context, X=X, y=no_labels, fitted_estimator=fitted_estimator
        )


def _summary(estimator: Any, X: Any, y: Any) -> dict[str, Any]:
    """Describe the clusters of samples."""
    assignments = soft_assignments(estimator, X)
    assignments = assignments[~np.isnan(assignments[:, 0])]  # image files that were skipped
    sizes = np.bincount(assignments.argmax(axis=1), minlength=assignments.shape[1])
    return {
        "confidence": float(assignments.max(axis=1).mean()),
        "assignment_entropy": float(entr(assignments).sum(axis=1).mean()),
        "n_empty": int((sizes == 0).sum()),
        "cluster_sizes": sizes.tolist(),
    }
