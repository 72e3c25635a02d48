"""How an estimator is trained: from its parameters and X to its fitted attributes.

Each step is a function: X is checked, a plan is made, networks are built, data are opened, the
trainer runs, and the fitted attributes are collected. On the way, the estimator is only read; it
gets all its fitted attributes at once, at the end, from :func:`set_fitted`.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .._data.preprocessing import Layout, Preprocessor
from .._data.protocols import DataSource, Rows
from .._data.sources import open_source
from .._runtime.device import resolve_device, resolve_precision
from .._runtime.distributed import check_same, on_first, share_state, world_size
from .._runtime.random import Seeds, draw_entropy
from .._training.callbacks import Callback, OnFirst, ProgressBar, StableAssignment
from .._training.checkpoint import Checkpoint, data_identity, tensors_identity
from .._training.epochs import TrainingData
from .._training.frozen import (
    FrozenEncoder,
    assign,
    check_is_trained,
    compute_features,
    frozen_encoder,
    give_back_encoder,
    network_of,
    put_encoder,
    stand_in,
    trains_on_features,
)
from .._training.inference import default_batch_size, map_batches
from .._training.interrupts import Interrupts
from .._training.objective import Objective, Settings
from .._training.state import EpochRecord, TrainConfig, TrainState
from .._training.steps import StepsState
from .._training.trainer import Trainer
from ..augmentations._recipes import make_augmentation
from ..encoders import input_size, make_encoder
from . import errors
from .identity import fit_identity
from .networks import build_objective
from .reading import check_same_rows, file_options, preprocessor_of, row_multiple
from .sklearn_callbacks import FitTasks
from .validation import (
    Samples,
    check_equal_parts,
    check_input,
    check_n_samples,
    check_new_input,
    check_rows_to_contrast,
)

Attributes = dict[str, Any]
"""Fitted attributes of an estimator, by name."""


@dataclass(frozen=True)
class Plan:
    """What a fit does, with every parameter resolved; nothing is built yet."""

    method: type
    """The class of the estimator."""
    params: Settings
    """Its constructor parameters."""
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
        return trains_on_features(self.params.freeze_encoder, self.params.augmentation)


class Online(NamedTuple):
    """What the next ``partial_fit`` goes on from, beside the networks."""

    entropy: int
    optimizer: str
    steps: StepsState


class _Opened(NamedTuple):
    """The data of a fit."""

    stored: DataSource
    """X as it is stored."""
    training: TrainingData
    """What the epochs read: the same, or the features of a frozen encoder."""
    frozen: FrozenEncoder | None
    """The encoder that the objective has when it is fitted, if it is not trained."""


def fit(estimator: Any, X: Any, y: Any) -> Interrupts:
    """Train from the beginning, or with ``warm_start`` from the present weights."""
    goes_on = estimator.warm_start and hasattr(estimator, "_objective")
    check_same(_joint_identity(estimator, goes_on=goes_on))
    checkpoint = _open_checkpoint(estimator)
    samples = read(estimator, X, goes_on=goes_on)
    check_n_samples(len(samples.rows), estimator.n_clusters)
    seeds = drawn_seeds(estimator)
    if checkpoint is not None and checkpoint.entropy is not None:
        seeds = Seeds(checkpoint.entropy)  # what None or a RandomState gave at the first start
    plan = make_plan(estimator, samples, seeds, goes_on=goes_on)
    objective, feature_dim = build_networks(plan)
    if goes_on:
        _hand_down_weights(estimator._objective, objective)
    share_state(objective)
    opened = open_data(plan, objective, feature_dim, first=not goes_on)
    if checkpoint is not None:
        checkpoint.match(_start_identity(plan, opened, objective))

    def attributes(objective: Objective, state: TrainState) -> Attributes:
        _number_by_size(plan, objective, opened)
        return {
            **_attributes(plan, objective, feature_dim, opened),
            **_course(state.history),
        }

    tasks = FitTasks(estimator, X, y, attributes)
    callbacks = [*_watchers(plan, objective, opened), OnFirst(tasks)]
    interrupts = Interrupts()
    trainer = Trainer(plan.config, seeds=plan.seeds, device=plan.device, callbacks=callbacks)
    state = trainer.run(objective, opened.training, checkpoint, interrupts)
    with interrupts.waiting():
        fitted = attributes(objective, state)
        set_fitted(estimator, fitted)
        on_first(lambda: tasks.on_success(fitted))
    return interrupts


def partial_fit(estimator: Any, X: Any) -> None:
    """Train for one epoch of a training without a known end."""
    first = not hasattr(estimator, "_objective")
    check_same(_joint_identity(estimator, goes_on=not first))
    samples = read(estimator, X, goes_on=not first)
    if first:
        check_n_samples(len(samples.rows), estimator.n_clusters)
    check_rows_to_contrast(len(samples.rows))
    before: Online | None = estimator._online
    seeds = drawn_seeds(estimator) if before is None else Seeds(before.entropy)
    plan = make_plan(estimator, samples, seeds, goes_on=not first)
    config = replace(plan.config, max_epochs=1, schedule="constant", warmup=0.0)
    plan = replace(plan, config=config)
    if first:
        objective, feature_dim = build_networks(plan)
    else:
        objective = copy.deepcopy(estimator._objective).to(plan.device)
        feature_dim = estimator._n_features_out
    share_state(objective)
    objective.before_single_pass()
    opened = open_data(plan, objective, feature_dim, first=first)
    same_optimizer = before is not None and before.optimizer == estimator.optimizer
    record, after = Trainer(plan.config, seeds=plan.seeds, device=plan.device).run_one_pass(
        objective,
        opened.training,
        number=0 if first else estimator.n_iter_,
        before=before.steps if before is not None and same_optimizer else None,
        starts=first,
    )
    fitted = {
        **_attributes(plan, objective, feature_dim, opened),
        **_longer_course(None if first else estimator, record),
        "_online": Online(plan.seeds.entropy, estimator.optimizer, after.cpu()),
    }
    set_fitted(estimator, fitted)


def set_fitted(estimator: Any, attributes: Attributes) -> None:
    """Set all fitted attributes; nothing of a fitted estimator stays on a device."""
    attributes["_objective"].cpu()
    for name in ("feature_names_in_", "_online"):  # not every training has them
        vars(estimator).pop(name, None)
    for name, value in attributes.items():
        setattr(estimator, name, value)


def read(estimator: Any, X: Any, *, goes_on: bool) -> Samples:
    """Check training samples."""
    files = file_options(estimator)
    if not goes_on:
        samples = check_input(estimator, X, image_shape=estimator.image_shape, files=files)
    else:
        _check_goes_on(estimator)
        layout = estimator._preprocessor.layout
        samples = check_new_input(estimator, X, layout, files=files)
    check_same_rows(samples)
    return samples


def _check_goes_on(estimator: Any) -> None:
    """Refuse parameters that a training cannot go on with."""
    n_before = len(estimator.cluster_sizes_)
    if estimator.n_clusters != n_before:
        raise errors.other_n_clusters(estimator.n_clusters, n_before)
    was_frozen = frozen_encoder(estimator._objective) is not None
    if estimator.freeze_encoder != was_frozen:
        raise errors.other_freeze_encoder(estimator.freeze_encoder, was_frozen)


def drawn_seeds(estimator: Any) -> Seeds:
    """Draw what all randomness of a training follows from, once for all processes."""
    return Seeds(on_first(lambda: draw_entropy(estimator.random_state)))


def make_plan(estimator: Any, samples: Samples, seeds: Seeds, *, goes_on: bool) -> Plan:
    """Resolve all parameters; if the training goes on, the scaling is the estimator's."""
    device = resolve_device(estimator.device)
    if goes_on:
        preprocessor = estimator._preprocessor
    else:
        preprocessor = _learned_scale(samples.rows, samples.layout)
    return Plan(
        method=type(estimator),
        params=Settings(**estimator.get_params(deep=False)),
        samples=samples,
        preprocessor=preprocessor,
        seeds=seeds,
        device=device,
        config=_train_config(estimator, len(samples.rows), device, preprocessor.layout),
    )


def _train_config(
    estimator: Any, n_samples: int, device: torch.device, layout: Layout
) -> TrainConfig:
    """Resolve the parameters of the training loop."""
    batch_size = min(estimator.batch_size, n_samples)
    check_equal_parts(batch_size, world_size(), compiled=estimator.compile)
    max_epochs = estimator.max_epochs
    if max_epochs == "auto":
        max_epochs = default_epochs(n_samples, batch_size)
    return TrainConfig(
        max_epochs=max_epochs,
        batch_size=batch_size,
        optimizer=estimator.optimizer,
        learning_rate=estimator.learning_rate,
        weight_decay=estimator.weight_decay,
        schedule=estimator.schedule,
        warmup=estimator.warmup,
        precision=resolve_precision(estimator.precision, device, layout.sample_shape),
        compile=estimator.compile,
        max_time=estimator.max_time,
    )


def default_epochs(n_samples: int, batch_size: int) -> int:
    """Return the epochs of ``max_epochs="auto"``: at least 12, and at least 560 steps."""
    return max(12, math.ceil(560 / (n_samples // batch_size)))


def _learned_scale(X: Rows, layout: Layout) -> Preprocessor:
    """Learn the statistics of rows, once for all processes."""
    return on_first(lambda: Preprocessor.learn(X, layout))


def build_networks(plan: Plan) -> tuple[Objective, int]:
    """Build an objective with new weights; return it and the number of its features."""
    if plan.params.freeze_encoder:
        check_is_trained(plan.params.encoder)
    with plan.seeds.fork_global("init", device=plan.device):
        encoder, feature_dim = make_encoder(plan.params.encoder, plan.layout.sample_shape)
        objective = build_objective(plan.method, plan.params, plan.layout, encoder, feature_dim)
        return objective.to(plan.device), feature_dim


def _hand_down_weights(fitted: Objective, objective: Objective) -> None:
    """Let new networks begin with the present weights."""
    weights = fitted.state_dict()
    try:
        objective.adapt_to(weights)
        objective.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise errors.weights_do_not_fit(error) from error


def open_data(plan: Plan, objective: Objective, feature_dim: int, *, first: bool) -> _Opened:
    """Let the objective and the samples fit together; at first, learn the scale of features."""
    stored = open_source(plan.samples.rows, device=plan.device)
    scale = preprocessor_of(plan.samples, plan.preprocessor)
    preprocess: nn.Module = copy.deepcopy(scale).to(plan.device)
    source, layout, frozen = stored, plan.layout, frozen_encoder(objective)
    if frozen is not None:
        if first or plan.on_features:
            multiple = row_multiple(plan.layout)
            features = compute_features(frozen.network, stored, preprocess, multiple=multiple)
        of_features = Layout((feature_dim,))
        if first:
            frozen.rescale = _learned_scale(features, of_features).to(plan.device)
        if plan.on_features:
            source, layout = open_source(features, device=plan.device), of_features
            preprocess = frozen.rescale
        put_encoder(objective, stand_in() if plan.on_features else frozen)
    size = input_size(objective.encoder)
    augment = make_augmentation(plan.params.augmentation, layout.sample_shape, size)
    return _Opened(stored, TrainingData(source, preprocess, augment.to(plan.device)), frozen)


def _open_checkpoint(estimator: Any) -> Checkpoint | None:
    """Open the checkpoint that a fit goes on from and is written to, if there is one."""
    if estimator.checkpoint is None:
        return None
    checkpoint = Checkpoint(estimator.checkpoint, estimator.checkpoint_every)
    checkpoint.match(fit_identity(estimator))
    return checkpoint


def _joint_identity(estimator: Any, *, goes_on: bool) -> dict[str, Any]:
    """Tell what processes that train together must have in common, beside X."""
    return {**fit_identity(estimator), "n_iter_": estimator.n_iter_ if goes_on else 0}


def _start_identity(plan: Plan, opened: _Opened, objective: Objective) -> dict[str, Any]:
    """Tell a fit from others by all that it starts from, beside the parameters."""
    weights = dict(objective.state_dict())
    if opened.frozen is not None:
        weights |= opened.frozen.state_dict(prefix="encoder.")
    scale = preprocessor_of(plan.samples, plan.preprocessor)
    return {
        **data_identity(opened.stored),
        "X.scaling": tensors_identity(scale.state_dict()),
        "entropy": plan.seeds.entropy,
        "initial weights": tensors_identity(weights),
    }


def _watchers(plan: Plan, objective: Objective, opened: _Opened) -> list[Callback]:
    """Return the callbacks of our own that the parameters ask for."""
    params = plan.params
    watchers: list[Callback] = []
    if params.verbose:
        watchers.append(OnFirst(ProgressBar(plan.method.__name__)))
    if params.tol is not None:

        def labels() -> Tensor:
            objective.eval()
            assigned = torch.from_numpy(_assigned(plan, objective, opened))
            objective.train()
            return assigned

        neighbor_start = params.neighbor_start if params.n_neighbors else 0.0
        watchers.append(
            StableAssignment(
                labels,
                tol=params.tol,
                n_iter_no_change=params.n_iter_no_change,
                start=max(params.cluster_start, neighbor_start),
            )
        )
    return watchers


def _number_by_size(plan: Plan, objective: Objective, opened: _Opened) -> None:
    """Renumber the clusters by decreasing size."""
    labels = _assigned(plan, objective, opened)
    sizes = np.bincount(labels, minlength=plan.params.n_clusters)
    order = np.argsort(-sizes, kind="stable")
    objective.permute_clusters(torch.as_tensor(order))


def _attributes(plan: Plan, objective: Objective, feature_dim: int, opened: _Opened) -> Attributes:
    """Return the fitted attributes that do not depend on the course of the training."""
    samples = plan.samples
    labels = _assigned(plan, objective, opened)
    if opened.frozen is not None:
        give_back_encoder(objective, opened.frozen)
    names = {} if samples.names is None else {"feature_names_in_": samples.names}
    return {
        **names,
        "n_features_in_": samples.n_features,
        "_n_features_out": feature_dim,
        "_preprocessor": plan.preprocessor,
        "_objective": objective,
        "encoder_": network_of(objective),
        "input_shape_": plan.layout.shape,
        "device_": str(plan.device),
        "precision_": plan.config.precision,
        "labels_": samples.with_skipped(labels, -1),
        "cluster_sizes_": np.bincount(labels, minlength=plan.params.n_clusters),
        "skipped_": list(samples.skipped.values()),
    }


def _course(history: list[EpochRecord]) -> Attributes:
    """Return the attributes that tell the course of a training."""
    return {
        "n_iter_": len(history),
        "loss_curve_": [record.total for record in history],
        "history_": {name: [record.terms[name] for record in history] for name in history[0].terms},
    }


def _longer_course(before: Any, record: EpochRecord) -> Attributes:
    """Return the course of the training of an estimator, or of a new one, one epoch longer."""
    if before is None:
        return _course([record])
    return {
        "n_iter_": len(before.loss_curve_) + 1,
        "loss_curve_": [*before.loss_curve_, record.total],
        # a part that fit has dropped, such as a finer head, has no loss any more
        "history_": {
            name: [*past, record.terms.get(name, 0.0)] for name, past in before.history_.items()
        },
    }


def _assigned(plan: Plan, objective: Objective, opened: _Opened) -> np.ndarray:
    """Return the labels of the rows, computed as ``predict`` does: with the same bits."""
    batches = map_batches(
        lambda x: assign(objective, opened.training.preprocess(x)),
        opened.training.source,
        batch_size=default_batch_size(opened.stored.n_features),
        multiple=row_multiple(plan.layout),
    )
    labels, known = [], []
    for batch in batches:
        labels.append(batch.argmax(dim=1).cpu())
        known.append(batch.isfinite().all().cpu())
    if not all(known):
        raise errors.assignments_diverged(plan.params.learning_rate)
    return torch.cat(labels).numpy()
