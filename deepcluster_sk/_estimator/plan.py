"""The plan of a fit: all parameters, resolved against the samples and the machine."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._data.image_files import checked_size
from .._data.preprocessing import Layout, Preprocessor
from .._data.protocols import Rows
from .._pretrained import is_identity, is_used_as_it_is
from .._runtime.device import resolve_device, resolve_precision
from .._runtime.distributed import on_first, world_size
from .._runtime.random import Seeds, draw_entropy
from .._training.objective import Settings
from .._training.state import TrainConfig
from . import errors
from .parameters import resolved
from .samples import Samples, row_multiple

_MOST_CLUSTERS, _LEAST_MEMBERS = 30, 40  # of n_clusters="auto"
_LEAST = (12, 560)  # epochs and steps of max_epochs="auto"
_LEAST_BY_GRAPH = (3, 140)  # where the networks only have to learn clusters that a graph decided on


@dataclass(frozen=True)
class Plan:
    """What a fit does, with every parameter resolved; nothing is built yet."""

    method: type
    """The class of the estimator."""
    params: Settings
    """Its constructor parameters; `n_clusters` of them are trained, and joined later if `join`."""
    samples: Samples
    """X, checked."""
    preprocessor: Preprocessor
    """Scales stored rows, with statistics of the first training set."""
    seeds: Seeds
    """Source of all randomness."""
    device: torch.device
    config: TrainConfig
    """Settings of the training loop."""

    @property
    def layout(self) -> Layout:
        """How a sample is read."""
        return self.preprocessor.layout

    @property
    def on_features(self) -> bool:
        """Whether the training reads the features of a frozen encoder, computed once."""
        return trains_on_features(self.params, self.layout)


def freezes_encoder(params: Any, layout: Layout) -> bool:
    """Tell whether the encoder stays as it is, and its features are computed and scaled.

    Rows that are their own features have been scaled already.
    """
    if is_identity(params.encoder) and not layout.is_image:
        return False
    if params.freeze_encoder == "auto":
        return is_used_as_it_is(params.encoder)
    frozen: bool = params.freeze_encoder
    return frozen


def trains_on_features(params: Any, layout: Layout) -> bool:
    """Tell whether a frozen encoder's features are computed once, and varied as rows are."""
    augmentation = params.augmentation
    on_rows = isinstance(augmentation, str) and augmentation in ("auto", "rows", "none")
    return freezes_encoder(params, layout) and on_rows


def seen_size(params: Any) -> tuple[int, int] | None:
    """Return the height and width at which a pretrained encoder sees images, if they are given."""
    size = checked_size(params.image_size)
    return None if isinstance(size, str) else size


def neighbor_space(params: Any, layout: Layout) -> str:
    """Return where neighbours are searched: ``"inputs"`` or ``"features"``."""
    space: str = params.neighbor_space
    if space != "auto":
        return space
    return "features" if layout.is_image and not trains_on_features(params, layout) else "inputs"


def drawn_seeds(estimator: Any) -> Seeds:
    """Draw what all randomness of a training follows from, once for all processes."""
    return Seeds(on_first(lambda: draw_entropy(estimator.random_state)))


def make_plan(
    estimator: Any, samples: Samples, seeds: Callable[[], Seeds], *, goes_on: bool
) -> Plan:
    """Resolve all parameters.

    Parameters
    ----------
    estimator : object
    samples : Samples
    seeds : callable
        Draws the seeds, which may change a ``RandomState``: called once nothing else can fail.
    goes_on : bool
        Whether the training goes on, with the scaling of the estimator.
    """
    device = resolve_device(estimator.device)
    if goes_on:
        preprocessor = estimator._preprocessor
        before = estimator._objective.settings
        trained, join = before.n_clusters, before.join
    else:
        preprocessor = learned_scale(samples.rows, samples.layout, estimator.scale)
        join = estimator.n_clusters == "auto"
        trained = over_clustered(len(samples.rows)) if join else estimator.n_clusters
    config = _train_config(estimator, len(samples.rows), device, preprocessor.layout)
    n_steps = config.max_epochs * (len(samples.rows) // config.batch_size)
    if config.max_time is not None:
        n_steps = 0  # how many the time allows is not known
    return Plan(
        method=type(estimator),
        params=resolved(estimator, trained, join=join, n_steps=n_steps),
        samples=samples,
        preprocessor=preprocessor,
        device=device,
        config=config,
        seeds=seeds(),
    )


def _train_config(
    estimator: Any, n_samples: int, device: torch.device, layout: Layout
) -> TrainConfig:
    """Resolve the parameters of the training loop."""
    if n_samples < 2:
        raise errors.single_sample(n_samples)
    batch_size = min(estimator.batch_size, n_samples)
    if batch_size < 2:
        raise errors.single_sample_per_batch(batch_size)
    _check_equal_parts(batch_size, world_size(), compiled=estimator.compile)
    max_epochs = estimator.max_epochs
    if max_epochs == "auto":
        by_graph = estimator.n_neighbors != 0 and neighbor_space(estimator, layout) == "inputs"
        least = estimator._least_training or (_LEAST_BY_GRAPH if by_graph else _LEAST)
        max_epochs = default_epochs(n_samples, batch_size, least)
    return TrainConfig(
        max_epochs=max_epochs,
        batch_size=batch_size,
        optimizer=estimator.optimizer,
        learning_rate=estimator.learning_rate,
        weight_decay=estimator.weight_decay,
        schedule=estimator.schedule,
        warmup=estimator.warmup,
        precision=resolve_precision(estimator.precision, device, layout.sample_shape),
        self_labeling=estimator.self_labeling,
        compile=estimator.compile,
        max_time=estimator.max_time,
        row_multiple=row_multiple(layout),
    )


def over_clustered(n_samples: int) -> int:
    """Return how many clusters are trained where their number is unknown, to be joined later."""
    return min(_MOST_CLUSTERS, max(2, n_samples // _LEAST_MEMBERS))


def default_epochs(n_samples: int, batch_size: int, least: tuple[int, int] = _LEAST) -> int:
    """Return the epochs of ``max_epochs="auto"``: at least so many epochs and steps."""
    least_epochs, least_steps = least
    return max(least_epochs, math.ceil(least_steps / (n_samples // batch_size)))


def learned_scale(X: Rows, layout: Layout, rule: Any) -> Preprocessor:
    """Learn the statistics of rows, once for all processes."""
    return on_first(lambda: Preprocessor.learn(X, layout, rule))


def _check_equal_parts(batch_size: int, n_processes: int, *, compiled: bool) -> None:
    """Refuse what several processes cannot do together."""
    if n_processes == 1:
        return
    if batch_size % n_processes:
        fitting = batch_size - batch_size % n_processes
        raise errors.unequal_parts(batch_size, n_processes, fitting or n_processes)
    if compiled:
        raise errors.compiled_in_a_job(n_processes)
