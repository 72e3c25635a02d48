"""Checks of user input: parameters, arrays, shapes."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import validate_data
from torch.utils.data import Dataset

from .._data.image_files import (
    ImageFiles,
    ImageSize,
    OpenedFiles,
    find_image_files,
    open_image_files,
)
from .._data.preprocessing import Layout
from .._data.protocols import Rows
from .._data.readers import (
    ArrayReader,
    ChunkedArray,
    DatasetReader,
    Reader,
    as_numpy,
    is_memory_mapped,
)
from .._runtime.warnings import warn_user

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


class FileOptions(NamedTuple):
    """How image files are read."""

    image_size: ImageSize
    on_error: str
    verbose: bool


class Samples(NamedTuple):
    """Validated input."""

    rows: Rows
    """Flattened samples (n, d), float32, float64 or uint8: a view of X wherever possible."""
    layout: Layout
    from_files: bool = False
    skipped: Mapping[int, str] = MappingProxyType({})
    """Paths of files that could not be read and are not among the rows, by position in X."""

    def with_skipped(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Fill in a value for the files that were skipped."""
        if not self.skipped:
            return values
        n = len(values) + len(self.skipped)
        whole = np.full((n, *values.shape[1:]), fill, dtype=values.dtype)
        whole[np.setdiff1d(np.arange(n), list(self.skipped))] = values
        return whole


def check_input(
    estimator: BaseEstimator, X: Any, *, image_shape: tuple[int, ...] | None, files: FileOptions
) -> Samples:
    """Validate a training set and learn its layout."""
    name = type(estimator).__name__
    last_first = isinstance(X, torch.Tensor)
    opened = _open_files(X, files)
    X = _as_array(X if opened is None else opened.images, name)
    if isinstance(X, DatasetReader):
        last_first = X.has_tensors
    layout = _layout(X, image_shape, channels_second_wins=last_first, name=name)
    rows = _checked_rows(estimator, X, reset=True)
    if layout is None:
        layout = Layout((rows.shape[1],))
    elif np.prod(layout.shape) != rows.shape[1]:
        raise ValueError(
            f"X has shape {X.shape} and image_shape={tuple(image_shape or ())} needs "
            f"{np.prod(layout.shape)} columns. Pass the image_shape of these {X.shape[1]} columns, "
            f"or X with {np.prod(layout.shape)} columns."
        )
    if opened is None:
        return Samples(rows, layout)
    return Samples(rows, layout, from_files=True, skipped=opened.skipped)


def check_new_input(
    estimator: BaseEstimator, X: Any, layout: Layout, *, files: FileOptions
) -> Samples:
    """Validate unseen samples against the layout learned in fit."""
    name = type(estimator).__name__
    opened = _open_files(X, files, layout=layout, name=name)
    X = _as_array(X if opened is None else opened.images, name)
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) > 2 and shape[1:] != layout.shape:
        raise ValueError(
            f"X has samples of shape {shape[1:]}, but {name} was fitted with samples of shape "
            f"{layout.shape}. Pass X of shape {('n', *layout.shape)}, or flattened rows."
        )
    rows = _checked_rows(estimator, X, reset=False)
    if opened is None:
        return Samples(rows, layout)
    return Samples(rows, layout, from_files=True, skipped=opened.skipped)


def _open_files(
    X: Any, files: FileOptions, *, layout: Layout | None = None, name: str = ""
) -> OpenedFiles | None:
    """Open X if it is a folder or consists of paths; None for everything else."""
    paths = _paths(X)
    if paths is None:
        return None
    if layout is not None and not layout.is_image:
        raise ValueError(
            f"X consists of image files, but {name} was fitted with rows of {layout.shape[0]} "
            "features. Pass rows, or fit on images."
        )
    opened = open_image_files(
        paths,
        layout=layout,
        image_size=files.image_size,
        on_error=files.on_error,
        verbose=files.verbose,
    )
    if opened.skipped:
        first = next(iter(opened.skipped.values()))
        warn_user(
            f"{len(opened.skipped)} of {len(paths)} image files cannot be read and are skipped "
            f"(first: {first!r}). Their label is -1; after fit, skipped_ lists them.",
            UserWarning,
        )
    return opened


def _paths(X: Any) -> list[str] | None:
    """Return the paths that X consists of; None if it is no folder and no container of paths."""
    if isinstance(X, str | os.PathLike):
        return find_image_files(X)
    if isinstance(X, torch.Tensor | Dataset | ChunkedArray):
        return None
    if not isinstance(X, list | tuple):
        if len(_shape(X)) != 1:
            return None
        X = np.asarray(X)  # an array or a Series
        if X.dtype.kind not in "UTO":
            return None
    is_path = [isinstance(x, str | os.PathLike) for x in X]
    if not any(is_path):
        return None
    if not all(is_path):
        odd = is_path.index(False)
        raise ValueError(
            f"X holds paths and other things: element {odd} is {X[odd]!r}, expected a path. Pass "
            "paths of image files only, or an array of numbers."
        )
    return [os.fspath(x) for x in X]


def _shape(X: Any) -> tuple[int, ...]:
    """Return the shape of what has one."""
    return tuple(getattr(X, "shape", ()))


class _CheckedRows:
    """Flattened samples of a reader, converted and checked for finite values as they are read."""

    def __init__(self, reader: Reader, dtype: np.dtype, name: str) -> None:
        self._reader = reader
        self._name = name
        self.shape = (reader.shape[0], math.prod(reader.shape[1:]))
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        samples = self._reader.read(rows)
        batch = samples.reshape(len(samples), self.shape[1]).astype(self.dtype, copy=False)
        bad = _not_finite(batch)
        if len(bad):
            row = np.arange(len(self))[rows][bad[0]]
            raise ValueError(
                _NOT_FINITE.format(what=_what(batch[bad[0]]), row=row, extent="", name=self._name)
            )
        return batch


def _checked_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> Rows:
    """Flatten and validate; what is not in memory, by its first samples and then as it is read."""
    streamed = isinstance(X, ArrayReader | DatasetReader | ImageFiles)
    name = type(estimator).__name__
    least = 2 if reset else 1
    if _shape(X) == (0,):
        raise ValueError(
            f"X is empty: found 0 samples, expected at least {least}. Pass rows, images, or paths "
            "of image files; a pattern of file names may have matched none."
        )
    rows = _flattened(X.read(slice(0, 2)) if streamed else X)
    try:
        checked = validate_data(
            estimator,
            rows,
            reset=reset,
            dtype=_DTYPES,
            ensure_all_finite=False,
            ensure_min_samples=least,
        )
    except (TypeError, ValueError) as error:
        text = _first_text(rows)
        if text is None:
            raise
        raise ValueError(_not_numbers(rows, text, name)) from error
    if streamed:
        return _CheckedRows(X, checked.dtype, name)
    _check_finite(checked, name)
    return np.asarray(checked)


def _first_text(X: Any) -> str | bytes | os.PathLike[str] | None:
    """Return the first element that is text, and not the text of a number."""
    values = np.asarray(X)
    for value in values.ravel().tolist() if values.dtype.kind in "OSTU" else []:
        if isinstance(value, os.PathLike):
            return value
        if isinstance(value, str | bytes):
            try:
                float(value)
            except ValueError:
                return value
    return None


def _not_numbers(X: Any, text: str | bytes | os.PathLike[str], name: str) -> str:
    """Say how text is passed that names image files."""
    if isinstance(text, bytes):
        mend = "Decode bytes: [os.fsdecode(path) for path in X]"
    else:
        mend = "Pass the column of a DataFrame, such as df['path'], or np.ravel(X) of an array"
    return (
        f"X ({type(X).__name__} of shape {_shape(X)}) holds text, such as {text!r}. {name} expects "
        f"numbers, or a flat list, array or Series of paths of image files. {mend}; encode text of "
        "any other kind as numbers."
    )


def check_n_samples(n_samples: int, n_clusters: int) -> None:
    """Refuse a training set with fewer samples than clusters."""
    if n_samples < n_clusters:
        raise ValueError(
            f"n_samples={n_samples} should be >= n_clusters={n_clusters}. Lower n_clusters, or "
            "pass more samples."
        )


def check_equal_parts(batch_size: int, n_processes: int, *, compiled: bool) -> None:
    """Refuse what several processes cannot do together."""
    if n_processes == 1:
        return
    if batch_size % n_processes:
        fitting = batch_size - batch_size % n_processes
        raise ValueError(
            f"A batch of {batch_size} samples cannot be cut into equal parts for {n_processes} "
            f"processes. Pass batch_size={fitting or n_processes}, or start another number of them."
        )
    if compiled:
        raise ValueError(
            f"compile=True was passed in a job of {n_processes} processes, whose messages cannot "
            "be part of a graph. Pass compile=False, or start a single process."
        )


def check_rows_to_contrast(n_samples: int) -> None:
    """Refuse a single sample: there is nothing to tell it from."""
    if n_samples < 2:
        raise ValueError(
            f"n_samples={n_samples} should be >= 2: each sample is told from the others. Collect "
            "samples, and pass them together."
        )


def _as_array(X: Any, name: str) -> Any:
    """Turn tensors and nested lists into arrays, and what is not in memory into readers.

    Data frames are left to scikit-learn.
    """
    if isinstance(X, torch.Tensor):
        return as_numpy(X)
    if isinstance(X, Dataset):
        return DatasetReader(X)
    if is_memory_mapped(X) or isinstance(X, ChunkedArray):
        return ArrayReader(X)
    if isinstance(X, list | tuple):
        try:
            return np.asarray(X)
        except ValueError as error:
            raise ValueError(
                f"X is a ragged list: its elements differ in shape ({error}). {name} expects "
                "samples of one shape; resize the images or pad the rows."
            ) from error
    return X


def _layout(
    X: Any, image_shape: tuple[int, ...] | None, *, channels_second_wins: bool, name: str
) -> Layout | None:
    """Read the layout off the dimensions of X; None for plain rows."""
    ndim = len(_shape(X)) or 2
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


_NOT_FINITE = (
    "Input X contains {what} in row {row}{extent}. {name} does not accept missing values: drop "
    "these rows or fill them with an imputer from sklearn.impute."
)


def _check_finite(X: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, naming the first row that has one."""
    bad = _not_finite(X)
    if len(bad):
        extent = f" ({len(bad)} of {len(X)} rows are affected)"
        raise ValueError(
            _NOT_FINITE.format(what=_what(X[bad[0]]), row=bad[0], extent=extent, name=name)
        )


def _not_finite(X: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows with NaN or infinity."""
    if X.dtype == np.uint8:
        return np.empty(0, dtype=int)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(X, dtype=np.float64)):
            return np.empty(0, dtype=int)
    return np.flatnonzero(~np.isfinite(X).all(axis=1))  # none: a sum that overflowed


def _what(row: np.ndarray) -> str:
    return "NaN" if np.isnan(row).any() else "infinity (inf)"
