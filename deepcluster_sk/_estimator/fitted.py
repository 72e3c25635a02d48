"""The attributes of a fitted estimator, from what a training leaves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._data.preprocessing import Preprocessor, Scale
from .._data.protocols import DataSource
from .._data.sources import open_source
from .._runtime.random import is_foreign
from .._training.frozen import (
    FrozenEncoder,
    assign,
    assign_encoded,
    features_of,
    frozen_encoder,
    give_back_encoder,
    network_of,
    scores,
)
from .._training.inference import default_batch_size, map_batches
from .._training.objective import Objective
from .._training.state import EpochRecord, TrainingData
from .._training.steps import StepsState
from . import errors
from .plan import Plan
from .samples import row_multiple

Attributes = dict[str, Any]
"""Fitted attributes of an estimator, by name."""


class Online(NamedTuple):
    """What the next ``partial_fit`` goes on from, beside the networks."""

    entropy: int
    optimizer: str
    steps: StepsState


class Opened(NamedTuple):
    """The data of a fit."""

    stored: DataSource
    """X as it is stored."""
    training: TrainingData
    """What the epochs read: the same, or the features of a frozen encoder."""
    frozen: FrozenEncoder | None
    """The encoder that the objective has when it is fitted, if it is not trained."""


def set_fitted(estimator: Any, attributes: Attributes) -> None:
    """Set all fitted attributes; nothing of a fitted estimator stays on a device."""
    attributes["_objective"].cpu()
    not_always = {"feature_names_in_": None, "_online": None}
    changed = {**vars(estimator), **not_always, **attributes}
    for name in not_always:
        if changed[name] is None:
            del changed[name]
    estimator.__dict__ = changed  # in one step: Ctrl-C cannot leave half of it


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Restore all attributes of an estimator if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        estimator.__dict__ = before
        raise


def lasting_attributes(
    plan: Plan, objective: Objective, feature_dim: int, opened: Opened, labels: np.ndarray
) -> Attributes:
    """Return the fitted attributes that do not depend on the course of the training."""
    samples = plan.samples
    if opened.frozen is not None:
        give_back_encoder(objective, opened.frozen)
    return {
        "feature_names_in_": samples.names,  # None takes the place of those of an earlier fit
        "n_features_in_": samples.n_features,
        "_n_features_out": feature_dim,
        "_preprocessor": plan.preprocessor,
        "_objective": objective,
        "encoder_": network_of(objective),
        "input_shape_": plan.layout.shape,
        "scale_": scale_of_rows(plan.preprocessor, objective),
        "device_": str(plan.device),
        "precision_": plan.config.precision,
        "labels_": samples.with_skipped(labels, -1),
        "cluster_sizes_": np.bincount(labels[labels >= 0], minlength=objective.n_clusters),
        "n_clusters_": objective.n_clusters,
        "skipped_": list(samples.skipped.values()),
    }


def scale_of_rows(preprocessor: Preprocessor, objective: Objective) -> Scale:
    """Tell how rows are scaled, or the features of a frozen encoder."""
    frozen = frozen_encoder(objective)
    rescale = preprocessor if frozen is None else frozen.rescale
    assert isinstance(rescale, Preprocessor)
    return rescale.rule


def course(history: list[EpochRecord]) -> Attributes:
    """Return the attributes that tell the course of a training."""
    return {
        "n_iter_": len(history),
        "loss_curve_": [record.total for record in history],
        "history_": {name: [record.terms[name] for record in history] for name in history[0].terms},
    }


def longer_course(before: Any, record: EpochRecord) -> Attributes:
    """Return the course of the training of an estimator, or of a new one, one epoch longer."""
    if before is None:
        return course([record])
    return {
        "n_iter_": len(before.loss_curve_) + 1,
        "loss_curve_": [*before.loss_curve_, record.total],
        # a part that fit has dropped, such as a finer head, has no loss any more
        "history_": {
            name: [*past, record.terms.get(name, 0.0)] for name, past in before.history_.items()
        },
    }


def assigned_labels(
    plan: Plan,
    objective: Objective,
    opened: Opened,
    features: Tensor | None = None,
    *,
    belongs: Tensor | None = None,
    by_size: bool = False,
) -> np.ndarray:
    """Return the labels of the rows, with the same bits as those of ``predict``.

    Parameters
    ----------
    plan : Plan
    objective : Objective
    opened : Opened
    features : Tensor of shape (n, feature_dim) or None, default=None
        What the encoder of the objective returns for all rows, if it is known.
    belongs : Tensor of shape (n,), bool, or None, default=None
        Which rows have a cluster, the others get -1; None for all.
    by_size : bool, default=False
        Whether the clusters get new numbers, by decreasing size.
    """
    labels, tied = [], []
    for batch in _assignments(plan, objective, opened, features):
        if not batch.isfinite().all():
            raise errors.assignments_diverged(plan.params.learning_rate)
        is_largest = (batch == batch.amax(dim=1, keepdim=True)).byte()
        is_tied = is_largest.sum(dim=1) > 1
        labels.append(batch.argmax(dim=1))
        tied.append((is_tied, is_largest[is_tied]))
    numbers = torch.cat(labels)
    if belongs is None:
        belongs = torch.ones_like(numbers, dtype=torch.bool)
    if by_size:
        sizes = torch.bincount(numbers[belongs], minlength=objective.n_clusters)
        order = sizes.argsort(descending=True, stable=True)
        objective.regroup(order.argsort())
        numbers = order.argsort()[numbers]
        # of equal values, predict takes the first one
        is_tied, is_largest = map(torch.cat, zip(*tied, strict=True))
        numbers[is_tied] = is_largest[:, order].argmax(dim=1)
    return numbers.where(belongs, -1).cpu().numpy()


def row_scores(plan: Plan, objective: Objective, opened: Opened) -> Tensor:
    """Return how typical all rows are, with the same bits as ``score_samples``: (n,)."""
    return torch.cat(list(_from_samples(plan, objective, opened, scores)))[:, 0]


def score_offset(of_rows: Tensor, fraction: float) -> float:
    """Return the score that a share of the rows is below.

    It is between two scores, so that rounding decides about no row.
    """
    ordered = of_rows.cpu().double().sort().values
    last = int(fraction * (len(ordered) - 1))
    return float(ordered[last : last + 2].mean())


def _assignments(
    plan: Plan, objective: Objective, opened: Opened, features: Tensor | None
) -> Iterator[Tensor]:
    """Yield the soft assignments of all rows, batch by batch as ``predict`` computes them."""
    if features is None:
        return _from_samples(plan, objective, opened, assign)
    source = open_source(features.cpu().numpy(), device=plan.device)
    return _mapped(plan, objective, opened, source, partial(assign_encoded, objective))


def _from_samples(
    plan: Plan,
    objective: Objective,
    opened: Opened,
    function: Callable[[Objective, Tensor, Tensor], Tensor],
) -> Iterator[Tensor]:
    """Yield a function of objective, features and inputs for all rows."""
    _, training, _ = opened
    precision = plan.config.precision

    def of_samples(x: Tensor) -> Tensor:
        inputs = training.preprocess(x)
        return function(objective, features_of(objective, inputs, precision), inputs)

    return _mapped(plan, objective, opened, training.source, of_samples)


def _mapped(
    plan: Plan,
    objective: Objective,
    opened: Opened,
    source: DataSource,
    function: Callable[[Tensor], Tensor],
) -> Iterator[Tensor]:
    """Yield a function of the rows of a source, in batches as those of predictions."""
    return map_batches(
        function,
        source,
        batch_size=default_batch_size(opened.stored.n_features),
        multiple=row_multiple(plan.layout),
        one_thread=plan.config.one_thread,
        foreign=is_foreign(objective),
    )
