"""A map of the samples to move around in, for notebooks."""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._inspection.clustering import clustering
from .._inspection.map_page import map_page


def cluster_map(
    estimator: Any,
    X: Any,
    *,
    y: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    height: int = 760,
) -> "ClusterMap":
    """Show the samples on a map to move around in: the map of the report, in a notebook.

    Samples with similar features are near each other. The mouse over a sample shows its name,
    cluster, confidence and, for up to 1,000 samples, its picture. Samples can be selected by a
    click or by a lasso. *Copy row numbers* puts their row numbers in X into the clipboard as a
    list, to paste into the next cell; files of them can be downloaded, and clusters can be named.
    Nothing is loaded, and neither matplotlib nor ipywidgets is needed. In a saved notebook the map
    works as well, if the notebook is trusted.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. Of a pipeline
        that ends in another one, such as k-means, the features before the last step are shown.
    X : array-like
        What ``estimator.predict`` accepts.
    y : array-like of shape (n_samples,) or None, default=None
        Classes, if they are known: the map shows them, and can be coloured by them.
    names : sequence of str or None, default=None
        Names of the samples. None takes the paths, the index of a data frame, or row numbers.
    height : int, default=760
        Pixels in the notebook.

    Returns
    -------
    map : ClusterMap
        Shows itself as the result of a cell.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has no features or no labels to show.
    ValueError
        If `y` or `names` have another length than X.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.display import cluster_map
    >>> X = load_iris().data
    >>> model = ContrastiveClustering(3, max_epochs=2, random_state=0).fit(X)
    >>> cluster_map(model, X).positions.shape
    (150, 2)
    """
    html, listed = map_page(clustering(estimator, X, y, names, placed=True))
    return ClusterMap(html, np.asarray(listed.positions), listed.found.labels, height=height)


class ClusterMap:
    """A page with a map of samples, which notebooks show; :func:`cluster_map` makes it.

    Parameters
    ----------
    html : str
        The page.
    positions : ndarray of shape (n_samples, 2), float32
        Where the samples are; NaN for those that could not be read.
    labels : ndarray of shape (n_samples,), int64
        Their clusters, or -1.
    height : int, default=760
        Pixels in the notebook.
    """

    def __init__(
        self, html: str, positions: np.ndarray, labels: np.ndarray, *, height: int = 760
    ) -> None:
        self.html = html
        self.positions = positions
        self.labels = labels
        self.height = height

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file for the browser.

        Parameters
        ----------
        path : path-like
            The file is replaced if it exists.

        Returns
        -------
        path : Path
            Where the page is.
        """
        path = Path(path)
        path.write_text(self.html, encoding="utf-8", errors="replace", newline="\n")
        return path

    def _repr_html_(self) -> str:
        """Put the page into a frame of its own, apart from the notebook."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts allow-downloads" '
            'allow="clipboard-write" '
            f'title="Map of the samples" width="100%" height="{self.height}" '
            'style="border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        n_clusters = len(np.unique(self.labels[self.labels >= 0]))
        return f"ClusterMap of {len(self.labels):,} samples in {n_clusters} clusters"
