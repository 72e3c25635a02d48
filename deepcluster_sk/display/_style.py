"""What all displays share: matplotlib when it is needed, and colours for every eye."""

from typing import TYPE_CHECKING, Any

from . import _errors as errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without black and yellow, which are lost on a dark or a white page
COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#777777"]
MARKERS = ["o", "^", "s", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H"]


def pyplot() -> Any:
    """Import matplotlib, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise errors.missing_matplotlib() from error
    return plt


def make_axes(ax: "Axes | None", *, figsize: tuple[float, float]) -> "tuple[Figure, Axes]":
    """Return the given axes and their figure, or new ones of a size in inches."""
    if ax is not None:
        return ax.figure, ax  # type: ignore[return-value]
    figure, ax = pyplot().subplots(figsize=figsize, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure, ax


def only_left_and_bottom(ax: "Axes") -> None:
    """Draw no frame above and on the right."""
    ax.spines[["top", "right"]].set_visible(False)
