"""The processes of one job: who they are, and what they exchange.

Inside a ``together`` block of ``process_group.py``, every process has a rank, and all of them call
the same functions of this file in the same order. Elsewhere, and in a process that is alone, these
functions return what they are given.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

if dist.is_available():
    # Its functions take the group that runs when they are imported as a default argument. Were
    # torch to import them during a fit, they would keep the group's threads alive to the end of
    # the interpreter, and a thread that drops a tensor then aborts the process.
    import torch.distributed.nn

T = TypeVar("T")


class Place(NamedTuple):
    """A process among those that work together."""

    rank: int
    world_size: int


_ALONE = Place(0, 1)
# of the calling thread; None outside of a block
_place: ContextVar[Place | None] = ContextVar("place", default=None)


def place() -> Place:
    """Return the place of this process."""
    return _place.get() or _ALONE


def rank() -> int:
    """Return the number of this process, from 0 on."""
    return place().rank


def world_size() -> int:
    """Return the number of processes that work together now."""
    return place().world_size


def is_together() -> bool:
    """Tell whether a block has begun in which processes work together."""
    return _place.get() is not None


@contextmanager
def alone() -> Iterator[None]:
    """Work as if there were no other processes, for the length of a block."""
    with placed(_ALONE):
        yield


@contextmanager
def placed(place: Place) -> Iterator[None]:
    """Let this process have a place for the length of a block, in the calling thread."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


class _Gather(torch.autograd.Function):
    """The rows of all ranks; a rank's rows get the gradients that all ranks have for them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.place = place()
        return torch.cat(_of_all(x))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        with placed(ctx.place):  # on accelerators, this is a thread of torch
            return own_part(all_sum(grads[0]))


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """Join the tensors of all ranks along a dimension, in the order of the ranks; differentiable.

    The gradient is the sum over the ranks of the incoming gradient, of which a rank gets its own
    part. So a loss of gathered rows may be computed as a whole on every rank: with gradients that
    are averaged over the ranks afterwards, it has the gradient of one process.

    Parameters
    ----------
    x : Tensor of shape (..., n, ...), float
        Of the same shape on all ranks.
    dim : int, default=0

    Returns
    -------
    x : Tensor of shape (..., n * world_size, ...), float
    """
    # a compiled training has one process; torch 2.4 cannot compile the reading of a ContextVar
    if torch.compiler.is_compiling() or world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x.movedim(dim, 0))
    return joined.movedim(0, dim)


def _of_all(x: Tensor) -> list[Tensor]:
    """Return the tensors of all ranks, which have one shape; without gradients."""
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return parts


def all_sum(x: Tensor) -> Tensor:
    """Return the sum over the ranks, as a new tensor; without gradients."""
    if world_size() == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their means over the ranks, in one message."""
    if world_size() > 1:
        _in_one_message([p.grad for p in parameters if p.grad is not None], _average)


def _average(flat: Tensor) -> None:
    dist.all_reduce(flat)
    flat /= world_size()


def share_state(module: nn.Module) -> None:
    """Give all ranks the parameters and buffers of rank 0, in place."""
    if world_size() > 1:
        _in_one_message(list(module.state_dict().values()), dist.broadcast, 0)


def _in_one_message(tensors: Sequence[Tensor], send: Callable[..., Any], *args: Any) -> None:
    """Send the tensors of a dtype as a single one, and put back what it is then."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in same])
        send(flat, *args)
        with torch.no_grad():
            parts = torch.split(flat, [tensor.numel() for tensor in same])
            for tensor, values in zip(same, parts, strict=True):
                tensor.copy_(values.view(tensor.shape))


def own_part(x: Tensor, dim: int = 0) -> Tensor:
    """Return a rank's equal part of what all ranks have."""
    return x.chunk(world_size(), dim)[rank()] if world_size() > 1 else x


def dealt(items: Sequence[T]) -> Sequence[T]:
    """Return what a rank works at: one item of each round of as many items as ranks.

    Where they run out, the last one again: all ranks have the same number.
    """
    size = world_size()
    if size == 1:
        return items
    rounds = range(0, len(items), size)
    return [items[min(first + rank(), len(items) - 1)] for first in rounds]


def collected(x: Tensor, number: int, lengths: Sequence[int]) -> Iterator[Tensor]:
    """Yield what the ranks made of the items of a round of :func:`dealt`, in their order.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
        What this rank made of its item.
    number : int
        Of the round.
    lengths : sequence of int
        The n of each item, of all rounds.
    """
    if world_size() == 1:
        yield x
        return
    padded = x.new_zeros(max(lengths), *x.shape[1:])
    padded[: len(x)] = x
    round_lengths = lengths[number * world_size() : (number + 1) * world_size()]
    for part, length in zip(_of_all(padded), round_lengths, strict=False):  # fewer in the last one
        yield part[:length]


def on_first(function: Callable[[], T]) -> T:
    """Let rank 0 call a function, alone; return its result, or raise its error, on all ranks.

    Parameters
    ----------
    function : callable
        What it returns or raises has to pickle.
    """
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            with alone():
                outcome[0] = function()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    value: T = outcome[0]
    if outcome[1] is not None:
        raise outcome[1]
    return value


def of_all(value: T) -> list[T]:
    """Return the values of all ranks; they have to pickle."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
