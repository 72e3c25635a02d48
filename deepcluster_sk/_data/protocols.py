"""What is asked of data: rows of samples, sources of batches, and passes over all rows."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from torch import Tensor


class Rows(Protocol):
    """Flattened samples (n, d): an array, or what reads like one, piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)``."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Either uint8, float32 or float64."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        """Return rows; their numbers are ascending and without repetition."""
        ...


class DataSource(Protocol):
    """Where training and inference read their batches from."""

    n_samples: int
    n_features: int

    def batches(self, plan: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(index, x)`` for each index tensor (B,) of the plan.

        ``x`` of shape (B, d) lies on the source's device in its stored dtype.
        """
        ...


class MapAll(Protocol):
    """Applies functions to the rows of the data set: unaugmented, in order, in evaluation mode."""

    sampled: Tensor | None
    """Rows that stand for all where those are too many, ascending, int64; None for all rows."""
    sampled_shape: tuple[int, int]
    """Number of the sampled rows, and of values in each."""
    seed: int
    """Of what is drawn between the steps; one for a whole training."""

    def __call__(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        """Return a function's values on all rows, float32."""
        ...

    def on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        """Return a function's values on the sampled rows, float32."""
        ...

    def on_rows(self, rows: Tensor, function: Callable[[Tensor], Tensor], /) -> Tensor:
        """Return a function's values on some of the sampled rows, by their numbers, float32."""
        ...

    def sum_on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        """Return the sum of what a function makes of batches of the sampled rows, on the CPU.

        It makes tensors of one shape on the CPU, of any floating dtype.
        """
        ...
