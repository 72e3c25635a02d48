"""What an augmentation is, and how steps compose.

Geometric steps contribute a 3x3 matrix per image, elastic ones a combination of fixed displacement
fields, colour steps an affine map of the channels per image. :class:`Compose` multiplies matrices
and adds displacements, so that any recipe costs one matrix product for the grid, one sampling and
one small product for the colours, whatever its length. Only steps of another kind (blur, noise)
run on their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._runtime.device import lacks
from . import _errors as errors

Draw = tuple[Any, ...]  # tensors, or one draw per step in a Compose


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw `n` numbers from ``U(low, high)`` on the generator's device: shape (n,), float32."""
    return torch.rand(n, generator=generator, device=generator.device) * (high - low) + low


def chosen(n: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw which of `n` images a step of probability `p` touches: shape (n,), bool."""
    return torch.rand(n, generator=generator, device=generator.device) < p


class Augmentation(nn.Module, ABC):
    """A random map of a batch, in two halves: draw, then do.

    Images are float tensors of shape (n, C, H, W) with values in [0, 1]; rows are standardised
    float tensors of shape (n, d). Every sample of a batch gets its own draw.
    """

    draws_globally: bool = False
    """Whether `transform` draws from global random states."""
    compilable: bool = True
    """Whether ``torch.compile`` can turn ``transform`` into one graph."""
    per_sample: bool = False
    """Whether each sample is transformed by itself, and the tensors of a draw have one row per
    sample, or one for all. Then each process of a job transforms its own samples only."""

    @abstractmethod
    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw the parameters for a batch of this shape on the generator's device."""

    @abstractmethod
    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Transform the batch; deterministic, and of the same shape for every draw."""

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from `generator`, then apply."""
        return self.transform(x, self.sample(x.shape, generator))


class GeometricStep(Augmentation):
    """A step that moves pixels: one matrix per image.

    The matrix maps homogeneous output coordinates to input coordinates, both in [-1, 1] from the
    outer edge of the first pixel to that of the last (torch's ``align_corners=False``).
    """

    @abstractmethod
    def matrix(self, draw: Draw) -> Tensor:
        """Return the matrices, shape (n, 3, 3)."""

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Sample the image bilinearly at the transformed grid, zeros outside."""
        return warp(x, self.matrix(draw))


class DisplacementStep(Augmentation):
    """A step that bends the sampling grid: per image, a weighted sum of fixed fields."""

    @abstractmethod
    def weights(self, draw: Draw) -> Tensor:
        """Return the weights of the k fields, shape (n, 2, k).

        Those of the displacements along x and along y, in coordinates that run from -1 to 1.
        """

    @abstractmethod
    def fields(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Return the fields, shape (k, H * W): one number per pixel of images of this size."""

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Sample the image bilinearly at the displaced grid, zeros outside."""
        identity = torch.eye(3, device=x.device).expand(len(x), -1, -1)
        fields = self.fields((x.shape[2], x.shape[3]), x.device)
        return warp(x, identity, displacements=[(self.weights(draw), fields)])


class ColorStep(Augmentation):
    """A step that maps the colour of each pixel: one affine map of the channels per image.

    The alpha channel of RGBA images is left as it is.
    """

    @abstractmethod
    def color_matrix(self, draw: Draw, mean: Tensor) -> Tensor:
        """Return homogeneous matrices of shape (n, C + 1, C + 1).

        `mean`, of shape (n, C), is the mean colour of each image as this step receives it.
        """

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Map every pixel and clamp to [0, 1]."""
        return recolor(x, self.color_matrix(draw, x.mean(dim=(2, 3))))


class Compose(Augmentation):
    """Steps in a row, fused where they compose.

    The geometric steps are multiplied, the displacements added, and the images sampled once; then
    the colour steps are multiplied into one matrix product; then the other steps run in the order
    given. Values are clamped to [0, 1] once, after the colours.

    Parameters
    ----------
    steps : sequence of Augmentation
        In the order in which they act within their kind.
    padding : {"zeros", "border", "reflection"}, default="zeros"
        What a geometric step finds outside of the image.
    size : tuple of 2 ints or None, default=None
        Height and width of the result, sampled directly from the input; None keeps its size.

    Raises
    ------
    ValueError
        If `padding` is not one of the three.

    Examples
    --------
    >>> import torch
    >>> from deepcluster_sk.augmentations import ColorJitter, Compose, RandomResizedCrop
    >>> augment = Compose([RandomResizedCrop(scale=(0.5, 1.0)), ColorJitter(brightness=0.4)])
    >>> augment(torch.rand(8, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 32, 32])
    """

    def __init__(
        self,
        steps: Sequence[Augmentation],
        padding: str = "zeros",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if padding not in ("zeros", "border", "reflection"):
            raise errors.unknown_padding(padding)
        self.steps = nn.ModuleList(steps)
        self.padding = padding
        self.size = size

    @property
    def per_sample(self) -> bool:  # type: ignore[override]
        """Whether all steps transform each sample by itself."""
        return all(step.per_sample for step in self._steps())

    def _steps(self) -> list[Augmentation]:
        return cast("list[Augmentation]", list(self.steps))

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw for each step in turn: one draw per step."""
        return tuple(step.sample(shape, generator) for step in self._steps())

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Warp once, recolour once, then run the remaining steps."""
        pairs = list(zip(self._steps(), draw, strict=True))
        x = self._move(x, pairs)
        colors = [(s, d) for s, d in pairs if isinstance(s, ColorStep)]
        if colors:
            x = recolor(x, _fused_color_matrix(colors, mean=x.mean(dim=(2, 3))))
        for step, step_draw in pairs:
            # torch 2.4 compiles no union of types
            if not isinstance(step, (GeometricStep, DisplacementStep, ColorStep)):
                x = step.transform(x, step_draw)
        return x

    def _move(self, x: Tensor, pairs: list[tuple[Augmentation, Draw]]) -> Tensor:
        """Apply all geometric and displacement steps by one sampling."""
        matrices = [s.matrix(d) for s, d in pairs if isinstance(s, GeometricStep)]
        bending = [(s, d) for s, d in pairs if isinstance(s, DisplacementStep)]
        if not matrices and not bending and self.size is None:
            return x
        size = self.size or (x.shape[2], x.shape[3])
        if not matrices:
            matrices = [torch.eye(3, device=x.device).expand(len(x), -1, -1)]
        displacements = [(step.weights(d), step.fields(size, x.device)) for step, d in bending]
        return warp(
            x,
            reduce(torch.matmul, matrices),
            displacements=displacements,
            size=size,
            padding=self.padding,
        )


def warp(
    x: Tensor,
    matrix: Tensor,
    *,
    displacements: Sequence[tuple[Tensor, Tensor]] = (),
    size: tuple[int, int] | None = None,
    padding: str = "zeros",
) -> Tensor:
    """Sample images (n, C, H, W) bilinearly at grids given by matrices (n, 3, 3).

    A displacement is a pair of weights (n, 2, k) and fields (k, H * W). Everything is linear in
    the weights, so that a single product makes the grids of all images.
    """
    size = size or (x.shape[2], x.shape[3])
    weights = torch.cat([matrix[:, :2], *(weights for weights, _ in displacements)], dim=2)
    fields = torch.cat([_coordinates(size, x.device), *(fields for _, fields in displacements)])
    grid = (weights.flatten(0, 1) @ fields).view(len(x), 2, *size).permute(0, 2, 3, 1)
    if padding == "border" and lacks(x.device, "border padding"):
        grid, padding = _inside(grid, x), "zeros"
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _inside(grid: Tensor, x: Tensor) -> Tensor:
    """Move what is outside of the images (n, C, H, W) to the centres of their outermost pixels."""
    height, width = x.shape[2:]
    columns = grid[..., 0].clamp(1 / width - 1, 1 - 1 / width)
    rows = grid[..., 1].clamp(1 / height - 1, 1 - 1 / height)
    return torch.stack([columns, rows], dim=-1)


def _coordinates(size: tuple[int, int], device: torch.device) -> Tensor:
    """Return x, y and 1 of every pixel's centre, x and y in [-1, 1]: shape (3, H * W)."""
    y, x = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in size)
    x, y = x.expand(size), y[:, None].expand(size)
    return torch.stack([x, y, torch.ones(size, device=device)]).flatten(1)


def recolor(x: Tensor, matrix: Tensor) -> Tensor:
    """Apply homogeneous colour matrices (n, C + 1, C + 1) to images and clamp to [0, 1]."""
    n_channels = x.shape[1]
    linear, offset = matrix[:, :-1, :-1], matrix[:, :-1, -1:]
    if n_channels == 1:  # a product of 1x1 matrices is slower than the multiplication it means
        return torch.addcmul(offset[..., None], x, linear[..., None]).clamp_(0, 1)
    return torch.baddbmm(offset, linear, x.flatten(2)).clamp_(0, 1).view_as(x)


def homogeneous(linear: Tensor, offset: Tensor) -> Tensor:
    """Stack maps (n, k, k) and offsets (n, k) into homogeneous matrices (n, k + 1, k + 1)."""
    n, k = offset.shape
    last = torch.eye(k + 1, device=linear.device)[-1:].expand(n, 1, -1)
    return torch.cat([torch.cat([linear, offset[:, :, None]], dim=2), last], dim=1)


def _fused_color_matrix(steps: list[tuple["ColorStep", Draw]], mean: Tensor) -> Tensor:
    """Multiply the matrices of colour steps; the mean colour (n, C) follows along."""
    n, n_channels = mean.shape
    total = torch.eye(n_channels + 1, device=mean.device).expand(n, -1, -1)
    for step, draw in steps:
        current = torch.baddbmm(total[:, :-1, -1:], total[:, :-1, :-1], mean[:, :, None])
        total = step.color_matrix(draw, current[:, :, 0]) @ total
    return total
