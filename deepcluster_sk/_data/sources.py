"""Sources of stored batches.

A source reads what the trainer's plan names; it never decides an order.
"""

import math
import mmap
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .._runtime.device import available_memory, move_to, to_device
from .protocols import DataSource, Rows

_MEMORY_SHARE = 0.5  # of an accelerator's free memory that the data may take
_AHEAD = 2  # batches that are read before they are asked for


class ResidentSource:
    """A whole array on the device, in its stored dtype; on the CPU a view without a copy."""

    def __init__(self, X: np.ndarray, device: torch.device) -> None:
        self.n_samples, self.n_features = X.shape
        if any(stride < 0 for stride in X.strides):
            X = np.ascontiguousarray(X)  # torch has no negative strides
        self._data = move_to(_as_tensor(X), device)

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Index the array, batch by batch."""
        for index in plan:
            index = to_device(index, self._data.device)
            yield index, self._data.index_select(0, index)


class StreamedSource:
    """Rows that stay where they are and are read in a thread, a few batches ahead."""

    def __init__(self, X: Rows, device: torch.device) -> None:
        self.n_samples, self.n_features = X.shape
        self._rows = X
        self._device = device

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Read batch by batch; the thread ends with the plan, or with the consumer."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="deepcluster_sk")
        ahead: deque[tuple[Tensor, Future[np.ndarray]]] = deque()
        try:
            for index in plan:
                ahead.append((index, pool.submit(self._read, index.cpu().numpy())))
                if len(ahead) > _AHEAD:
                    yield self._moved(*ahead.popleft())
            while ahead:
                yield self._moved(*ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, index: np.ndarray) -> np.ndarray:
        """Read each row once and in the order of the file, then put them in the order asked for."""
        rows, position = np.unique(index, return_inverse=True)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            batch = self._rows[slice(int(rows[0]), int(rows[-1]) + 1)]
        else:
            batch = self._rows[rows]
        in_order = len(position) == len(rows) and (position == np.arange(len(rows))).all()
        if in_order:
            return batch
        ordered = empty_pages((len(position), *batch.shape[1:]), batch.dtype)
        return np.take(batch, position, axis=0, out=ordered, mode="clip")  # "raise" would copy

    def _moved(self, index: Tensor, batch: "Future[np.ndarray]") -> tuple[Tensor, Tensor]:
        x = to_device(_as_tensor(batch.result()), self._device)
        return to_device(index, self._device), x


def _as_tensor(X: np.ndarray) -> Tensor:
    """Return an array as tensor on the host, without a copy; nothing here writes to it."""
    return torch.as_tensor(X if X.flags.writeable else np.asarray(_Writable(X)))


class _Writable:
    """A read-only array that says it can be written to: torch warns of any other."""

    def __init__(self, X: np.ndarray) -> None:
        address, _ = X.__array_interface__["data"]
        self.__array_interface__ = {**X.__array_interface__, "data": (address, False)}
        self._owner = X  # keeps the memory alive


def empty_pages(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of zeros whose memory goes back to the operating system with it.

    The heap would not give it back: blocks of megabytes that one thread takes and another one
    releases, among smaller ones that stay, leave gaps in it, and the process grows.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, max(n_bytes, 1))
    return np.ndarray(shape, dtype, buffer=pages)


def open_source(X: Rows, *, device: torch.device) -> DataSource:
    """Return the source for validated, flattened samples (n, d).

    An array lies on the device if it takes at most half of its free memory. Larger ones, and
    everything that is not an array in memory, are read piece by piece.
    """
    if isinstance(X, np.ndarray) and (
        device.type == "cpu" or X.nbytes <= _MEMORY_SHARE * available_memory(device)
    ):
        return ResidentSource(X, device)
    return StreamedSource(X, device)
