"""The features of the encoder in two dimensions."""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from .._inspection.assignments import Assignments, described, from_labels, input_shape
from .._inspection.pictures import as_samples, feature_table, is_image, pictures
from . import _errors as errors
from ._style import COLORS, MARKERS, make_axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 28  # pixels of a thumbnail
_SPACING = 0.055  # between thumbnails, as a share of the picture's diagonal


class EmbeddingDisplay:
    """Samples at the two-dimensional projection of their features.

    Colour, marker and a number at its middle tell a cluster; rings mark the samples of the lowest
    confidence.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    positions : ndarray of shape (m, 2), float
        Where the samples are.
    labels : ndarray of shape (m,), int
        Their clusters, or -1.
    rows : ndarray of shape (m,), int
        Their row numbers in X.
    uncertain : ndarray of int
        Which of the m samples are ringed.
    thumbnails : dict of int to ndarray or None, default=None
        Pictures (h, w) or (h, w, 3), uint8, by the number of the sample among the m.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from deepcluster_sk.display import EmbeddingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> EmbeddingDisplay.from_predictions(X, y).positions.shape
    (150, 2)
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(
        self,
        positions: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        uncertain: np.ndarray,
        thumbnails: dict[int, np.ndarray] | None = None,
    ) -> None:
        self.positions = positions
        self.labels = labels
        self.rows = rows
        self.uncertain = uncertain
        self.thumbnails = thumbnails or {}

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        projection: Literal["pca", "tsne"] = "pca",
        max_samples: int = 2000,
        n_uncertain: int = 20,
        thumbnails: bool = False,
        random_state: int | RandomState | None = 0,
        cmap: str = "gray",
        ax: "Axes | None" = None,
    ) -> Self:
        """Project the features of a fitted estimator. Ours encode the samples once.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or a pipeline or search that ends in one. Of a
            pipeline that ends in another one, such as k-means, the features before the last step
            are shown.
        X : array-like
            What ``estimator.predict`` accepts.
        projection : {"pca", "tsne"}, default="pca"
            scikit-learn's PCA, linear and fast; or its TSNE, which keeps neighbours together and
            takes seconds to minutes.
        max_samples : int, default=2000
            A random subset of this size is shown of more samples.
        n_uncertain : int, default=20
            Number of samples of the lowest confidence that are ringed.
        thumbnails : bool, default=False
            Draw images over the points, as many as have room.
        random_state : int, RandomState or None, default=0
            For the subset and for TSNE.
        cmap : str, default="gray"
            Colour map of grey thumbnails.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no features or no clusters to show, or is a class.
        ValueError
            If `projection` is unknown, or `thumbnails` are asked for samples that are not images.
        """
        told = described(estimator, X)
        assert told.features is not None
        return cls._project(
            told.features,
            told.found,
            projection=projection,
            max_samples=max_samples,
            n_uncertain=n_uncertain,
            images=X if thumbnails else None,
            input_shape=input_shape(estimator),
            random_state=random_state,
        ).plot(cmap=cmap, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        features: ArrayLike,
        labels: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        images: Any = None,
        projection: Literal["pca", "tsne"] = "pca",
        max_samples: int = 2000,
        n_uncertain: int = 20,
        random_state: int | RandomState | None = 0,
        cmap: str = "gray",
        ax: "Axes | None" = None,
    ) -> Self:
        """Project any features.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features)
            What is projected.
        labels : array-like of shape (n_samples,), int
            Clusters; samples with -1 are drawn in grey.
        confidence : array-like of shape (n_samples,), float or None, default=None
            In [0, 1]; with None no sample is ringed.
        images : array-like of images, list of paths or None, default=None
            Drawn over the points, as many as have room.
        projection : {"pca", "tsne"}, default="pca"
            scikit-learn's PCA or TSNE.
        max_samples : int, default=2000
            A random subset of this size is shown of more samples.
        n_uncertain : int, default=20
            Number of samples of the lowest confidence that are ringed.
        random_state : int, RandomState or None, default=0
            For the subset and for TSNE.
        cmap : str, default="gray"
            Colour map of grey thumbnails.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        ValueError
            If `labels` are not integers, the lengths differ, `projection` is unknown, or `images`
            are not images.
        """
        return cls._project(
            np.asarray(features),
            from_labels(labels, confidence),
            projection=projection,
            max_samples=max_samples,
            n_uncertain=0 if confidence is None else n_uncertain,
            images=images,
            input_shape=None,
            random_state=random_state,
        ).plot(cmap=cmap, ax=ax)

    @classmethod
    def _project(
        cls,
        features: np.ndarray,
        assignments: Assignments,
        *,
        projection: str,
        max_samples: int,
        n_uncertain: int,
        images: Any,
        input_shape: tuple[int, ...] | None,
        random_state: int | RandomState | None,
    ) -> Self:
        """Draw a subset, find its positions, and choose the samples to mark."""
        images = as_samples(images)
        check_consistent_length(features, assignments.labels, images)
        random = check_random_state(random_state)
        rows = np.flatnonzero(np.isfinite(features).all(axis=1))
        if len(rows) > max_samples:
            rows = np.sort(random.choice(rows, max_samples, replace=False))
        positions = _positions(features[rows], projection, random)
        labels = assignments.labels[rows]
        uncertain = np.argsort(assignments.confidence[rows], kind="stable")
        uncertain = uncertain[labels[uncertain] >= 0][:n_uncertain]
        thumbnails = None
        if images is not None:
            if not is_image(images, input_shape):
                raise errors.no_thumbnails(len(feature_table(images)[0]))
            middles = _middles(positions, labels)
            places = _with_room(
                positions,
                [*uncertain, *random.permutation(len(positions))],
                taken=np.array(list(middles.values())),
            )
            shown = pictures(images, rows[places], input_shape=input_shape, side=_SIDE)
            thumbnails = dict(zip(places.tolist(), shown, strict=True))
        return cls(positions, labels, rows, uncertain, thumbnails)

    def plot(self, *, cmap: str = "gray", ax: "Axes | None" = None) -> Self:
        """Draw the samples.

        Parameters
        ----------
        cmap : str, default="gray"
            Colour map of grey thumbnails.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : EmbeddingDisplay
        """
        pyplot()  # before anything of matplotlib is named
        self.figure_, self.ax_ = make_axes(ax, figsize=(6.4, 5.4))
        size = float(np.clip(9000 / len(self.positions), 6, 30))
        for cluster in np.unique(self.labels):
            inside = self.labels == cluster
            self.ax_.scatter(
                self.positions[inside, 0],
                self.positions[inside, 1],
                s=size,
                color=_color(cluster),
                marker=MARKERS[cluster // len(COLORS) % len(MARKERS)] if cluster >= 0 else ".",
                linewidths=0,
                alpha=0.75,
            )
        self._draw_thumbnails(cmap)
        if len(self.uncertain):
            self._draw_rings()
        self._draw_numbers()
        self.ax_.set(xticks=[], yticks=[])
        self.ax_.spines[:].set_color("0.8")
        return self

    def _draw_rings(self) -> None:
        """Ring the least confident samples that have no thumbnail, which would be covered."""
        bare = [place for place in self.uncertain if int(place) not in self.thumbnails]
        for color, width in [("white", 2.4), ("black", 1.1)]:
            self.ax_.scatter(
                self.positions[bare, 0],
                self.positions[bare, 1],
                s=60,
                facecolors="none",
                edgecolors=color,
                linewidths=width,
                zorder=2.5,  # above points, below thumbnails
            )
        marks = "rings and black frames" if self.thumbnails else "rings"
        self.ax_.set_xlabel(f"{marks}: the {len(self.uncertain)} least confident samples", size=9)

    def _draw_thumbnails(self, cmap: str) -> None:
        """Draw the pictures over the points, framed in the colour of their cluster."""
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        marked = set(self.uncertain.tolist())
        # as much smaller as the axes are smaller than those of a figure of its own
        width = self.ax_.get_window_extent().width / self.figure_.dpi
        zoom = 0.6 * min(1.0, width / 5.5)
        for place, picture in self.thumbnails.items():
            color = "black" if place in marked else _color(int(self.labels[place]))
            box = AnnotationBbox(
                OffsetImage(picture, zoom=zoom, cmap=cmap, clim=(0, 255)),
                self.positions[place],
                pad=0.2 * zoom,
                bboxprops={"edgecolor": color, "linewidth": 1.6},
            )
            self.ax_.add_artist(box)

    def _draw_numbers(self) -> None:
        """Write each cluster's number at its middle."""
        from matplotlib.patheffects import withStroke

        middles = _middles(self.positions, self.labels)
        for cluster, middle in middles.items():
            self.ax_.annotate(
                str(cluster),
                (middle[0], middle[1]),
                ha="center",
                va="center",
                weight="bold",
                size=12 if len(middles) <= 30 else 7,
                zorder=5,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )


def _color(cluster: int) -> str:
    """Colour of a cluster; grey for samples without one."""
    return COLORS[cluster % len(COLORS)] if cluster >= 0 else "0.7"


def _positions(features: np.ndarray, projection: str, random: RandomState) -> np.ndarray:
    """Project features (m, d) to (m, 2)."""
    if projection not in ("pca", "tsne"):
        raise errors.unknown_projection(projection)
    if projection == "tsne" and len(features) > 3 and features.shape[1] > 1:
        perplexity = min(30.0, (len(features) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=random)
        return np.asarray(tsne.fit_transform(features))
    n_components = min(2, *features.shape)
    positions = PCA(n_components, random_state=random).fit_transform(features)
    return np.pad(positions, ((0, 0), (0, 2 - n_components)))


def _middles(positions: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """Where each cluster's number is written."""
    clusters = np.unique(labels[labels >= 0]).tolist()
    return {cluster: np.median(positions[labels == cluster], axis=0) for cluster in clusters}


def _with_room(positions: np.ndarray, candidates: list[int], *, taken: np.ndarray) -> np.ndarray:
    """Choose samples, the first ones first, whose thumbnails do not cover each other."""
    extent = np.ptp(positions, axis=0)
    extent = np.where(extent > 0, extent, 1) * _SPACING
    chosen: list[int] = []
    places = list(taken)
    for candidate in candidates:
        place = positions[candidate]
        if not places or (np.abs((places - place) / extent).max(axis=1) > 1).all():
            chosen.append(int(candidate))
            places.append(place)
    return np.array(chosen, dtype=np.intp)
