"""Small pictures of chosen samples, for displays and the report."""

import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .._data.pillow import opened_image

_CHANNELS = (1, 3, 4)


def as_samples(X: Any) -> Any:
    """Return X, or the files of the folder that X names."""
    if not isinstance(X, str | os.PathLike):
        return X
    from .._data.image_files import find_image_files  # only now: torch takes its time

    return find_image_files(X)


def is_image(X: Any, input_shape: tuple[int, ...] | None) -> bool:
    """Tell whether the samples of X can be shown as images."""
    if input_shape is not None:
        return len(input_shape) > 1
    first = _take(X, [0])[0]
    return _is_path(first) or np.ndim(first) > 1


def are_files(X: Any) -> bool:
    """Tell whether the samples of X are paths of files."""
    return _is_path(_take(X, [0])[0])


def feature_table(X: Any) -> tuple[list[str], np.ndarray]:
    """Return the names of the features, and the rows (n_samples, n_features), float64."""
    rows = [np.asarray(row) for row in _take(X, range(len(X)))] if _is_dataset(X) else X
    values = np.asarray(rows, dtype=np.float64)
    return [str(name) for name in getattr(X, "columns", range(values.shape[1]))], values


def pictures(
    X: Any, rows: np.ndarray, *, input_shape: tuple[int, ...] | None = None, side: int = 64
) -> np.ndarray:
    """Render some samples as small images.

    Parameters
    ----------
    X : array-like, dataset, or list of paths
        Images as an estimator accepts them; flattened ones with `input_shape`.
    rows : ndarray of shape (m,), int
        Which samples.
    input_shape : tuple of int or None, default=None
        Shape of one sample: ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``.
    side : int, default=64
        Pixels of the longer side. Files become squares, cut at their longer side.

    Returns
    -------
    pictures : ndarray of shape (m, h, w) or (m, h, w, 3), uint8
        Floats are stretched from the smallest value of all m samples to the largest.
    """
    samples = _take(X, rows)
    if _is_path(samples[0]):
        return np.stack([_read(path, side) for path in samples])
    images = np.stack([np.asarray(sample) for sample in samples])
    if images.ndim == 2:
        images = images.reshape(len(images), *(input_shape or ()))
    images = _to_uint8(_channels_last(images))
    height, width = images.shape[1:3]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack(
        [np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images]
    )


def _take(X: Any, rows: Any) -> list[Any]:
    """Pick samples from anything that is indexed by row: only these are read."""
    if _is_frame(X):
        places = np.asarray(rows).tolist()
        X = (X.iloc[places] if hasattr(X, "iloc") else X[places]).to_numpy()
        rows = range(len(X))
    samples = [X[int(row)] for row in rows]
    return [sample[0] if isinstance(sample, tuple) else sample for sample in samples]


def _is_dataset(X: Any) -> bool:
    """Tell a map-style dataset from arrays, frames and lists."""
    return not isinstance(X, list | tuple) and not hasattr(X, "shape")


def _is_frame(X: Any) -> bool:
    """Tell whether X is a DataFrame or Series, of pandas or polars."""
    return hasattr(X, "to_numpy")


def _is_path(sample: Any) -> bool:
    return isinstance(sample, str | os.PathLike)


def _read(path: str | os.PathLike[str], side: int) -> np.ndarray:
    """Decode a file to a square; one that cannot be read is a grey square."""
    from .._data.image_files import room_for  # only now: torch takes its time

    try:
        with opened_image(path) as image:
            image.draft("RGB", (2 * side, 2 * side))
            with room_for(image):
                upright = ImageOps.exif_transpose(image).convert("RGB")
                return np.asarray(ImageOps.fit(upright, (side, side)))
    except MemoryError:
        raise
    except Exception:  # damaged files make Pillow raise errors of many kinds
        return np.full((side, side, 3), 128, np.uint8)


def _channels_last(images: np.ndarray) -> np.ndarray:
    """Return (m, H, W) or (m, H, W, 3); a fourth channel is left out."""
    if images.ndim == 3:
        return images
    if images.shape[3] not in _CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    return images[..., 0] if images.shape[3] == 1 else images[..., :3]


def _to_uint8(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float64)
    low, high = float(images.min()), float(images.max())
    return np.round((images - low) * (255 / ((high - low) or 1))).astype(np.uint8)
