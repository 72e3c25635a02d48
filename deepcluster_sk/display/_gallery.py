"""Gallery of clusters: their most and their least confident members."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length

from .._inspection.assignments import (
    Assignments,
    assign,
    check_clusters,
    from_labels,
    input_shape,
)
from .._inspection.pictures import as_samples, feature_table, is_image, pictures
from .._inspection.summaries import standardized
from . import _errors as errors
from ._style import make_axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 56  # pixels of a picture
_GAP = 4  # pixels between two pictures
_BAND = 48  # pixels of a cluster of feature rows
_MOST_NAMES = 16  # features; more of them leave no room for their names
_ROOMY = 20  # clusters; more of them get one line of text and lower rows


class ClusterGalleryDisplay:
    """The most and the least confident samples of each cluster, one row per cluster.

    Images are shown as they are. Rows of features are shown as strips of colour, one per sample:
    how far each feature is from its mean.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    clusters : ndarray of shape (k,), int
        Numbers of the clusters shown.
    sizes : ndarray of shape (k,), int
        Their numbers of members.
    confidence : ndarray of shape (k,), float or None
        Their mean confidence in [0, 1], NaN for an empty cluster; None if it is not known.
    confident, uncertain : list of k ndarrays of int
        Row numbers of the members shown: the most confident first, and the least confident first.
    samples : dict of int to ndarray
        By row number, a picture (h, w) or (h, w, 3), uint8; or for rows of features the
        standardised values (n_features,), float.
    feature_names : list of str or None, default=None
        Names of the features, for rows.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
        The whole gallery.

    See Also
    --------
    deepcluster_sk.report : The same and more as a page for the browser.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk.display import ClusterGalleryDisplay
    >>> images = load_digits().images
    >>> labels = KMeans(10, n_init=1, random_state=0).fit_predict(load_digits().data)
    >>> display = ClusterGalleryDisplay.from_predictions(images, labels)
    >>> int(display.sizes.sum())
    1797
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(
        self,
        clusters: np.ndarray,
        sizes: np.ndarray,
        confidence: np.ndarray | None,
        confident: list[np.ndarray],
        uncertain: list[np.ndarray],
        samples: dict[int, np.ndarray],
        *,
        feature_names: list[str] | None = None,
    ) -> None:
        self.clusters = clusters
        self.sizes = sizes
        self.confidence = confidence
        self.confident = confident
        self.uncertain = uncertain
        self.samples = samples
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        clusters: Sequence[int] | None = None,
        n_confident: int = 10,
        n_uncertain: int = 4,
        cmap: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the gallery of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or a pipeline or search that ends in one.
        X : array-like
            What ``estimator.predict_proba`` accepts.
        clusters : sequence of int or None, default=None
            Clusters to show, in this order; None shows all.
        n_confident : int, default=10
            Number of members with the highest confidence.
        n_uncertain : int, default=4
            Number of members with the lowest confidence.
        cmap : str or None, default=None
            Colour map; None is ``"gray"`` for grey images and ``"PuOr_r"`` for rows.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterGalleryDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``predict_proba``.
        ValueError
            If a cluster is out of range.
        """
        return cls._select(
            X,
            assign(estimator, X),
            known=True,
            input_shape=input_shape(estimator),
            clusters=clusters,
            n_confident=n_confident,
            n_uncertain=n_uncertain,
        ).plot(cmap=cmap, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        image_shape: tuple[int, ...] | None = None,
        clusters: Sequence[int] | None = None,
        n_confident: int = 10,
        n_uncertain: int = 4,
        cmap: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the gallery of any clustering.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W), or list of paths
            The samples.
        labels : array-like of shape (n_samples,), int
            Cluster of each sample; samples with -1 are not shown.
        confidence : array-like of shape (n_samples,), float or None, default=None
            In [0, 1]. With None, the first members are shown, and no member as uncertain.
        image_shape : tuple of int or None, default=None
            ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of flattened images in a 2-D X.
        clusters : sequence of int or None, default=None
            Clusters to show, in this order; None shows all.
        n_confident : int, default=10
            Number of members with the highest confidence.
        n_uncertain : int, default=4
            Number of members with the lowest confidence.
        cmap : str or None, default=None
            Colour map; None is ``"gray"`` for grey images and ``"PuOr_r"`` for rows.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : ClusterGalleryDisplay

        Raises
        ------
        ValueError
            If `labels` are not integers, the lengths differ, or a cluster is out of range.
        """
        known = confidence is not None
        return cls._select(
            X,
            from_labels(labels, confidence),
            known=known,
            input_shape=image_shape,
            clusters=clusters,
            n_confident=n_confident if known else n_confident + n_uncertain,
            n_uncertain=n_uncertain if known else 0,
        ).plot(cmap=cmap, ax=ax)

    @classmethod
    def _select(
        cls,
        X: Any,
        assignments: Assignments,
        *,
        known: bool,
        input_shape: tuple[int, ...] | None,
        clusters: Sequence[int] | None,
        n_confident: int,
        n_uncertain: int,
    ) -> Self:
        """Choose members and take their pictures or features."""
        if n_confident < 0 or n_uncertain < 0 or n_confident + n_uncertain == 0:
            raise errors.nothing_to_show(n_confident, n_uncertain)
        X = as_samples(X)
        check_consistent_length(X, assignments.labels)
        chosen = check_clusters(clusters, assignments.n_clusters)
        pairs = [assignments.examples(c, n_confident, n_uncertain) for c in chosen]
        nobody = np.empty(0, np.intp)
        rows = np.unique(np.concatenate([nobody, *(r for pair in pairs for r in pair)]))
        names, shown = None, np.empty((0, 1, 1), np.uint8)
        if len(rows) and is_image(X, input_shape):
            shown = pictures(X, rows, input_shape=input_shape, side=_SIDE)
        elif len(rows):
            names, values = feature_table(X)
            shown = standardized(values)[rows]
        return cls(
            chosen,
            assignments.sizes[chosen],
            assignments.mean_confidence[chosen] if known else None,
            [confident for confident, _ in pairs],
            [uncertain for _, uncertain in pairs],
            dict(zip(rows.tolist(), shown, strict=True)),
            feature_names=names,
        )

    def plot(self, *, cmap: str | None = None, ax: "Axes | None" = None) -> Self:
        """Draw the gallery.

        Parameters
        ----------
        cmap : str or None, default=None
            Colour map; None is ``"gray"`` for grey images and ``"PuOr_r"`` for rows.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        self : ClusterGalleryDisplay
        """
        pyplot()  # before anything of matplotlib is named
        if self.feature_names is None:
            self._plot_pictures(cmap or "gray", ax)
        else:
            self._plot_strips(cmap or "PuOr_r", ax)
        return self

    def _plot_pictures(self, cmap: str, ax: "Axes | None") -> None:
        """One row of pictures per cluster, as one image: a hundred clusters draw at once."""
        n_confident, n_uncertain = _longest(self.confident), _longest(self.uncertain)
        first = next(iter(self.samples.values()), np.zeros((_SIDE, _SIDE), np.uint8))
        height, width = first.shape[0] + _GAP, first.shape[1] + _GAP
        start = n_confident * width + (width // 2 if n_uncertain else 0)
        mosaic = np.zeros((len(self.clusters) * height, start + n_uncertain * width, 4))
        for row in range(len(self.clusters)):
            for offset, members in [(0, self.confident[row]), (start, self.uncertain[row])]:
                for column, member in enumerate(members):
                    x, y = offset + column * width, row * height
                    picture = _rgba(self.samples[int(member)], cmap)
                    mosaic[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        inches = 6.2 / max(mosaic.shape[1], 1) * height
        self._draw(mosaic, height, ax, row_inches=min(inches, 1.2))
        self._head(n_confident * width / 2, start + n_uncertain * width / 2, n_uncertain)

    def _plot_strips(self, cmap: str, ax: "Axes | None") -> None:
        """One band per cluster: a strip per member, a column per feature."""
        names = self.feature_names or []
        stretch = max(1, 240 // len(names))
        width, height = len(names) * stretch, _BAND + _GAP
        n_uncertain = _longest(self.uncertain)
        start = width + 12
        total = start + width if n_uncertain else width
        mosaic = np.full((len(self.clusters) * height, total), np.nan)
        for row in range(len(self.clusters)):
            for offset, members in [(0, self.confident[row]), (start, self.uncertain[row])]:
                if len(members):
                    strips = np.stack([self.samples[int(member)] for member in members])
                    # strips of equal height, whatever their number
                    strips = strips[np.arange(_BAND) * len(strips) // _BAND]
                    band = slice(row * height, row * height + _BAND)
                    mosaic[band, offset : offset + width] = np.repeat(strips, stretch, axis=1)
        inches = min(0.9, max(0.34, 5 / len(self.clusters)))
        named = len(names) <= _MOST_NAMES
        below = 0.07 * max(map(len, names)) if named else 0.2
        self._draw(
            mosaic, height, ax, row_inches=inches, cmap=cmap, vmin=-2.5, vmax=2.5, below=below
        )
        self.ax_.set_aspect("auto")
        self._head(width / 2, start + width / 2, n_uncertain)
        if named:
            offsets = [0, start] if n_uncertain else [0]
            centers = [o + (i + 0.5) * stretch for o in offsets for i in range(len(names))]
            self.ax_.set_xticks(centers, names * len(offsets), rotation=90, size=7)
        else:
            self.ax_.set_xlabel(f"{len(names)} features", size=9)
        bar = self.figure_.colorbar(self.image_, ax=self.ax_, shrink=0.8, aspect=30, pad=0.02)
        bar.set_label("standard deviations\nfrom the mean", size=8)
        bar.ax.tick_params(labelsize=8)

    def _draw(
        self,
        mosaic: np.ndarray,
        height: int,
        ax: "Axes | None",
        *,
        row_inches: float,
        cmap: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
        below: float = 0,
    ) -> None:
        """Show the mosaic with a line of text at each cluster, and so many inches below."""
        figsize = (7.4, len(self.clusters) * row_inches + 0.5 + below)
        self.figure_, self.ax_ = make_axes(ax, figsize=figsize)
        self.image_ = self.ax_.imshow(
            mosaic, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="antialiased"
        )
        middles = np.arange(len(self.clusters)) * height + (height - _GAP) / 2
        self.ax_.set_yticks(middles, self._texts(), size=8)
        self.ax_.set_xticks([])
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)

    def _texts(self) -> list[str]:
        """Write number, size and mean confidence of each cluster."""
        lines = []
        roomy = len(self.clusters) <= _ROOMY
        for i, (cluster, size) in enumerate(zip(self.clusters, self.sizes, strict=True)):
            numbers = f"{size:,}" if size else "empty"
            if self.confidence is not None and size:
                numbers += f" · {self.confidence[i]:.1%}"
            lines.append(f"cluster {cluster}\n{numbers}" if roomy else f"{cluster}: {numbers}")
        return lines

    def _head(self, left: float, right: float, n_uncertain: int) -> None:
        """Write above the columns what they show."""
        above: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
        }
        known = self.confidence is not None
        texts = [(left, "most confident" if known else "members")]
        texts += [(right, "least confident")] if n_uncertain else []
        for x, text in texts:
            self.ax_.annotate(text, (x, 1), (0, 3), ha="center", va="bottom", size=9, **above)
        text = "size · confidence" if known else "size"
        self.ax_.annotate(text, (0, 1), (-6, 3), ha="right", va="bottom", size=8, **above)


def _longest(lists: list[np.ndarray]) -> int:
    return max((len(members) for members in lists), default=0)


def _rgba(picture: np.ndarray, cmap: str) -> np.ndarray:
    """Colours in [0, 1] of a picture (h, w) or (h, w, 3), uint8."""
    from matplotlib import colormaps

    if picture.ndim == 2:
        return np.asarray(colormaps[cmap](picture))
    return np.dstack([picture / 255, np.ones(picture.shape[:2])])
