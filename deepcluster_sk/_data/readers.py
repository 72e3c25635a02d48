"""Samples that are read piece by piece: arrays in files, torch datasets."""

import mmap
import sys
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from . import errors
from .image_files import pillow_to_array
from .sources import empty_pages


class Reader(Protocol):
    """Samples of one shape, somewhere."""

    shape: tuple[int, ...]
    """``(n, *sample_shape)``."""
    dtype: np.dtype

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return samples as a new array; row numbers are ascending and without repetition."""
        ...


@runtime_checkable
class ChunkedArray(Protocol):
    """What HDF5, zarr and dask arrays have in common, and arrays in memory do not."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: Any

    def __getitem__(self, rows: Any) -> Any: ...


class ArrayReader:
    """An array in a file.

    Parameters
    ----------
    array : numpy.memmap or ChunkedArray
    """

    def __init__(self, array: np.ndarray | ChunkedArray) -> None:
        self._array = array
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self._map = memory_map(array)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Copy some samples into memory."""
        if not isinstance(self._array, np.ndarray):
            return np.array(self._array[rows])
        numbers = np.arange(len(self._array))[rows]
        samples = empty_pages((len(numbers), *self.shape[1:]), self.dtype)
        for place, number in enumerate(numbers):  # indexing by an array would copy twice
            samples[place] = self._array[number]
        if self._map is not None and sys.platform != "win32":
            # pages that were read count as this process's memory until they are given back; they
            # stay in the file cache of the operating system
            self._map.madvise(mmap.MADV_DONTNEED)
        return samples


def is_memory_mapped(X: Any) -> bool:
    """Whether an array lies in a file, or is a view of one that does."""
    return isinstance(X, np.ndarray) and _owner(X) is not None


def memory_map(X: Any) -> mmap.mmap | None:
    """Return the map behind an array whose pages can be dropped: they are those of the file."""
    owner = _owner(X)
    if owner is None or owner.mode == "c":  # private changes are in memory only
        return None
    base: Any = owner
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _owner(X: Any) -> np.memmap | None:
    """Return the first memory map among an array and what it is a view of."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap) and X.mode is not None:  # None: a copy
            return X
        X = X.base
    return None


class DatasetReader:
    """A map-style torch Dataset.

    Its items are tensors, arrays or PIL images, or tuples that begin with one. PIL images are
    converted as image files are, but not resized.

    Raises
    ------
    TypeError
        If the dataset has no length or no items by number, or items are of another type.
    ValueError
        If it is empty.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset
        name = type(dataset).__name__
        try:
            n = len(dataset)  # type: ignore[arg-type]
            if n == 0:
                raise errors.empty_dataset(name)
            sample = _sample(dataset[0])
            first = _as_array(sample, 0)
        except (TypeError, NotImplementedError) as error:
            raise errors.no_map_style_dataset(name, error) from error
        self.has_tensors = isinstance(sample, torch.Tensor)
        self.shape = (n, *first.shape)
        self.dtype = first.dtype

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Ask for some items, one after the other."""
        numbers = np.arange(self.shape[0])[rows]
        samples = np.empty((len(numbers), *self.shape[1:]), dtype=self.dtype)
        for place, number in enumerate(numbers):
            item = _as_array(_sample(self._dataset[int(number)]), number)
            if (item.shape, item.dtype) != (self.shape[1:], self.dtype):
                raise errors.different_item(number, item, self.shape[1:], self.dtype)
            samples[place] = item
        return samples


def _sample(item: Any) -> Any:
    """Return an item without its target."""
    return item[0] if isinstance(item, tuple | list) and item else item


def _as_array(sample: Any, number: int) -> np.ndarray:
    """Return the item of a number as array."""
    if isinstance(sample, torch.Tensor):
        return as_numpy(sample)
    if isinstance(sample, Image.Image):
        return pillow_to_array(sample)
    if isinstance(sample, np.ndarray | np.generic | float | int):
        return np.asarray(sample)
    raise errors.unknown_item_type(number, sample)


def as_numpy(x: torch.Tensor) -> np.ndarray:
    """Return a tensor as array; half precision, which numpy does not share, as float32."""
    x = x.detach().cpu()
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy()
