"""A second thread beside the training steps, for work that they do not wait for at once.

Torch's own threads share every operation, and spin while they wait for each other; the bits of a
sum depend on how many they are. This thread gets whole operations: the views of the next batch, and
the gradients of weights, which nothing needs before the optimiser does. Each of them is computed by
one thread, so that the bits are the same with a second thread and without one.
"""

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

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


class _Later(NamedTuple):
    """Gradients that are being computed."""

    parameters: tuple[nn.Parameter | None, ...]
    values: "Future[tuple[Tensor, ...]]"


class WeightGradients(TorchFunctionMode):
    """Inside of its block, gradients of weights are left to a companion.

    These are the weights of linear layers and of convolutions in two dimensions. Weights with
    hooks, weights that are computed from others, and everything else are left to torch.
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
            return _Linear.apply(self, *_filled(args, 3))
        if func is F.conv2d and not kwargs and _are_plain(*args[:3]):
            x, weight, bias, *options = _filled(args, 3)
            if _Options.fit(options):
                return _Convolution.apply(self, x, weight, bias, _Options.of(options))
        return func(*args, **(kwargs or {}))

    def later(
        self,
        parameters: tuple[nn.Parameter | None, ...],
        compute: Callable[..., tuple[Tensor, ...]],
        *args: Any,
    ) -> None:
        """Let the companion compute the gradients of a weight and a bias; None for no bias."""
        self._coming.append(_Later(parameters, self._companion.submit(compute, *args)))

    def collect(self) -> None:
        """Wait for the gradients, and add them to those that are there."""
        for parameters, values in self._coming:
            for parameter, gradient in zip(parameters, values.result(), strict=True):
                if parameter is not None:
                    before = parameter.grad
                    parameter.grad = gradient if before is None else before + gradient
        self._coming = []


def _filled(args: tuple[Any, ...], length: int) -> list[Any]:
    return [*args, *[None] * (length - len(args))]


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
        ctx.gradients.later(ctx.parameters, _linear_gradients, grad, x)
        return None, grad @ weight if ctx.needs_input_grad[1] else None, None, None


@torch.no_grad()
def _linear_gradients(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias, as torch computes them, to the bit."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return grad.mT @ x, grad.sum(dim=0)


class _Options(NamedTuple):
    """Of a convolution."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @staticmethod
    def fit(options: list[Any]) -> bool:
        """Tell whether all are numbers: padding may be a word."""
        return not any(isinstance(option, str) for option in options)

    @classmethod
    def of(cls, options: list[Any]) -> "_Options":
        defaults = [1, 0, 1, 1]
        stride, padding, dilation, groups = options + defaults[len(options) :]
        return cls(_pair(stride), _pair(padding), _pair(dilation), groups)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Convolution(torch.autograd.Function):
    """``torch.nn.functional.conv2d``."""

    @staticmethod
    def forward(
        ctx: Any,
        gradients: WeightGradients,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        options: _Options,
    ) -> Tensor:
        ctx.gradients, ctx.parameters, ctx.options = gradients, (weight, bias), options
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        ctx.gradients.later(ctx.parameters, _convolution_gradients, grad, x, weight, ctx.options)
        to_x = None
        if ctx.needs_input_grad[1]:
            wanted = [True, False, False]
            to_x, _, _ = _convolution_backward(grad, x, weight, ctx.options, wanted)
        return None, to_x, None, None, None


@torch.no_grad()
def _convolution_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, options: _Options
) -> tuple[Tensor, ...]:
    """Return the gradients of weight and bias."""
    return _convolution_backward(grad, x, weight, options, [False, True, True])[1:]


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, options: _Options, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """Return the gradients of input, weight and bias, as far as they are wanted."""
    stride, padding, dilation, groups = options
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], stride, padding, dilation, False, [0, 0], groups, wanted
    )
    return gradients
