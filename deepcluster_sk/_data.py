"""Sources of stored batches.

A source reads what the trainer's plan names; it never decides an order.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ._device import to_device


class DataSource(Protocol):
    """Where training and inference read their batches from."""

    n_samples: int

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(index, x)`` for each index tensor (B,) of the plan.

        ``x`` of shape (B, d) lies on the source's device in its stored dtype.
        """
        ...


class ResidentSource:
    """A whole array on the device, in its stored dtype; on the CPU a view without a copy."""

    def __init__(self, X: np.ndarray, device: torch.device) -> None:
        self.n_samples = len(X)
        if device.type == "mps" and X.dtype == np.float64:
            X = X.astype(np.float32)  # no float64 on this device
        if any(stride < 0 for stride in X.strides):
            X = np.ascontiguousarray(X)  # torch has no negative strides
        with warnings.catch_warnings():
            # a read-only array is shared without a copy; nothing here writes to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._data = torch.as_tensor(X).to(device)

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Index the array, batch by batch."""
        for index in plan:
            index = to_device(index, self._data.device)
            yield index, self._data.index_select(0, index)


def open_source(X: np.ndarray, *, device: torch.device) -> DataSource:
    """Return the source for a validated, flattened array (n, d).

    The seam for inputs that are read piece by piece: files, memory maps, datasets.
    """
    return ResidentSource(X, device)
