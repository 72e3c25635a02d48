"""Checks of X, in fit and on new samples."""

import math
import os
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from .._data.image_files import ImageFiles, OpenedFiles
from .._data.preprocessing import Layout
from .._data.protocols import Rows
from .._data.readers import ArrayReader, DatasetReader
from .._data.sources import open_source
from .._runtime.distributed import world_size
from .._runtime.process_group import check_same
from .._training.checkpoint import data_identity
from . import errors
from .finiteness import CheckedRows, check_finite
from .layout import read_layout, shape_of
from .opening import FileOptions, as_array, open_files
from .samples import Samples


def check_parameters(estimator: Any) -> None:
    """Check parameters one by one, unless scikit-learn is told not to, and some of them together.

    Parameters
    ----------
    estimator : object
        Of this package.
    """
    if not get_config()["skip_parameter_validation"]:
        estimator._validate_params()
    for name in estimator._queues_in_use():
        if not estimator.batch_negatives and not getattr(estimator, name):
            raise errors.no_negatives(name)


def check_input(
    estimator: BaseEstimator, X: Any, *, image_shape: tuple[int, ...] | None, files: FileOptions
) -> Samples:
    """Validate a training set and learn its layout; the estimator stays as it is."""
    name = type(estimator).__name__
    last_first = isinstance(X, torch.Tensor)
    opened = open_files(X, files)
    X = as_array(X if opened is None else opened.images, name)
    if isinstance(X, DatasetReader):
        last_first = X.has_tensors
    layout = read_layout(X, image_shape, channels_second_wins=last_first, name=name)
    probe = object.__new__(type(estimator))  # scikit-learn sets what it learns of the columns
    vars(probe).update(vars(estimator))
    rows = _checked_rows(probe, X, reset=True)
    if layout is None:
        layout = Layout((rows.shape[1],))
    elif math.prod(layout.shape) != rows.shape[1]:
        raise errors.image_shape_of_other_rows(X.shape, image_shape, math.prod(layout.shape))
    return _samples(probe, rows, layout, opened)


def check_new_input(
    estimator: BaseEstimator, X: Any, layout: Layout, *, files: FileOptions
) -> Samples:
    """Validate unseen samples against the layout learned in fit."""
    name = type(estimator).__name__
    opened = open_files(X, files, layout=layout, name=name)
    X = as_array(X if opened is None else opened.images, name)
    shape = shape_of(X)
    if len(shape) > 2 and shape[1:] != layout.shape:
        raise errors.other_shape(name, shape[1:], layout.shape)
    return _samples(estimator, _checked_rows(estimator, X, reset=False), layout, opened)


def _samples(
    probe: BaseEstimator, rows: Rows, layout: Layout, opened: OpenedFiles | None
) -> Samples:
    """Gather what was found; scikit-learn has left its part on the probe."""
    if world_size() > 1:  # processes work together on one data set only
        check_same(data_identity(open_source(rows, device=torch.device("cpu"))))
    return Samples(
        rows,
        layout,
        n_features=probe.n_features_in_,
        names=getattr(probe, "feature_names_in_", None),
        from_files=opened is not None,
        skipped=MappingProxyType({}) if opened is None else opened.skipped,
    )


def _checked_rows(probe: BaseEstimator, X: Any, *, reset: bool) -> Rows:
    """Flatten and validate; what is not in memory, by its first samples and then as it is read."""
    streamed = isinstance(X, ArrayReader | DatasetReader | ImageFiles)
    name = type(probe).__name__
    least = 2 if reset else 1
    if shape_of(X) == (0,):
        raise errors.empty(least)
    rows = _flattened(X.read(slice(0, 2)) if streamed else X)
    try:
        checked = validate_data(
            probe,
            rows,
            reset=reset,
            dtype=_dtypes(rows),
            ensure_all_finite=False,
            ensure_min_samples=least,
        )
    except (TypeError, ValueError) as error:
        if _has_dates_beside_others(rows):
            raise errors.no_common_dtype(name, rows) from error
        text = _first_text(rows)
        if text is None:
            raise
        raise errors.not_numbers(name, type(rows).__name__, shape_of(rows), text) from error
    if streamed:
        return CheckedRows(X, checked.dtype, name)
    check_finite(checked, name)
    return np.asarray(checked)


def _dtypes(X: Any) -> list[type[np.generic]]:
    """Return the types that rows may have; all others become the first one, which holds them.

    Integers of more than 16 bits lose digits in float32: times in seconds would be all alike.
    """
    is_frame = hasattr(X, "columns")
    dtype = np.asarray(X[:1]).dtype if is_frame else getattr(X, "dtype", np.dtype(float))
    first = np.float32 if np.can_cast(dtype, np.float32) else np.float64
    return [first, np.float32, np.float64, np.uint8]


def _has_dates_beside_others(X: Any) -> bool:
    """Tell whether X is a frame with dates or durations, and columns of other types."""
    if not hasattr(X, "columns"):
        return False
    kinds = {getattr(dtype, "kind", None) for dtype in X.dtypes}
    return len(kinds) > 1 and not kinds.isdisjoint("Mm")


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


def _flattened(X: Any) -> Any:
    """Reshape images to rows: a view where the memory is contiguous."""
    if getattr(X, "ndim", 2) <= 2:
        return X
    return X.reshape(len(X), math.prod(X.shape[1:]))


def check_n_samples(n_samples: int, n_clusters: int | str) -> None:
    """Refuse a training set with fewer samples than clusters."""
    if not isinstance(n_clusters, str) and n_samples < n_clusters:
        raise errors.fewer_samples_than_clusters(n_samples, n_clusters)


def check_spaces(spaces: Sequence[int] | None, feature_dim: int) -> list[int]:
    """Return the number of columns of each feature space; one space if none are named.

    Raises
    ------
    ValueError
        If they are not all columns.
    """
    dims = [feature_dim] if spaces is None else [int(dim) for dim in spaces]
    if min(dims, default=0) < 1 or sum(dims) != feature_dim:
        raise errors.other_spaces(spaces, feature_dim)
    return dims
