"""Passes over the rows of a data set during the training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .._data.protocols import DataSource
from .._runtime.device import inference_switches
from .._runtime.distributed import all_sum, dealt, rank, world_size
from .._runtime.random import is_foreign
from .inference import collect, default_batch_size, map_batches

_MAX_SAMPLED = 70_000  # the time of a search grows with the square of it, and no further


class RowMap:
    """Applies functions to preprocessed rows, as ``MapAll`` says.

    Parameters
    ----------
    objective : torch.nn.Module
        In evaluation mode for the length of a pass.
    source : DataSource
    preprocess : torch.nn.Module
    device : torch.device
        Where the values are put.
    one_thread : bool
        Whether one thread maps each batch.
    multiple : int
        Rows to which batches are filled up, as in predictions: for the same bits.
    seed : int
        Of what is drawn between the steps.
    diverged : callable
        Makes the error for values that are NaN or infinite.
    """

    def __init__(
        self,
        objective: nn.Module,
        source: DataSource,
        preprocess: nn.Module,
        *,
        device: torch.device,
        one_thread: bool,
        multiple: int,
        seed: int,
        diverged: Callable[[], Exception],
    ) -> None:
        self._objective = objective
        self._source = source
        self._preprocess = preprocess
        self._device = device
        self._one_thread = one_thread
        self._multiple = multiple
        self.seed = seed
        self._diverged = diverged
        self.sampled = sampled_rows(source.n_samples)
        n_sampled = source.n_samples if self.sampled is None else len(self.sampled)
        self.sampled_shape = n_sampled, source.n_features

    def __call__(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        return self._map(function, None)

    def on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        return self._map(function, self.sampled)

    def on_rows(self, rows: Tensor, function: Callable[[Tensor], Tensor], /) -> Tensor:
        return self._map(function, rows if self.sampled is None else self.sampled[rows])

    def sum_on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        preprocess, source = self._preprocess, self._source
        rows = torch.arange(source.n_samples) if self.sampled is None else self.sampled
        plan = torch.split(rows, default_batch_size(source.n_features))
        total: Tensor | None = None
        with self._evaluation(), torch.no_grad(), inference_switches(self._device):
            for number, (_, x) in enumerate(source.batches(dealt(plan))):
                value = function(preprocess(x))
                if number * world_size() + rank() >= len(plan):
                    value.zero_()  # a batch of another rank, dealt again to fill up the round
                total = value if total is None else total.add_(value)
        assert total is not None
        if world_size() > 1:
            total = all_sum(total.to(self._device)).cpu()  # messages go between devices
        self._check_finite(total)
        return total

    def _map(self, function: Callable[[Tensor], Tensor], rows: Tensor | None) -> Tensor:
        preprocess, source = self._preprocess, self._source
        batches = map_batches(
            lambda x: function(preprocess(x)).float(),
            source,
            rows=rows,
            multiple=self._multiple,
            one_thread=self._one_thread,
            foreign=is_foreign(self._objective),
        )
        n_rows = source.n_samples if rows is None else len(rows)
        with self._evaluation():
            values = collect(batches, n_rows).to(self._device)
        self._check_finite(values)
        return values

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Put the objective into evaluation mode for the length of a block."""
        was_training = self._objective.training
        self._objective.eval()
        try:
            yield
        finally:
            self._objective.train(was_training)

    def _check_finite(self, values: Tensor) -> None:
        if not values.isfinite().all():
            raise self._diverged()


def sampled_rows(n_rows: int) -> Tensor | None:
    """Choose the rows of ``MapAll.sampled``."""
    if n_rows <= _MAX_SAMPLED:
        return None
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(n_rows, generator=generator)[:_MAX_SAMPLED].sort().values
