"""Plain data that the loop, its callbacks and the estimator share."""

from dataclasses import dataclass, field

from ._device import Precision


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
    precision: Precision
    compile: bool = False


@dataclass(frozen=True)
class EpochRecord:
    """Means over the batches of one epoch."""

    total: float
    terms: dict[str, float]


@dataclass
class TrainState:
    """How far a run has come."""

    max_epochs: int
    history: list[EpochRecord] = field(default_factory=list)
    interrupted: bool = False
