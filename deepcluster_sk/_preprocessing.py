"""From a stored batch to what augmentations and encoders see."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from torch import Tensor, nn

_CHUNK = 4096  # rows read at a time: a memory map is never loaded whole
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
    def learn(cls, X: np.ndarray, layout: Layout) -> "Preprocessor":
        """Learn the statistics of the flattened training set X (n, d)."""
        if not layout.is_image:
            scaler = StandardScaler()
            for rows in gen_batches(len(X), _CHUNK):
                scaler.partial_fit(X[rows])
            return cls(layout, scaler.mean_, scaler.scale_)
        if X.dtype == np.uint8:
            return cls(layout, np.float64(0), np.float64(255))
        low, high = np.float64(X.min()), np.float64(X.max())
        return cls(layout, low, (high - low) or np.float64(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map a stored batch (n, d) to float32 of shape (n, *sample_shape)."""
        # subtract before rounding to float32: columns far from zero keep their digits
        wide = x.dtype if x.is_floating_point() else torch.float32
        x = ((x - self.offset.to(wide)) / self.scale.to(wide)).float()
        if not self.layout.is_image:
            return x / torch.sqrt(1 + (x / _MOST) ** 2)
        x = x.view(len(x), *self.layout.shape)
        if self.layout.channels == "last":
            return x.permute(0, 3, 1, 2)
        return x if self.layout.channels == "first" else x[:, None]
