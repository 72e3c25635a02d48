"""What a rank reads and varies of a batch of all ranks.

Orders and draws belong to the whole batch: every rank draws the same, and takes its part. So the
number of ranks does not change what a row looks like in a step.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._runtime.distributed import own_part, world_size
from ..augmentations._base import Augmentation


def rows_to_read(plan: Tensor, augment: Augmentation) -> Tensor:
    """Choose the rows that this rank reads: from a plan (steps, views, B) to (steps, m).

    They are all rows of the batch where a row may get something of the others.
    """
    return (own_part(plan, dim=2) if augment.per_sample else plan).flatten(1)


def vary(
    x: Tensor,
    n_views: int,
    augment: Augmentation,
    transform: Callable[[Tensor, Any], Tensor],
    generator: torch.Generator,
    *,
    n_plain: int = 0,
) -> tuple[Tensor, ...]:
    """Return this rank's part of each view.

    Parameters
    ----------
    x : Tensor of shape (m, *sample_shape), float32
        The rows of :func:`rows_to_read`, preprocessed.
    n_views : int
    augment : Augmentation
    transform : callable
        Its method of that name, perhaps compiled.
    generator : torch.Generator
        In the same state on all ranks.
    n_plain : int, default=0
        How many views at the end are left as they are; images get the size of the other views.

    Returns
    -------
    views : tuple of Tensor of shape (B / world_size, *sample_shape)
    """
    n_varied = n_views - n_plain
    x, plain = x.tensor_split([len(x) * n_varied // n_views])
    draws_for_others = world_size() > 1 and augment.per_sample
    n_drawn = len(x) * world_size() if draws_for_others else len(x)
    draw = augment.sample(torch.Size((n_drawn, *x.shape[1:])), generator)
    if draws_for_others:
        own = own_part(torch.arange(n_drawn, device=x.device).view(n_varied, -1), dim=1).flatten()
        draw = _rows_of(draw, own)
    varied = transform(x, draw)
    views = varied.chunk(n_varied)
    if n_plain:
        views += _resized(plain, like=varied).chunk(n_plain)
    if world_size() > 1 and not augment.per_sample:
        return tuple(own_part(view) for view in views)
    return views


def _resized(x: Tensor, *, like: Tensor) -> Tensor:
    """Give images the height and width of others."""
    if x.shape[1:] == like.shape[1:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


def _rows_of(draw: Any, rows: Tensor) -> Any:
    """Take rows of all tensors of a draw; a single row is one for all."""
    if isinstance(draw, Tensor):
        return draw if len(draw) == 1 else draw[rows]
    return tuple(_rows_of(part, rows) for part in draw)
