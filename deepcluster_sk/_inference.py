"""Deterministic passes over all rows."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._data import DataSource

BATCH_SIZE = 1024


def map_batches(
    function: Callable[[Tensor], Tensor],
    source: DataSource,
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Tensor]:
    """Yield ``function(x)`` for all rows of a source in their order, without gradients."""
    plan = torch.arange(source.n_samples).split(batch_size)
    for _, x in source.batches(plan):
        with torch.inference_mode():
            output = function(x)
        yield output
