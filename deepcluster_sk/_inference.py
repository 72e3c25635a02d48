"""Deterministic passes over all rows."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ._data import DataSource

BATCH_SIZE = 1024


def map_batches(
    function: Callable[[Tensor], Tensor],
    source: DataSource,
    *,
    batch_size: int = BATCH_SIZE,
    multiple: int = 1,
) -> Iterator[Tensor]:
    """Yield ``function(x)`` for all rows of a source in their order, without gradients.

    Short batches are filled up to a `multiple` of rows: the rounding of a matrix product depends
    on its number of rows, and a single row should get the same bits as a row among others.
    """
    plan = torch.arange(source.n_samples).split(batch_size)
    for _, x in source.batches(plan):
        n = len(x)
        if n % multiple:
            x = torch.cat([x, x[:1].expand(multiple - n % multiple, *x.shape[1:])])
        with torch.inference_mode():
            output = function(x)[:n]
        yield output


def calibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of batch norm by exact ones over some batches.

    Training leaves a moving average over changing weights, far off after few steps. The batches
    must look as in training: statistics of images without augmentation shift the features away
    from where the heads expect them.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
