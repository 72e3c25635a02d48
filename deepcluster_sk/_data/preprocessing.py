"""From a stored batch to what augmentations and encoders see."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
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
_ONE_UNIT = 20.0  # times the median deviation; seen: up to 14 in one unit, 380 and more in several
_MANY_COLUMNS = 50
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


Scale = Literal["columns", "global", "unit"] | None
"""How rows are scaled; None for rows that stay as they are, and for images."""


def _numbers(layout: Layout, rule: Scale) -> dict[str, Tensor]:
    """Return the limit and the length that a rule scales with."""
    limit = _MOST if rule == "columns" else math.inf
    length = math.sqrt(math.prod(layout.shape)) if rule == "unit" else 0.0
    return {
        "limit": torch.tensor(limit, dtype=torch.float64),
        "length": torch.tensor(length, dtype=torch.float64),
    }


class Preprocessor(nn.Module):
    """Unflatten, move the channels first, and scale with statistics learned in ``fit``.

    Images become float32 in [0, 1]: uint8 is divided by 255, floats are mapped by the smallest and
    largest value of the training set. Rows are centred, and then scaled as `rule` says:

    - ``"columns"``: each column by its standard deviation; outliers are drawn in smoothly, to three
      standard deviations at the most: ``z / sqrt(1 + (z / 3)^2)``;
    - ``"global"``: all columns by one number, the root of their mean variance;
    - ``"unit"``: each row to the length ``sqrt(d)``;
    - None: neither centred nor scaled.
    """

    offset: Tensor
    scale: Tensor
    limit: Tensor
    length: Tensor

    def __init__(
        self, layout: Layout, offset: ArrayLike, scale: ArrayLike, rule: Scale = None
    ) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("offset", torch.as_tensor(offset))
        self.register_buffer("scale", torch.as_tensor(scale))
        # numbers and no branches: a state dict says all
        for name, number in _numbers(layout, rule).items():
            self.register_buffer(name, number)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 know one way of scaling rows
        rule: Scale = None if self.layout.is_image else "columns"
        for name, number in _numbers(self.layout, rule).items():
            state_dict.setdefault(prefix + name, number)
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)

    @property
    def rule(self) -> Scale:
        """How rows are scaled."""
        if self.limit < math.inf:
            return "columns"
        if self.length > 0:
            return "unit"
        untouched = (self.offset == 0).all() and (self.scale == 1).all()
        return None if self.layout.is_image or untouched else "global"

    @classmethod
    def learn(
        cls, X: Rows, layout: Layout, rule: Scale | Literal["auto"] = "auto"
    ) -> "Preprocessor":
        """Learn the statistics of the flattened training set X (n, d), piece by piece.

        Raises
        ------
        ValueError
            If values are so large that float32 does not hold their differences.
        """
        if layout.is_image and X.dtype == np.uint8:
            return cls.of_bytes(layout)
        if not layout.is_image:
            return cls._learn_rows(X, layout, rule)
        ends = np.array([(piece.min(), piece.max()) for piece in _pieces(X)], dtype=np.float64)
        low, high = ends[:, 0].min(), ends[:, 1].max()
        if abs(_largest(ends)) >= _LARGEST:
            raise errors.too_large_to_scale("an image", _largest(ends))
        return cls(layout, low, (high - low) or np.float64(1))

    @classmethod
    def _learn_rows(cls, X: Rows, layout: Layout, rule: Scale | Literal["auto"]) -> "Preprocessor":
        scaler = StandardScaler()
        with np.errstate(over="ignore", invalid="ignore"):
            for piece in _pieces(X):
                scaler.partial_fit(piece)
        fits = (np.abs(scaler.mean_) < _LARGEST) & (scaler.var_ < _LARGEST**2)
        if not fits.all():
            column = int(fits.argmin())
            value = max((_largest(piece[:, column]) for piece in _pieces(X)), key=abs)
            raise errors.too_large_to_scale(f"column {column}", value)
        if rule == "auto":
            rule = rule_for(np.sqrt(scaler.var_))
        if rule is None:
            return cls(layout, np.zeros_like(scaler.mean_), np.ones_like(scaler.mean_), rule)
        scale = scaler.scale_
        if rule != "columns":
            scale = np.full_like(scale, np.sqrt(scaler.var_.mean()) or 1.0)
        return cls(layout, scaler.mean_, scale, rule)

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
            limit, length = self.limit.float(), self.length.float()
            x = x / torch.sqrt(1 + (x / limit) ** 2)
            return torch.where(length > 0, F.normalize(x, dim=1) * length, x)
        x = torch.unflatten(x, 1, self.layout.shape)
        if self.layout.channels == "last":
            return x.permute(0, 3, 1, 2)
        return x if self.layout.channels == "first" else x[:, None]


def rule_for(deviations: np.ndarray) -> Scale:
    """Choose how rows are scaled, by the standard deviations (d,) of their columns.

    Columns that are measured in one unit, such as pixels, spectra or embeddings, have deviations
    of one order, and the differences between these matter. Where the largest one is far from the
    median, the units differ. Of many columns of one unit, the direction of a row is compared, as is
    usual for embeddings: its length is mostly the strength of a signal.
    """
    varying = deviations[deviations > 0]
    if not len(varying) or varying.max() > _ONE_UNIT * np.median(varying):
        return "columns"
    return "unit" if len(deviations) >= _MANY_COLUMNS else "global"


def _pieces(X: Rows) -> Iterator[np.ndarray]:
    """Read rows piece by piece."""
    n_rows = max(1, min(_CHUNK, _CHUNK_VALUES // X.shape[1]))
    return (X[rows] for rows in gen_batches(len(X), n_rows))


def _largest(x: np.ndarray) -> float:
    """Return the value that is farthest from zero."""
    return float(max(x.min(), x.max(), key=abs))
