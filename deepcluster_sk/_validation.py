"""Checks of user input: parameters, arrays, shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import validate_data

from ._preprocessing import Layout

_DTYPES = [np.float32, np.float64, np.uint8]
_CHANNELS = (1, 3, 4)

# ---- constraint vocabulary: the only import of scikit-learn's is in this file

positive_int = Interval(Integral, 1, None, closed="left")
non_negative_int = Interval(Integral, 0, None, closed="left")
positive_float = Interval(Real, 0, None, closed="neither")
non_negative_float = Interval(Real, 0, None, closed="left")
fraction = Interval(Real, 0, 1, closed="left")
closed_fraction = Interval(Real, 0, 1, closed="both")
seconds_not_epochs = Interval(RealNotInt, 0, None, closed="neither")


def one_of(*names: str) -> StrOptions:
    """Constraint: one of a few strings."""
    return StrOptions(set(names))


@contextmanager
def unchanged_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """Restore the attributes of an estimator if the block raises: no partial state is left."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_input(
    estimator: BaseEstimator, X: Any, *, image_shape: tuple[int, ...] | None
) -> tuple[np.ndarray, Layout]:
    """Validate a training set and learn its layout.

    Returns
    -------
    X : ndarray of shape (n, d), float32, float64 or uint8
        A view of the input wherever its memory allows.
    layout : Layout
    """
    name = type(estimator).__name__
    last_first = isinstance(X, torch.Tensor)
    X = _as_array(X, name)
    layout = _layout(X, image_shape, channels_second_wins=last_first, name=name)
    X = _flattened(X)
    X = validate_data(
        estimator,
        X,
        reset=True,
        dtype=_DTYPES,
        ensure_all_finite=False,
        ensure_min_samples=2,
    )
    _check_finite(X, name)
    if layout is None:
        layout = Layout((X.shape[1],))
    elif np.prod(layout.shape) != X.shape[1]:
        raise ValueError(
            f"X has shape {X.shape} and image_shape={tuple(image_shape or ())} needs "
            f"{np.prod(layout.shape)} columns. Pass the image_shape of these {X.shape[1]} columns, "
            f"or X with {np.prod(layout.shape)} columns."
        )
    return X, layout


def check_new_input(estimator: BaseEstimator, X: Any, layout: Layout) -> np.ndarray:
    """Validate unseen samples against the layout learned in fit; return them flattened."""
    name = type(estimator).__name__
    X = _as_array(X, name)
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) > 2 and shape[1:] != layout.shape:
        raise ValueError(
            f"X has samples of shape {shape[1:]}, but {name} was fitted with samples of shape "
            f"{layout.shape}. Pass X of shape {('n', *layout.shape)}, or flattened rows."
        )
    X = validate_data(estimator, _flattened(X), reset=False, dtype=_DTYPES, ensure_all_finite=False)
    _check_finite(X, name)
    return X


def check_n_samples(n_samples: int, n_clusters: int) -> None:
    """Refuse a training set with fewer samples than clusters."""
    if n_samples < n_clusters:
        raise ValueError(
            f"n_samples={n_samples} should be >= n_clusters={n_clusters}. Lower n_clusters, or "
            "pass more samples."
        )


def check_rows_to_contrast(n_samples: int) -> None:
    """Refuse a single sample: there is nothing to tell it from."""
    if n_samples < 2:
        raise ValueError(
            f"n_samples={n_samples} should be >= 2: each sample is told from the others. Collect "
            "samples, and pass them together."
        )


def _as_array(X: Any, name: str) -> Any:
    """Turn tensors and nested lists into arrays; leave data frames to scikit-learn."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        if X.dtype in (torch.bfloat16, torch.float16):
            X = X.float()
        return X.numpy()
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(
                f"X is a ragged list: its elements differ in shape ({error}). {name} expects "
                "samples of one shape; resize the images or pad the rows."
            ) from error
    if isinstance(X, np.ndarray) and X.dtype.kind in "US":
        first = str(X.flat[0]) if X.size else ""
        raise ValueError(
            f"X holds strings (first: {first!r}), expected numbers. {name} reads arrays of rows "
            "(n, d) or images (n, H, W), (n, H, W, C), (n, C, H, W): load image files first."
        )
    return X


def _layout(
    X: Any, image_shape: tuple[int, ...] | None, *, channels_second_wins: bool, name: str
) -> Layout | None:
    """Read the layout off the dimensions of X; None for plain rows."""
    ndim = getattr(X, "ndim", 2)
    if ndim > 4:
        raise ValueError(
            f"X has {ndim} dimensions (shape {X.shape}). {name} expects rows (n, d), grey images "
            "(n, H, W), or images (n, H, W, C) or (n, C, H, W)."
        )
    shape = tuple(int(s) for s in X.shape[1:]) if ndim > 2 else None
    if image_shape is not None:
        image_shape = tuple(int(s) for s in image_shape)
        if len(image_shape) not in (2, 3) or min(image_shape) < 1:
            raise ValueError(
                f"image_shape={image_shape}, expected (H, W), (H, W, C) or (C, H, W) with "
                "positive integers."
            )
        if shape is not None and shape != image_shape:
            raise ValueError(
                f"X has samples of shape {shape}, but image_shape={image_shape}. Leave "
                "image_shape=None for images that are not flattened."
            )
        shape = image_shape
    if shape is None:
        return None
    if 0 in shape:
        raise ValueError(f"X has shape {X.shape}: found images with 0 pixels, expected at least 1.")
    if len(shape) == 2:
        return Layout(shape)
    first, last = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if not first and not last:
        raise ValueError(
            f"No channel axis in images of shape {shape}: expected 1, 3 or 4 channels on the last "
            "axis (H, W, C) or the first one (C, H, W)."
        )
    is_first = first and (channels_second_wins or not last)
    return Layout(shape, "first" if is_first else "last")


def _flattened(X: Any) -> Any:
    """Reshape images to rows: a view where the memory is contiguous."""
    if getattr(X, "ndim", 2) <= 2:
        return X
    return X.reshape(len(X), int(np.prod(X.shape[1:])))


def _check_finite(X: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, naming the first row that has one."""
    if X.dtype == np.uint8:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(X, dtype=np.float64)):
            return
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad) == 0:  # a sum that overflowed
        return
    what = "NaN" if np.isnan(X[bad[0]]).any() else "infinity (inf)"
    raise ValueError(
        f"Input X contains {what} in row {bad[0]} ({len(bad)} of {len(X)} rows are affected). "
        f"{name} does not accept missing values: drop these rows or fill them with an imputer "
        "from sklearn.impute."
    )
