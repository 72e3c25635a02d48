"""Reading off X how its samples are laid out."""

from typing import Any

from .._data.preprocessing import Layout
from . import errors

_CHANNELS = (1, 3, 4)


def read_layout(
    X: Any, image_shape: tuple[int, ...] | None, *, channels_second_wins: bool, name: str
) -> Layout | None:
    """Read the layout off the dimensions of X; None for plain rows."""
    ndim = len(shape_of(X)) or 2
    if ndim > 4:
        raise errors.too_many_dimensions(name, X.shape)
    shape = tuple(int(s) for s in X.shape[1:]) if ndim > 2 else None
    if image_shape is not None:
        image_shape = tuple(int(s) for s in image_shape)
        if len(image_shape) not in (2, 3) or min(image_shape) < 1:
            raise errors.bad_image_shape(image_shape)
        if shape is not None and shape != image_shape:
            raise errors.image_shape_of_images(shape, image_shape)
        shape = image_shape
    if shape is None:
        return None
    if 0 in shape:
        raise errors.no_pixels(X.shape)
    if len(shape) == 2:
        return Layout(shape)
    first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if not first and not last:
        raise errors.no_channel_axis(shape)
    is_first = first and (channels_second_wins or not last)
    return Layout(shape, "first" if is_first else "last")


def shape_of(X: Any) -> tuple[int, ...]:
    """Return the shape of what has one."""
    return tuple(getattr(X, "shape", ()))
