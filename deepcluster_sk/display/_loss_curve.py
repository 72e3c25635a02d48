"""Loss terms over the epochs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .._inspection.assignments import trained_estimator
from .._inspection.summaries import without_start
from ._style import COLORS, make_axes, only_left_and_bottom, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class LossCurveDisplay:
    """Every term of the loss over the epochs, one panel each, above a common axis.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : sequence of float
        The whole loss after each epoch.
    history : mapping of str to sequence of float
        The terms, each as long as `loss_curve`. Zeros at the beginning, where a term does not take
        part yet, are not drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Frame of the panels.
    axes_ : list of matplotlib Axes
        The panels: the whole loss, and the terms.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> from deepcluster_sk.display import LossCurveDisplay
    >>> display = LossCurveDisplay([3.0, 2.5], {"instance": [3.0, 2.2], "cluster": [0.0, 0.3]})
    >>> len(display.plot().axes_)
    3
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(self, loss_curve: Sequence[float], history: Mapping[str, Sequence[float]]) -> None:
        self.loss_curve = loss_curve
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: "Axes | None" = None) -> Self:
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or a pipeline or search that ends in one.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is an estimator of another package.
        """
        fitted = trained_estimator(estimator)
        return cls(fitted.loss_curve_, fitted.history_).plot(ax=ax)

    def plot(self, *, ax: "Axes | None" = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Divided into panels; None makes a new figure.

        Returns
        -------
        self : LossCurveDisplay
        """
        panels = {"loss": self.loss_curve, **self.history}
        if ax is None:  # with its own margins: layout engines do not see axes inside of axes
            margins = {"left": 0.13, "right": 0.97, "top": 0.98, "bottom": 0.25 / len(panels)}
            figsize = (6.4, 1.35 * len(panels))
            _, ax = pyplot().subplots(figsize=figsize, gridspec_kw=margins)
        self.figure_, self.ax_ = make_axes(ax, figsize=(0, 0))
        self.ax_.set_axis_off()
        height = 1 / len(panels)
        self.axes_: list[Axes] = []
        self.lines_: list[Line2D] = []
        for number, (name, values) in enumerate(panels.items()):
            panel = self.ax_.inset_axes((0, 1 - (number + 0.8) * height, 1, 0.66 * height))
            color = COLORS[number % len(COLORS)]
            epochs = np.arange(1, len(values) + 1)
            marker = "o" if len(values) == 1 else None  # a line of one point is invisible
            self.lines_ += panel.plot(epochs, without_start(values), color=color, marker=marker)
            panel.set_title(name, loc="left", size=10, pad=3)
            panel.set_xlim(0.5, len(values) + 0.5)
            panel.tick_params(labelsize=8, labelbottom=number == len(panels) - 1)
            panel.locator_params(axis="x", integer=True)
            panel.grid(axis="x", color="0.9")
            only_left_and_bottom(panel)
            self.axes_.append(panel)
        self.axes_[-1].set_xlabel("epoch", size=9)
        return self
