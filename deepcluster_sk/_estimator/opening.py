"""Opening X: folders, paths, arrays in memory, and what is read piece by piece."""

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from .._data.image_files import (
    STRETCHED,
    ImageSize,
    OpenedFiles,
    Resizing,
    checked_size,
    find_image_files,
    open_image_files,
)
from .._data.preprocessing import Layout
from .._data.readers import ArrayReader, ChunkedArray, DatasetReader, as_numpy, is_memory_mapped
from .._pretrained import input_config, is_used_as_it_is, parsed_name
from .._runtime.distributed import rank
from .._runtime.warnings import warn_user
from . import errors
from .layout import shape_of


class FileOptions(NamedTuple):
    """How image files are read."""

    image_size: ImageSize
    on_error: str
    verbose: bool
    resizing: Resizing = STRETCHED


def file_options(estimator: Any) -> FileOptions:
    """Resolve the parameters of image files: for a pretrained encoder, as its library does.

    Raises
    ------
    EncoderError
        If a library has no such encoder.
    ImportError
        If the library is not installed.
    """
    size = checked_size(estimator.image_size)
    options = FileOptions(size, estimator.on_error, bool(estimator.verbose) and rank() == 0)
    if not is_used_as_it_is(estimator.encoder):
        return options
    name = parsed_name(estimator.encoder)
    if name is None:  # "hog" compares shapes, which stretching would change
        return options._replace(resizing=Resizing(keeps_aspect=True))
    config = input_config(name)
    size = config.image_size(None if isinstance(size, str) else size)
    resizing = Resizing(config.interpolation, config.keeps_aspect)
    return options._replace(image_size=size, resizing=resizing)


def open_files(
    X: Any, files: FileOptions, *, layout: Layout | None = None, name: str = ""
) -> OpenedFiles | None:
    """Open X if it is a folder or consists of paths; None for everything else."""
    paths = _paths(X)
    if paths is None:
        return None
    if layout is not None and not layout.is_image:
        raise errors.files_for_rows(name, layout.shape[0])
    opened = open_image_files(
        paths,
        layout=layout,
        image_size=files.image_size,
        on_error=files.on_error,
        verbose=files.verbose,
        resizing=files.resizing,
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
    """Return the paths that X consists of; None if X is neither a folder nor holds paths."""
    if isinstance(X, str | os.PathLike):
        return find_image_files(X)
    if isinstance(X, torch.Tensor | Dataset | ChunkedArray):
        return None
    if not isinstance(X, list | tuple):
        if len(shape_of(X)) != 1:
            return None
        X = np.asarray(X)  # an array or a Series
        if X.dtype.kind not in "UTO":
            return None
    is_path = [isinstance(x, str | os.PathLike) for x in X]
    if not any(is_path):
        return None
    if not all(is_path):
        odd = is_path.index(False)
        raise errors.not_a_path(odd, X[odd])
    return [os.fspath(x) for x in X]


def as_array(X: Any, name: str) -> Any:
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
            raise errors.ragged_list(name, error) from error
    return X
