"""How an estimator is trained: from its parameters and X to its fitted attributes.

Each step is a function: X is checked, a plan is made, networks are built, data are opened, the
trainer runs, and the fitted attributes are collected. On the way, the estimator is only read; it
gets all its fitted attributes at once, at the end, from :func:`set_fitted`.
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._data.preprocessing import Layout
from .._data.sources import open_source
from .._pretrained import is_used_as_it_is, parsed_name
from .._runtime.device import move_to
from .._runtime.distributed import on_first, rank, share_state
from .._runtime.process_group import check_same
from .._runtime.random import Seeds
from .._runtime.threads import one_thread
from .._training.callbacks import Callback, OnFirst, ProgressBar, StableAssignment
from .._training.checkpoint import Checkpoint, data_identity, tensors_identity
from .._training.frozen import (
    check_is_trained,
    compute_features,
    frozen_encoder,
    put_encoder,
    stand_in,
)
from .._training.interrupts import Interrupts
from .._training.objective import Objective
from .._training.state import Trained, TrainingData, TrainState
from .._training.trainer import Trainer
from .._training.work import is_small
from ..augmentations._foreign import Checked
from ..augmentations._recipes import make_augmentation
from ..encoders import input_size, make_encoder
from . import errors
from .fitted import (
    Attributes,
    Online,
    Opened,
    assigned_labels,
    course,
    lasting_attributes,
    longer_course,
    row_scores,
    score_offset,
    set_fitted,
)
from .identity import feature_cache, fit_identity
from .networks import build_objective, check_sizes
from .opening import file_options
from .plan import Plan, drawn_seeds, freezes_encoder, learned_scale, make_plan, seen_size
from .samples import Samples, row_multiple
from .sklearn_callbacks import FitTasks, with_callbacks
from .validation import check_input, check_n_samples, check_new_input

_TRIED_SAMPLES = 4  # that an augmentation of the user is tried on


@with_callbacks
def fit(estimator: Any, X: Any, y: Any) -> Interrupts:
    """Train from the beginning, or with ``warm_start`` from the present weights."""
    goes_on = estimator.warm_start and hasattr(estimator, "_objective")
    check_same(_joint_identity(estimator, goes_on=goes_on))
    checkpoint = _open_checkpoint(estimator)
    samples = read(estimator, X, goes_on=goes_on)
    check_n_samples(len(samples.rows), estimator.n_clusters)
    if goes_on and is_merged(estimator):
        raise errors.merged_and_warm_start(estimator.n_clusters_)

    def seeds() -> Seeds:
        drawn = drawn_seeds(estimator)
        if checkpoint is None or checkpoint.entropy is None:
            return drawn
        return Seeds(checkpoint.entropy)  # what None or a RandomState gave at the first start

    plan = make_plan(estimator, samples, seeds, goes_on=goes_on)
    check_n_samples(len(samples.rows), plan.params.n_clusters)  # where it is "auto"
    # no file of weights and no network is needed again
    given = estimator.encoder_ if goes_on and parsed_name(estimator.encoder) is not None else None
    objective, feature_dim = build_networks(plan, given)
    if goes_on:
        _hand_down_weights(estimator._objective, objective)
    share_state(objective)
    opened = open_data(plan, objective, feature_dim, first=not goes_on)
    if checkpoint is not None:
        checkpoint.match(_start_identity(plan, opened, objective))
    plan = with_threads(plan, objective)

    def attributes(trained: Trained, state: TrainState) -> Attributes:
        objective, features = trained
        offset, belongs = None, None
        if plan.params.outlier_fraction is not None:
            of_rows = row_scores(plan, objective, opened)
            offset = score_offset(of_rows, plan.params.outlier_fraction)
            belongs = of_rows >= offset
        labels = assigned_labels(plan, objective, opened, features, belongs=belongs, by_size=True)
        return {
            **lasting_attributes(plan, objective, feature_dim, opened, labels),
            "offset_": offset,
            **course(state.history),
        }

    tasks = FitTasks(estimator, X, y, attributes)
    callbacks = [*_watchers(plan, objective, opened), OnFirst(tasks)]
    interrupts = Interrupts()
    trainer = Trainer(plan.config, seeds=plan.seeds, device=plan.device, callbacks=callbacks)
    with threads_of(plan):
        state, trained = trainer.run(objective, opened.training, checkpoint, interrupts)
        with interrupts.waiting():
            fitted = attributes(trained, state)
            set_fitted(estimator, fitted)
            on_first(lambda: tasks.on_success(fitted))
    return interrupts


def partial_fit(estimator: Any, X: Any) -> None:
    """Train for one epoch of a training without a known end."""
    first = not hasattr(estimator, "_objective")
    if first and estimator.n_clusters == "auto":
        raise errors.auto_in_partial_fit()
    check_same(_joint_identity(estimator, goes_on=not first))
    samples = read(estimator, X, goes_on=not first)
    if first:
        check_n_samples(len(samples.rows), estimator.n_clusters)
    before: Online | None = estimator._online
    plan = make_plan(
        estimator,
        samples,
        lambda: drawn_seeds(estimator) if before is None else Seeds(before.entropy),
        goes_on=not first,
    )
    config = replace(plan.config, max_epochs=1, schedule="constant", warmup=0.0, self_labeling=0.0)
    plan = replace(plan, config=config)
    if first:
        objective, feature_dim = build_networks(plan)
    else:
        objective = move_to(copy.deepcopy(estimator._objective), plan.device)
        feature_dim = estimator._n_features_out
    share_state(objective)
    objective.before_single_pass()
    opened = open_data(plan, objective, feature_dim, first=first)
    plan = with_threads(plan, objective)
    same_optimizer = before is not None and before.optimizer == estimator.optimizer
    trainer = Trainer(plan.config, seeds=plan.seeds, device=plan.device)
    with threads_of(plan):
        record, after = trainer.run_one_pass(
            objective,
            opened.training,
            number=0 if first else estimator.n_iter_,
            before=before.steps if before is not None and same_optimizer else None,
            starts=first,
        )
        offset = getattr(estimator, "offset_", None)
        belongs = None if offset is None else row_scores(plan, objective, opened) >= offset
        labels = assigned_labels(plan, objective, opened, belongs=belongs)
        fitted = {
            **lasting_attributes(plan, objective, feature_dim, opened, labels),
            **longer_course(None if first else estimator, record),
            "offset_": offset,
            "_online": Online(plan.seeds.entropy, estimator.optimizer, after.cpu()),
        }
    set_fitted(estimator, fitted)


def read(estimator: Any, X: Any, *, goes_on: bool) -> Samples:
    """Check training samples."""
    files = file_options(estimator)
    if not goes_on:
        return check_input(estimator, X, image_shape=estimator.image_shape, files=files)
    _check_goes_on(estimator)
    return check_new_input(estimator, X, estimator._preprocessor.layout, files=files)


def is_merged(estimator: Any) -> bool:
    """Tell whether clusters were merged after the training."""
    objective: Objective = estimator._objective
    return objective.n_clusters < len(objective.cluster_of)


def _check_goes_on(estimator: Any) -> None:
    """Refuse parameters that a training cannot go on with."""
    if estimator.n_clusters not in ("auto", estimator.n_clusters_):
        raise errors.other_n_clusters(estimator.n_clusters, estimator.n_clusters_)
    was_frozen = frozen_encoder(estimator._objective) is not None
    if freezes_encoder(estimator, estimator._preprocessor.layout) != was_frozen:
        raise errors.other_freeze_encoder(estimator.freeze_encoder, was_frozen)


def build_networks(plan: Plan, encoder: nn.Module | None = None) -> tuple[Objective, int]:
    """Build an objective with new weights; return it and the number of its features.

    With an `encoder`, a copy of it takes the place of the one that the parameters name.
    """
    frozen = freezes_encoder(plan.params, plan.layout)
    if frozen and not is_used_as_it_is(plan.params.encoder):
        check_is_trained(plan.params.encoder)
    foreign = not isinstance(plan.params.encoder, str)
    with one_thread(), plan.seeds.drawing("init", foreign=foreign, device=plan.device):
        encoder, feature_dim = make_encoder(
            plan.params.encoder if encoder is None else encoder,
            plan.layout.sample_shape,
            frozen=frozen,
            image_size=seen_size(plan.params),
        )
        check_sizes(plan.method, plan.params, plan.layout, feature_dim, plan.device)
        objective = build_objective(plan.method, plan.params, plan.layout, encoder, feature_dim)
        return move_to(objective, plan.device), feature_dim


def _hand_down_weights(fitted: Objective, objective: Objective) -> None:
    """Let new networks begin with the present weights."""
    weights = fitted.state_dict()
    try:
        objective.adapt_to(weights)
        objective.load_state_dict(weights)
    except (RuntimeError, KeyError, IndexError) as error:
        raise errors.weights_do_not_fit(error) from error


def open_data(plan: Plan, objective: Objective, feature_dim: int, *, first: bool) -> Opened:
    """Let the objective and the samples fit together; at first, learn the scale of features."""
    stored = open_source(plan.samples.rows, device=plan.device)
    scale = plan.samples.preprocessor(plan.preprocessor)
    preprocess: nn.Module = move_to(copy.deepcopy(scale), plan.device)
    source, layout, frozen = stored, plan.layout, frozen_encoder(objective)
    if frozen is not None and (first or plan.on_features):
        multiple = row_multiple(plan.layout)
        features = compute_features(
            frozen.network,
            stored,
            preprocess,
            precision=plan.config.precision,
            multiple=multiple,
            is_small=_is_small(plan, objective),
            cache=feature_cache(
                plan.params.cache, frozen.network, preprocess, plan.config.precision
            ),
            verbose=bool(plan.params.verbose) and rank() == 0,
        )
        of_features = Layout((feature_dim,))
        if first:
            frozen.rescale = move_to(
                learned_scale(features, of_features, plan.params.scale), plan.device
            )
        if plan.on_features:
            source, layout = open_source(features, device=plan.device), of_features
            preprocess = frozen.rescale
    if frozen is not None:
        frozen.precision = plan.config.precision
        put_encoder(objective, stand_in() if plan.on_features else frozen)
    size = input_size(objective.encoder)
    augment = make_augmentation(plan.params.augmentation, layout.sample_shape, size)
    training = TrainingData(source, preprocess, move_to(augment, plan.device))
    _try_augmentation(plan, training, objective.encoder)
    return Opened(stored, training, frozen)


def with_threads(plan: Plan, objective: Objective) -> Plan:
    """Say how many threads compute, once it is known what is trained."""
    small = (plan.device.type == "cpu" and plan.on_features) or _is_small(plan, objective)
    return replace(plan, config=replace(plan.config, one_thread=small))


def _is_small(plan: Plan, objective: Objective) -> bool:
    """Tell whether one thread computes each operation of the encoder."""
    return plan.device.type == "cpu" and is_small(objective, plan.layout.sample_shape)


def threads_of(plan: Plan) -> AbstractContextManager[None]:
    """Return the context of a training."""
    return one_thread() if plan.config.one_thread else nullcontext()


def _try_augmentation(plan: Plan, data: TrainingData, encoder: nn.Module) -> None:
    """Try an augmentation of the user on a few samples, so that it fails before the first step.

    An encoder that sees views of another size than the samples have is tried on them.
    """
    if not isinstance(data.augment, Checked):
        return
    few = torch.arange(min(_TRIED_SAMPLES, data.source.n_samples))
    draws = plan.seeds.generator("augment", device=plan.device)
    for _, stored in data.source.batches([few]):
        with plan.seeds.fork_global("global", device=plan.device):
            samples = data.preprocess(stored)
            views = data.augment.try_out(samples, draws)
            if views.shape != samples.shape:
                _try_encoder(encoder, views, samples.shape)


def _try_encoder(encoder: nn.Module, views: Tensor, shape: torch.Size) -> None:
    """Let an encoder see views of another size than the samples, whose shape is given."""
    was_training = encoder.training
    try:
        with torch.inference_mode():
            encoder.eval()(views)
    except Exception as error:
        raise errors.views_do_not_fit(tuple(views.shape[1:]), tuple(shape[1:]), error) from error
    finally:
        encoder.train(was_training)


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


def _start_identity(plan: Plan, opened: Opened, objective: Objective) -> dict[str, Any]:
    """Tell a fit from others by all that it starts from, beside the parameters."""
    weights = dict(objective.state_dict())
    if opened.frozen is not None:
        weights |= opened.frozen.state_dict(prefix="encoder.")
    scale = plan.samples.preprocessor(plan.preprocessor)
    return {
        **data_identity(opened.stored),
        "X.scaling": tensors_identity(scale.state_dict()),
        "entropy": plan.seeds.entropy,
        "initial weights": tensors_identity(weights),
    }


def _watchers(plan: Plan, objective: Objective, opened: Opened) -> list[Callback]:
    """Return the callbacks of our own that the parameters ask for."""
    params = plan.params
    watchers: list[Callback] = []
    if params.verbose:
        watchers.append(OnFirst(ProgressBar(plan.method.__name__)))
    if params.tol is not None:

        def labels() -> Tensor:
            objective.eval()
            assigned = torch.from_numpy(assigned_labels(plan, objective, opened))
            objective.train()
            return assigned

        labelling_start = 1 - params.self_labeling if params.self_labeling else 0.0
        neighbor_start = params.neighbor_start if params.n_neighbors else 0.0
        watchers.append(
            StableAssignment(
                labels,
                tol=params.tol,
                n_iter_no_change=params.n_iter_no_change,
                start=max(params.cluster_start, neighbor_start, labelling_start),
            )
        )
    return watchers
