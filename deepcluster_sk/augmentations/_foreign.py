"""Augmentations of the user: copied, tried out before the training, and checked at each call."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .._runtime.random import may_draw
from ..exceptions import AugmentationError
from . import _errors as errors
from ._base import Augmentation, Draw

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # what a batch may be


class Foreign(Augmentation):
    """Any callable on a batch, which draws from the global random states."""

    draws_globally = True
    compilable = False

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def sample(self, shape: Any, generator: Any) -> Draw:
        """Draw nothing: the callable draws for itself."""
        return ()

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Call the function."""
        return self.function(x)


class Checked(Augmentation):
    """An augmentation whose results are checked, and converted to float32.

    Parameters
    ----------
    augmentation : Augmentation
    name : str
        What errors call it.
    """

    def __init__(self, augmentation: Augmentation, name: str) -> None:
        super().__init__()
        self.augmentation = augmentation
        self.name = name
        self.compilable = augmentation.compilable
        self.draws_globally = augmentation.draws_globally or may_draw(augmentation)
        self.per_sample = augmentation.per_sample

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw what the augmentation draws."""
        return self.augmentation.sample(shape, generator)

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Transform the batch; a result that is no such batch is refused."""
        views = self.augmentation.transform(x, draw)
        mend = _mend(views, x)
        if mend is not None:
            raise errors.no_batch(self.name, _description(views), tuple(x.shape), x.device, mend)
        return views.to(x.dtype)

    def try_out(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return views; refuse an augmentation that fails, or makes NaN or infinity."""
        try:
            views: Tensor = self(x, generator)
        except AugmentationError:
            raise
        except Exception as error:
            raise errors.failed(self.name, tuple(x.shape), error) from error
        if not views.isfinite().all():
            raise errors.not_finite(self.name, tuple(x.shape))
        return views


def checked(spec: Augmentation | Callable[[Tensor], Tensor]) -> Checked:
    """Return a checked augmentation that shares no module with the user's.

    Raises
    ------
    AugmentationError
        If it is a class, or a module that cannot be copied.
    """
    name = getattr(spec, "__qualname__", type(spec).__qualname__)
    if isinstance(spec, type):
        raise errors.a_class(name)
    if isinstance(spec, nn.Module):
        try:
            spec = copy.deepcopy(spec)
        except Exception as error:
            raise errors.not_copyable(name, error) from error
    return Checked(spec if isinstance(spec, Augmentation) else Foreign(spec), name)


def _mend(views: Any, x: Tensor) -> str | None:
    """Return what to do about a result that is no batch like x, or None; images may be resized."""
    if not isinstance(views, Tensor):
        return "Return one torch.Tensor."
    if views.layout != torch.strided:
        return "Call .to_dense() on the result."
    if views.dtype not in _FLOATS:
        return "Convert the result to real numbers of float32."
    if views.device != x.device:
        return "Make new tensors on x.device."
    if views.ndim != x.ndim or views.shape[:2] != x.shape[:2] or 0 in views.shape:
        return "Return a row for each row, with the axes in their order."
    return None


def _description(output: Any) -> str:
    """Return words for a result: its type, and the dtype, shape and device of a tensor."""
    if not isinstance(output, Tensor):
        return type(output).__name__
    dtype, layout = (str(part).removeprefix("torch.") for part in (output.dtype, output.layout))
    kind = dtype if output.layout == torch.strided else f"{layout} {dtype}"
    return f"{kind} of shape {tuple(output.shape)} on {output.device}"
