"""Which clusters are close to each other: their tree."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.cluster.hierarchy import dendrogram
from sklearn.utils.validation import check_is_fitted

from .._inspection.assignments import final_estimator
from . import _errors as errors
from ._style import COLORS, make_axes, only_left_and_bottom

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 0.28  # inches of a cluster


class ClusterTreeDisplay:
    """The tree of the clusters, with the first ones to be joined farthest on the right.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    linkage : ndarray of shape (n_clusters - 1, 4), float
        The tree in SciPy's format.
    names : sequence of str
        Of the clusters, of length n_clusters.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    leaves_ : list of int
        The clusters from the bottom to the top.

    See Also
    --------
    scipy.cluster.hierarchy.dendrogram : What draws the tree.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.display import ClusterTreeDisplay
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(load_digits().images)
    >>> ClusterTreeDisplay.from_estimator(model).linkage.shape
    (9, 4)
    """

    ax_: "Axes"
    figure_: "Figure"
    leaves_: list[int]

    def __init__(self, linkage: np.ndarray, names: Sequence[str]) -> None:
        self.linkage = linkage
        self.names = names

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, names: Sequence[str] | None = None, ax: "Axes | None" = None
    ) -> Self:
        """Draw the tree of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or a pipeline or search that ends in one.
        names : sequence of str or None, default=None
            Of the clusters. None takes their numbers, with the members in brackets.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterTreeDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no tree of clusters.
        ValueError
            If there are fewer than two clusters, or not as many names as clusters.
        """
        final = final_estimator(estimator)
        if hasattr(final, "fit"):
            check_is_fitted(final)
        linkage = getattr(final, "linkage_", None)
        if linkage is None:
            raise errors.no_tree(final)
        sizes = final.cluster_sizes_
        if len(sizes) < 2:
            raise errors.single_cluster()
        if names is None:
            names = [f"{cluster} ({size:,})" for cluster, size in enumerate(sizes)]
        elif len(names) != len(sizes):
            raise errors.other_number_of_names(len(names), len(sizes))
        return cls(linkage, names).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the tree.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : ClusterTreeDisplay
        """
        height = max(2.0, 0.8 + _HEIGHT * len(self.names))
        self.figure_, self.ax_ = make_axes(ax, figsize=(6.4, height))
        drawn = dendrogram(
            self.linkage,
            orientation="left",
            labels=list(self.names),
            ax=self.ax_,
            link_color_func=lambda _: COLORS[0],
            leaf_font_size=8,
        )
        self.leaves_ = drawn["leaves"]
        self.ax_.set_xlabel("mutual information of neighbours lost by joining, in nats")
        self.ax_.tick_params(labelsize=8)
        only_left_and_bottom(self.ax_)
        self.ax_.spines["left"].set_visible(False)
        return self
