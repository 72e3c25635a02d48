"""Clusters against known classes."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._inspection.assignments import from_labels, method_of
from ..metrics import matched_contingency
from ._style import make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERS = 15  # rows or columns; more of them leave no room for numbers in the cells
_MOST_NAMES = 40  # rows or columns; more of them leave no room for their names


class ClusterMatchDisplay:
    """Contingency table of classes and clusters, with matched pairs on the diagonal.

    Colours are shares of the class, numbers are samples.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    table : ndarray of shape (n_classes, n_clusters), int
        Numbers of samples, ordered so that matched pairs are on the diagonal.
    classes : ndarray of shape (n_classes,)
        Names of the rows.
    clusters : ndarray of shape (n_clusters,)
        Names of the columns.

    Attributes
    ----------
    accuracy : float
        Share of the samples on the diagonal, as
        :func:`~deepcluster_sk.metrics.clustering_accuracy_score`.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage

    Examples
    --------
    >>> from deepcluster_sk.display import ClusterMatchDisplay
    >>> display = ClusterMatchDisplay.from_predictions(["cat", "cat", "dog"], [1, 1, 0])
    >>> display.table
    array([[2, 0],
           [0, 1]])
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(self, table: np.ndarray, classes: np.ndarray, clusters: np.ndarray) -> None:
        self.table = table
        self.classes = classes
        self.clusters = clusters
        self.accuracy = float(np.trace(table) / table.sum())

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike, *, ax: "Axes | None" = None
    ) -> Self:
        """Compare what a fitted estimator predicts with known classes.

        Parameters
        ----------
        estimator : object
            A fitted clusterer with ``predict``.
        X : array-like
            What ``estimator.predict`` accepts. Samples with the label -1 are left out.
        y : array-like of shape (n_samples,)
            Classes: integers or strings.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterMatchDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``predict``.
        ValueError
            If it predicts anything but integers, or `y` has another length.
        """
        labels = from_labels(method_of(estimator, "predict")(X)).labels
        check_consistent_length(labels, y)
        known = labels >= 0
        return cls.from_predictions(column_or_1d(y)[known], labels[known], ax=ax)

    @classmethod
    def from_predictions(
        cls, labels_true: ArrayLike, labels_pred: ArrayLike, *, ax: "Axes | None" = None
    ) -> Self:
        """Compare labels with known classes.

        Parameters
        ----------
        labels_true : array-like of shape (n_samples,)
            Classes: integers or strings.
        labels_pred : array-like of shape (n_samples,)
            Clusters.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterMatchDisplay

        Raises
        ------
        ValueError
            If the lengths differ, or the arrays are empty or not one-dimensional.
        """
        return cls(*matched_contingency(labels_true, labels_pred)).plot(ax=ax)

    def plot(self, *, cmap: str = "Blues", ax: "Axes | None" = None) -> Self:
        """Draw the table.

        Parameters
        ----------
        cmap : str, default="Blues"
            Colour map.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : ClusterMatchDisplay
        """
        n_classes, n_clusters = self.table.shape
        figsize = (_inches(n_clusters) + 1.9, _inches(n_classes) + 1.0)
        self.figure_, self.ax_ = make_axes(ax, figsize=figsize)
        shares = self.table / np.maximum(self.table.sum(axis=1, keepdims=True), 1)
        self.image_ = self.ax_.imshow(shares, cmap=cmap, vmin=0, aspect="auto")
        if max(self.table.shape) <= _MOST_NUMBERS:
            for row, column in zip(*np.nonzero(self.table), strict=True):
                color = "white" if shares[row, column] > 0.6 * shares.max() else "black"
                text = f"{self.table[row, column]}"
                self.ax_.text(
                    column, row, text, ha="center", va="center", color=color, size=8, clip_on=True
                )
        size = 8 if max(self.table.shape) <= _MOST_NUMBERS else 6
        if n_clusters <= _MOST_NAMES:
            self.ax_.set_xticks(range(n_clusters), self.clusters, size=size)
        if n_classes <= _MOST_NAMES:
            self.ax_.set_yticks(range(n_classes), self.classes, size=size)
        self.ax_.set_xlabel("cluster")
        self.ax_.set_ylabel("class")
        self.ax_.set_title(f"{self.accuracy:.1%} on the diagonal", size=10)
        self.figure_.colorbar(self.image_, ax=self.ax_, label="share of the class")
        return self


def _inches(n_labels: int) -> float:
    """Length of an axis: roomy cells for a few labels, a notebook's column for many."""
    return min(5.2, max(1.2, 0.46 * n_labels))
