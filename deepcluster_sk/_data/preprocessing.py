"""From a stored batch to what augmentations and encoders see."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from torch import Tensor, nn

from . import errors
from .protocols import Rows

_CHUNK = 4096  # rows read at a time: a memory map is never loaded whole
_CHUNK_VALUES = 2**23  # and of long rows, fewer
_LARGEST = 1e37  # values whose differences float32 holds as well, with some room
_FINITE = 1e18  # what is farther from the mean, in standard deviations, is squared like this
_MOST = 3.0  # standard deviations: a rare feature must not outweigh all others in a distance


@dataclass(frozen=True)
class Layout:
    """How one stored, flattened sample is read.

    Attributes
    ----------
    shape : tuple of int
        ``(d,)``, ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``, as given by the user.
    channels : {"none", "first", "last"}
        Where the channel axis is; "none" for rows and for grey images without one.
    """

    shape: tuple[int, ...]
    channels: Literal["none", "first", "last"] = "none"

    @property
    def is_image(self) -> bool:
        """Whether samples are images."""
        return len(self.shape) > 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape that the encoder sees: ``(d,)`` or ``(C, H, W)``."""
        if len(self.shape) == 1:
            return self.shape
        if len(self.shape) == 2:
            return (1, *self.shape)
        return self.shape if self.channels == "first" else (self.shape[2], *self.shape[:2])


class Preprocessor(nn.Module):
    """Unflatten, move the channels first, and scale with statistics learned in ``fit``.

    Images become float32 in [0, 1]: uint8 is divided by 255, floats are mapped by the smallest and
    largest value of the training set. Rows are standardised per column, and outliers drawn in
    smoothly, to three standard deviations at the most: ``z / sqrt(1 + (z / 3)^2)``.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, layout: Layout, offset: ArrayLike, scale: ArrayLike) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("offset", torch.as_tensor(offset))
        self.register_buffer("scale", torch.as_tensor(scale))

    @classmethod
    def learn(cls, X: Rows, layout: Layout) -> "Preprocessor":
        """Learn the statistics of the flattened training set X (n, d), piece by piece.

        Raises
        ------
        ValueError
            If values are so large that float32 does not hold their differences.
        """
        if layout.is_image and X.dtype == np.uint8:
            return cls.of_bytes(layout)
        if not layout.is_image:
            scaler = StandardScaler()
            with np.errstate(over="ignore", invalid="ignore"):
                for piece in _pieces(X):
                    scaler.partial_fit(piece)
            fits = (np.abs(scaler.mean_) < _LARGEST) & (scaler.var_ < _LARGEST**2)
            if not fits.all():
                column = int(fits.argmin())
                value = max((_largest(piece[:, column]) for piece in _pieces(X)), key=abs)
                raise errors.too_large_to_scale(f"column {column}", value)
            return cls(layout, scaler.mean_, scaler.scale_)
        ends = np.array([(piece.min(), piece.max()) for piece in _pieces(X)], dtype=np.float64)
        low, high = ends[:, 0].min(), ends[:, 1].max()
        if abs(_largest(ends)) >= _LARGEST:
            raise errors.too_large_to_scale("an image", _largest(ends))
        return cls(layout, low, (high - low) or np.float64(1))

    @classmethod
    def of_bytes(cls, layout: Layout) -> "Preprocessor":
        """Return the preprocessor of uint8 images, which has nothing to learn."""
        return cls(layout, np.float64(0), np.float64(255))

    def forward(self, x: Tensor) -> Tensor:
        """Map a stored batch (n, d) to float32 of shape (n, *sample_shape)."""
        # subtract before rounding to float32: columns far from zero keep their digits
        wide = x.dtype if x.is_floating_point() else torch.float32
        # converted first: torch is eight times slower when it mixes bytes and floats
        scale = self.scale.to(wide).clamp_min(torch.finfo(wide).tiny)  # 0 / 0 is not a number
        x = (x.to(wide) - self.offset.to(wide)).div_(scale).clamp_(-_FINITE, _FINITE).float()
        if not self.layout.is_image:
            return x / torch.sqrt(1 + (x / _MOST) ** 2)
        x = torch.unflatten(x, 1, self.layout.shape)
        if self.layout.channels == "last":
            return x.permute(0, 3, 1, 2)
        return x if self.layout.channels == "first" else x[:, None]


def _pieces(X: Rows) -> Iterator[np.ndarray]:
    """Read rows piece by piece."""
    n_rows = max(1, min(_CHUNK, _CHUNK_VALUES // X.shape[1]))
    return (X[rows] for rows in gen_batches(len(X), n_rows))


def _largest(x: np.ndarray) -> float:
    """Return the value that is farthest from zero."""
    return float(max(x.min(), x.max(), key=abs))
