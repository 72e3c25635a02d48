"""Batch norm with the statistics of the batches of all ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .distributed import all_sum, place, placed, world_size


def global_batch_norm() -> AbstractContextManager[Any]:
    """Let every batch norm of a block see the batches of all ranks.

    Torch's ``SyncBatchNorm`` is for GPUs alone, and replaces the modules. Here the function that
    they call is replaced, so that a network stays as it is, whatever its modules are derived from.
    """
    return nullcontext() if world_size() == 1 else _GlobalBatchNorm()


class _GlobalBatchNorm(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what ``torch.nn.functional.batch_norm`` does, on the batches of all ranks together.

    Parameters
    ----------
    input : Tensor of shape (n, C, ...), float
        This rank's part of the batch.
    running_mean, running_var : Tensor of shape (C,) or None
        In training, moved in place by the statistics of the whole batch.
    weight, bias : Tensor of shape (C,) or None, default=None
    training : bool, default=False
        Whether the statistics are those of the batch.
    momentum : float, default=0.1
        Share of the new statistics in the running ones.
    eps : float, default=1e-5
        Added to the variance.

    Returns
    -------
    output : Tensor of the shape of the input
    """
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    mean, var, count = _statistics(input)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = var * (count / (count - 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    output: Tensor = _Normalize.apply(input, weight, bias, mean, var, count, eps)
    return output


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,) and variance (C,) over all ranks, and the number of values in each."""
    with torch.no_grad():
        var, mean = torch.var_mean(_wide(x), dim=_all_but_channels(x), correction=0)
        n = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
        # the difference below would lose digits in float32
        sums = torch.cat([n, n * mean.double(), n * (var.double() + mean.double().square())])
        count, total, squares = torch.split(all_sum(sums), [1, len(mean), len(mean)])
        mean = total / count
        var = (squares / count - mean.square()).clamp_min(0)
    return mean.to(_wide(x).dtype), var.to(_wide(x).dtype), count


class _Normalize(torch.autograd.Function):
    """Normalise by statistics that follow from the input on all ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), count)
        ctx.has_bias, ctx.place = bias is not None, place()
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, count = ctx.saved_tensors
        grad, dims = _wide(grads[0]), _all_but_channels(x)
        shape = (1, -1, *[1] * (x.ndim - 2))
        normal = (_wide(x) - mean.view(shape)) * inverse_std.view(shape)
        to_bias, to_weight = grad.sum(dim=dims), (grad * normal).sum(dim=dims)
        with placed(ctx.place):  # on accelerators, this is a thread of torch
            sums = all_sum(torch.stack([to_bias, to_weight])) / count.to(grad.dtype)
        shift, slope = sums[0].view(shape), sums[1].view(shape)
        scale = inverse_std if weight is None else inverse_std * weight
        to_x = (grad - shift - normal * slope) * scale.view(shape)
        return (
            to_x.to(x.dtype),
            None if weight is None else to_weight.to(weight.dtype),
            to_bias.to(mean.dtype) if ctx.has_bias else None,
            None,
            None,
            None,
            None,
        )


def _wide(x: Tensor) -> Tensor:
    """Leave half precision behind."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.ndim) if dim != 1]
