"""Kinds of parameters: a type for type checkers, and the constraints that scikit-learn checks."""

from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from typing import Annotated

import torch
from numpy.random import RandomState
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from torch import Tensor, nn

from ..augmentations._recipes import RECIPES


def one_of(*names: str) -> StrOptions:
    """Constraint: one of a few strings."""
    return StrOptions(set(names))


_positive_int = Interval(Integral, 1, None, closed="left")
_positive_float = Interval(Real, 0, None, closed="neither")
_fraction = Interval(Real, 0, 1, closed="left")
_open_fraction = Interval(Real, 0, 1, closed="neither")
_closed_fraction = Interval(Real, 0, 1, closed="both")

Boolean = Annotated[bool, "boolean"]
BooleanOrAuto = Annotated[bool | str, "boolean", one_of("auto")]
PositiveInt = Annotated[int, _positive_int]
NonNegativeInt = Annotated[int, Interval(Integral, 0, None, closed="left")]
PositiveFloat = Annotated[float, _positive_float]
PositiveFloatOrAuto = Annotated[float | str, _positive_float, one_of("auto")]
NonNegativeFloat = Annotated[float, Interval(Real, 0, None, closed="left")]
Fraction = Annotated[float, _fraction]
FractionOrAuto = Annotated[float | str, _fraction, one_of("auto")]
PositiveFraction = Annotated[float, Interval(Real, 0, 1, closed="right")]
FractionOrNone = Annotated[float | None, _open_fraction, None]
ClosedFraction = Annotated[float, _closed_fraction]

Clusters = Annotated[int | str, _positive_int, one_of("auto")]
Encoder = Annotated[str | nn.Module | Callable[[], nn.Module], str, nn.Module, callable]
Augment = Annotated[str | Callable[[Tensor], Tensor], one_of("auto", *RECIPES), callable]
Neighbors = Annotated[int | str, Interval(Integral, 0, None, closed="left"), one_of("auto")]
Scale = Annotated[str | None, one_of("auto", "columns", "global", "unit"), None]
ImageShape = Annotated[tuple[int, ...] | None, tuple, list, None]
ImageSize = Annotated[int | tuple[int, int] | str, one_of("auto"), _positive_int, tuple, list]
MaxEpochs = Annotated[int | str, _positive_int, one_of("auto")]
Device = Annotated[str | torch.device, str, torch.device]
Seconds = Annotated[float | None, _positive_float, None]
Tolerance = Annotated[float | None, _closed_fraction, None]
Path = Annotated[str | PathLike[str] | None, str, PathLike, None]
# epochs if int, seconds if float
EpochsOrSeconds = Annotated[
    int | float, _positive_int, Interval(RealNotInt, 0, None, closed="neither")
]
Verbose = Annotated[int, "verbose"]
RandomStateLike = Annotated[int | RandomState | None, "random_state"]
