"""Plain data that the loop, its callbacks, checkpoints and the estimator share."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from .._data.protocols import DataSource
from .objective import Objective

if TYPE_CHECKING:
    from .._runtime.device import Precision
    from ..augmentations._base import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop, resolved: no "auto" is left."""

    max_epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup: float
    precision: "Precision"
    self_labeling: float = 0.0
    """Share of the epochs, the last ones, in which the network learns its own labels."""
    compile: bool = False
    max_time: float | None = None
    one_thread: bool = False
    """Whether torch computes each operation in one thread; then a companion helps."""
    row_multiple: int = 1
    """Rows of a batch whose features are computed are filled up to a multiple of it."""


@dataclass(frozen=True)
class EpochRecord:
    """Means over the batches of one epoch."""

    total: float
    terms: dict[str, float]


@dataclass
class TrainState:
    """How far a run has come."""

    max_epochs: int
    """As planned now: fewer than asked for where the time is short."""
    history: list[EpochRecord] = field(default_factory=list)
    seconds: float = 0.0
    """Duration of the epochs in the history, also of those before an interruption."""
    n_stable: int = 0
    """Number of latest epochs in a row in which almost no sample changed its cluster."""
    stopped: bool = False
    """Whether a callback ended the run."""


class Trained(NamedTuple):
    """What a training leaves."""

    objective: Objective
    features: Tensor | None
    """Of all rows, by the final encoder; None if they are too many, or spread over processes."""


class TrainingData(NamedTuple):
    """What the epochs read, and what becomes of it before an objective sees it."""

    source: DataSource
    """Rows as they are stored."""
    preprocess: nn.Module
    """Maps a stored batch to one on a common scale, float32 of shape (B, *sample_shape)."""
    augment: "Augmentation"
    """Varies a preprocessed batch."""
