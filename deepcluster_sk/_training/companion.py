"""A second thread beside the training steps, for work that they do not wait for at once.

Torch's own threads share every operation, and spin while they wait for each other; the bits of a
sum depend on how many they are. This thread gets whole operations: the views of the next batch, and
the gradients of the weights of linear layers, which nothing needs before the optimiser does. Each
is computed by one thread, so that the bits are the same with a second thread and without one.
Convolutions are left out: measured on small images, handing them over took as long as it saved.
"""

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._runtime.threads import available_threads, prepare_worker

T = TypeVar("T")

_END = object()


class Companion:
    """Runs functions in their order: in a thread of its own, or at once if there is no thread."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._context = contextvars.copy_context()

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Let a function run."""
        if self._pool is not None:
            return self._pool.submit(self._context.run, function, *args)
        done: Future[T] = Future()
        done.set_result(function(*args))
        return done

    def one_ahead(self, items: Iterator[T]) -> Iterator[T]:
        """Yield items, each of which is made while the one before it is used."""
        if self._pool is None:
            yield from items
            return
        coming: Future[Any] = self.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = self.submit(next, items, _END)
            yield item


@contextmanager
def companion() -> Iterator[Companion]:
    """Open a companion for the length of a block; a thread only if torch has more than one."""
    n_threads = available_threads()
    if n_threads == 1:
        yield Companion(None)
        return
    pool = ThreadPoolExecutor(1, "deepcluster_sk", prepare_worker, (n_threads,))
    try:
        yield Companion(pool)
    finally:
        pool.shutdown(cancel_futures=True)


class _Later:
    """The gradients of some parameters, which are being computed or wait for it.

    Parameters
    ----------
    parameters : tuple of Parameter or None
        None for a bias that there is not.
    compute : callable
        Returns a gradient for each of them.
    companion : Companion
    """

    def __init__(
        self,
        parameters: tuple[nn.Parameter | None, ...],
        compute: Callable[[], tuple[Tensor, ...]],
        companion: Companion,
    ) -> None:
        self.parameters = parameters
        self._compute = compute
        self._coming = companion.submit(compute)

    def hurry(self) -> None:
        """Compute at once, in the calling thread, if nobody has begun."""
        if self._coming.cancel():
            self._coming = Future()
            self._coming.set_result(self._compute())

    def add(self) -> None:
        """Wait for the gradients, and add them to those that are there."""
        for parameter, gradient in zip(self.parameters, self._coming.result(), strict=True):
            if parameter is not None:
                before = parameter.grad
                parameter.grad = gradient if before is None else before + gradient


class WeightGradients(TorchFunctionMode):
    """Inside of its block, gradients of weights are left to a companion.

    These are the weights of linear layers. Weights with hooks, weights that are computed from
    others, and everything else are left to torch.
    """

    def __init__(self, companion: Companion) -> None:
        super().__init__()
        self._companion = companion
        self._coming: list[_Later] = []

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and not kwargs and _are_plain(*args):
            x, weight, bias = args if len(args) == 3 else (*args, None)
            return _Linear.apply(self, x, weight, bias)
        return func(*args, **(kwargs or {}))

    def later(
        self,
        parameters: tuple[nn.Parameter | None, ...],
        compute: Callable[[], tuple[Tensor, ...]],
    ) -> None:
        """Let the companion compute the gradients of a weight and a bias."""
        self._coming.append(_Later(parameters, compute, self._companion))

    def collect(self) -> None:
        """Add all gradients to those that are there; help to compute them."""
        for later in reversed(self._coming):
            later.hurry()
        for later in self._coming:
            later.add()
        self._coming = []


def _are_plain(x: Any, weight: Any, bias: Any = None) -> bool:
    """Tell whether nothing but the optimiser waits for the gradients of weight and bias."""
    if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    same = isinstance(x, Tensor) and x.dtype == torch.float32 and x.device.type == "cpu"
    return same and _is_plain(weight) and (bias is None or _is_plain(bias))


def _is_plain(parameter: Any) -> bool:
    return (
        isinstance(parameter, nn.Parameter)
        and parameter.requires_grad
        and parameter.dtype == torch.float32
        and not parameter._backward_hooks
        and not getattr(parameter, "_post_accumulate_grad_hooks", None)
    )


class _Linear(torch.autograd.Function):
    """``torch.nn.functional.linear``."""

    @staticmethod
    def forward(
        ctx: Any, gradients: WeightGradients, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.gradients, ctx.parameters = gradients, (weight, bias)
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        ctx.gradients.later(ctx.parameters, partial(_linear_gradients, grad, x))
        return None, grad @ weight if ctx.needs_input_grad[1] else None, None, None


@torch.no_grad()
def _linear_gradients(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias, as torch computes them, to the bit."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return grad.mT @ x, grad.sum(dim=0)
