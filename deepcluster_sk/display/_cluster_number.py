"""Scores over the number of clusters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.random import RandomState

from ..model_selection import Scorer, n_clusters_curve
from ._style import COLORS, MARKERS, make_axes, only_left_and_bottom

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ClusterNumberDisplay:
    """Curves of scores over the number of clusters: the mean of the fits, and each fit.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    n_clusters : sequence of int
        The cluster numbers.
    scores : mapping of str to array-like of shape (len(n_clusters), n_fits), float
        As :func:`~deepcluster_sk.model_selection.n_clusters_curve` returns them.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    See Also
    --------
    deepcluster_sk.model_selection.n_clusters_curve : Computes the scores.

    Examples
    --------
    >>> from deepcluster_sk.display import ClusterNumberDisplay
    >>> scores = {"silhouette": [[0.2, 0.3], [0.5, 0.6], [0.3, 0.3]]}
    >>> ClusterNumberDisplay([2, 3, 4], scores).plot().ax_.get_xlabel()
    'number of clusters'
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(self, n_clusters: Sequence[int], scores: Mapping[str, np.ndarray]) -> None:
        self.n_clusters = n_clusters
        self.scores = scores

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_clusters: Sequence[int],
        scoring: Mapping[str, Scorer] | None = None,
        n_fits: int = 2,
        random_state: int | RandomState | None = 0,
        ax: "Axes | None" = None,
    ) -> Self:
        """Fit clones with each number of clusters, and draw their scores.

        Parameters
        ----------
        estimator : object
            An estimator of this package, or a pipeline that ends in one; fitted or not.
        X : array-like
            What ``estimator.fit`` accepts.
        n_clusters : sequence of int
            The cluster numbers to try.
        scoring : mapping of str to callable or None, default=None
            Scorers by name; see :func:`~deepcluster_sk.model_selection.n_clusters_curve`.
        n_fits : int, default=2
            Fits of each cluster number, which differ in their random state.
        random_state : int, RandomState or None, default=0
            Where the random states of the fits are drawn from.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterNumberDisplay
        """
        scores = n_clusters_curve(
            estimator,
            X,
            n_clusters=n_clusters,
            scoring=scoring,
            n_fits=n_fits,
            random_state=random_state,
        )
        return cls(n_clusters, scores).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : ClusterNumberDisplay
        """
        self.figure_, self.ax_ = make_axes(ax, figsize=(6.4, 3.6))
        self.lines_ = []
        for number, (name, values) in enumerate(self.scores.items()):
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            fits = np.asarray(values, dtype=np.float64)
            self.ax_.plot(self.n_clusters, fits, marker, color=color, alpha=0.35, ms=4)
            self.lines_ += self.ax_.plot(
                self.n_clusters, fits.mean(axis=1), color=color, marker=marker, label=name
            )
        self.ax_.set(xlabel="number of clusters", ylabel="score, higher is better")
        self.ax_.locator_params(axis="x", integer=True)
        self.ax_.grid(color="0.92")
        self.ax_.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        only_left_and_bottom(self.ax_)
        return self
