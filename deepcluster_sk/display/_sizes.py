"""Sizes of the clusters, and how sure the estimator is of their members."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .._inspection.assignments import Assignments, assign, from_labels
from .._inspection.summaries import CERTAIN
from ._style import COLORS, make_axes, only_left_and_bottom

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ClusterSizeDisplay:
    """One bar per cluster: its members, parted into certain and uncertain ones.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    sizes : ndarray of shape (n_clusters,), int
        Number of members.
    n_certain : ndarray of shape (n_clusters,), int or None, default=None
        Number of members with a confidence of at least 0.9; None if it is not known.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : list of matplotlib BarContainer

    Examples
    --------
    >>> from deepcluster_sk.display import ClusterSizeDisplay
    >>> ClusterSizeDisplay.from_predictions([0, 0, 1, -1]).sizes
    array([2, 1])
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(self, sizes: np.ndarray, n_certain: np.ndarray | None = None) -> None:
        self.sizes = sizes
        self.n_certain = n_certain

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, *, ax: "Axes | None" = None) -> Self:
        """Draw the sizes of the clusters that a fitted estimator predicts.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or a pipeline or search that ends in one.
        X : array-like
            What ``estimator.predict_proba`` accepts.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterSizeDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``predict_proba``.
        """
        assignments = assign(estimator, X)
        return cls(assignments.sizes, _n_certain(assignments)).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        n_clusters: int | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the sizes of the clusters of any labels.

        Parameters
        ----------
        labels : array-like of shape (n_samples,), int
            Cluster of each sample; -1 is not counted.
        confidence : array-like of shape (n_samples,), float or None, default=None
            In [0, 1].
        n_clusters : int or None, default=None
            Number of clusters where the last ones may be empty; None takes the largest label.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterSizeDisplay

        Raises
        ------
        ValueError
            If `labels` are not integers, or the lengths differ.
        """
        assignments = from_labels(labels, confidence, n_clusters)
        n_certain = None if confidence is None else _n_certain(assignments)
        return cls(assignments.sizes, n_certain).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : ClusterSizeDisplay
        """
        self.figure_, self.ax_ = make_axes(ax, figsize=(6.4, 3.2))
        clusters = np.arange(len(self.sizes))
        certain = self.sizes if self.n_certain is None else self.n_certain
        self.bars_ = [self.ax_.bar(clusters, certain, color=COLORS[0])]
        if self.n_certain is not None:
            rest = self.sizes - certain
            self.bars_ += [
                self.ax_.bar(clusters, rest, bottom=certain, color=COLORS[1], hatch="////", lw=0)
            ]
            share = certain.sum() / max(self.sizes.sum(), 1)
            self.ax_.legend(
                self.bars_,
                [f"confidence ≥ {CERTAIN:.0%} ({share:.0%} of all)", "less"],
                frameon=False,
                fontsize=8,
                ncols=2,
                loc="lower right",
                bbox_to_anchor=(1, 1),
                borderaxespad=0.1,
            )
        # bars without height would take away the margin above the others
        self.ax_.set_ylim(0, 1.1 * max(self.sizes.max(), 1))
        if len(self.sizes) <= 20:
            labels = [f"{size:,}" for size in self.sizes]
            self.ax_.bar_label(self.bars_[-1], labels, size=8, padding=2)
            self.ax_.set_xticks(clusters)
        self.ax_.set(xlabel="cluster", ylabel="members", xlim=(-0.7, len(self.sizes) - 0.3))
        self.ax_.tick_params(labelsize=8)
        only_left_and_bottom(self.ax_)
        return self


def _n_certain(assignments: Assignments) -> np.ndarray:
    """Count the certain members of each cluster."""
    certain = (assignments.labels >= 0) & (assignments.confidence >= CERTAIN)
    return np.bincount(assignments.labels[certain], minlength=assignments.n_clusters)
