"""Callbacks that watch a fit, for the ``set_callbacks`` method of the estimators.

Any callback of scikit-learn fits there, shipped with it or written after its protocol. This module
adds what needs no labels.
"""

from typing import Any, Literal, get_args

import numpy as np
from scipy.special import entr

from ._estimator.sklearn_callbacks import check_support, log_record, run_logs
from ._inspection.assignments import soft_assignments
from ._runtime.shared_log import SharedLog

__all__ = ["ClusterMonitor"]

_Select = Literal["most_recent", "all"]


class ClusterMonitor:
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

    One monitor may watch several fits, also those of other processes of this machine. Estimators
    are cloned with their monitors, so that clones log to the same one.

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
        check_support(type(self).__name__)
        self._log = SharedLog()

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing at the beginning of a fit.

        Parameters
        ----------
        estimator : object
            The estimator whose fit is watched.
        context : CallbackContext
            The fit.
        """

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing after a fit.

        Parameters
        ----------
        estimator : object
            The estimator whose fit is watched.
        context : CallbackContext
            The fit.
        """

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing at the beginning of an epoch.

        Parameters
        ----------
        estimator : object
            The estimator whose fit is watched.
        context : CallbackContext
            The epoch, or the fit.
        """

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
        if fitted_estimator is not None:
            self._log.append(log_record(context, _summary(fitted_estimator, X)))

    def get_logs(self, select: _Select = "most_recent") -> Any:
        """Return what was logged.

        Parameters
        ----------
        select : {"most_recent", "all"}, default="most_recent"
            Whether to return the log of the last run, or a list of the logs of all. A run is one
            fit of the outermost estimator, such as a search.

        Returns
        -------
        logs : ScoringMonitorLog or list of ScoringMonitorLog
            As of :class:`sklearn.callback.ScoringMonitor`: ``data`` is a list of dictionaries,
            ``data_as_pandas`` a frame.

        Raises
        ------
        ValueError
            If nothing was logged, or `select` is not as documented.
        """
        if select not in get_args(_Select):
            raise ValueError(f"select={select!r}, expected one of {get_args(_Select)}.")
        logs = run_logs(self._log.records())
        if not logs:
            raise ValueError(
                "Nothing was logged yet. Pass the monitor to set_callbacks of an estimator, and "
                "call fit."
            )
        return logs if select == "all" else logs[-1]


def _summary(estimator: Any, X: Any) -> dict[str, Any]:
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
