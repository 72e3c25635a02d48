"""Deterministic passes over all rows."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .._data.protocols import DataSource
from .._runtime.batch_norm import global_batch_norm
from .._runtime.device import inference_switches, is_out_of_memory
from .._runtime.distributed import collected, dealt
from .._runtime.threads import map_in_threads
from .._runtime.warnings import warn_user

BATCH_SIZE = 1024
_BATCH_VALUES = 2**24  # and of large images, fewer: a network holds many times its input


def map_batches(
    function: Callable[[Tensor], Tensor],
    source: DataSource,
    *,
    rows: Tensor | None = None,
    batch_size: int | None = None,
    multiple: int = 1,
    one_thread: bool = False,
    foreign: bool = False,
) -> Iterator[Tensor]:
    """Yield ``function(x)`` for all or some rows of a source in their order, without gradients.

    Short batches are filled up to a `multiple` of rows: the rounding of a matrix product depends
    on its number of rows, and a single row should get the same bits as a row among others. By
    default, the batches are those of :func:`default_batch_size`. Ranks take turns at the batches,
    and each of them gets the values of all. With `one_thread`, each batch is mapped by one thread,
    and several at the same time; otherwise torch's threads share each of them. Functions with
    foreign code, which may keep what it sees, are called once at a time.

    Warns
    -----
    RuntimeWarning
        If the memory is too small for a batch: it is halved until it fits.
    """
    batch_size = batch_size or default_batch_size(source.n_features)
    limit = batch_size

    def mapped(x: Tensor) -> Tensor:
        nonlocal limit
        n = len(x)
        if n % multiple:
            x = torch.cat([x, x[:1].expand(multiple - n % multiple, *x.shape[1:])])
        outputs: list[Tensor] = []
        while (done := sum(map(len, outputs))) < len(x):
            try:
                with torch.inference_mode(), inference_switches(x.device):
                    outputs.append(function(x[done : done + limit]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or limit == 1:
                    raise
                limit = _halved(limit, batch_size, x.device)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[:n]

    plan = torch.split(torch.arange(source.n_samples) if rows is None else rows, batch_size)
    own = dealt(plan)
    batches = (x for _, x in source.batches(own))
    n_at_once = 1 if foreign else len(own)
    outputs = map_in_threads(mapped, batches, n_at_once) if one_thread else map(mapped, batches)
    for number, output in enumerate(outputs):
        yield from collected(output, number, list(map(len, plan)))


def default_batch_size(n_features: int) -> int:
    """Return how many rows of `n_features` values are mapped at a time: a multiple of 32."""
    return min(BATCH_SIZE, max(32, _BATCH_VALUES // n_features // 32 * 32))


def collect(batches: Iterable[Tensor], n_samples: int) -> Tensor:
    """Return the batches as one tensor on the host, with no second copy of it on the way."""
    whole: Tensor | None = None
    done = 0
    for batch in batches:
        if whole is None:
            whole = torch.empty(n_samples, *batch.shape[1:], dtype=batch.dtype)
        whole[done : done + len(batch)] = batch
        done += len(batch)
    assert whole is not None
    return whole


def _halved(limit: int, batch_size: int, device: torch.device) -> int:
    """Return half the number of rows; warn at the first time."""
    if limit == batch_size:
        warn_user(
            f"Out of memory on {device} with {limit} samples at a time: going on with fewer. A "
            "smaller encoder, or a device with more memory, would be faster.",
            RuntimeWarning,
        )
    return max(limit // 2, 1)  # several threads may come here at the same time


def calibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of batch norm by exact ones over some batches.

    Training leaves a moving average over changing weights, far off after few steps. The batches
    must look as in training: statistics of images without augmentation shift the features away
    from where the heads expect them.
    """
    network.train()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    # those of a frozen encoder stay in evaluation mode
    norms = [norm for norm in norms if norm.track_running_stats and norm.training]
    network.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            with inference_switches(batch.device), global_batch_norm():
                network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
