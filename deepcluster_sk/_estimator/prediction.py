"""What a fitted estimator computes for samples."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._data.sources import open_source
from .._runtime.device import move_to, resolve_device, resolve_precision
from .._runtime.distributed import alone
from .._runtime.random import is_foreign
from .._training.frozen import compute_features, describe, features_of, frozen_encoder, network_of
from .._training.inference import collect, default_batch_size, map_batches
from .._training.objective import Objective
from .._training.work import is_small
from .identity import feature_cache
from .opening import file_options
from .samples import row_multiple
from .validation import check_new_input


class Description(NamedTuple):
    """What a fitted estimator says of samples, each with the bits of the method of its own."""

    assignments: np.ndarray
    """As ``predict_proba`` returns them: (n_samples, n_clusters), float32."""
    scores: np.ndarray | None
    """As ``score_samples`` returns them: (n_samples,), float32; None if it does not know."""
    features: np.ndarray
    """As ``transform`` returns them: (n_samples, feature_dim), float32."""


def description(estimator: Any, X: Any) -> Description:
    """Encode samples once for their assignments, scores and features; raises as :func:`infer`."""
    table = infer(estimator, X, describe)
    ends = [estimator.n_clusters_, table.shape[1] - estimator._n_features_out]
    assignments, scores, features = map(np.ascontiguousarray, np.split(table, ends, axis=1))
    return Description(assignments, scores[:, 0] if scores.shape[1] else None, features)


def infer(
    estimator: Any, X: Any, function: Callable[[Objective, Tensor, Tensor], Tensor]
) -> np.ndarray:
    """Apply a function of objective and features to all samples.

    A process of a job computes all of them by itself: the others may do something else.

    Parameters
    ----------
    estimator : object
        Of this package; it stays as it is.
    X : array-like
        New samples.
    function : callable
        Maps an objective, the features of a batch (B, feature_dim) and what the encoder has mapped
        to them to a tensor (B, m).

    Returns
    -------
    values : ndarray of shape (n_samples, m), float32
        NaN for image files that were skipped.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the samples are not like those of fit.
    """
    check_is_fitted(estimator)
    with alone():
        return _infer_alone(estimator, X, function)


def _infer_alone(
    estimator: Any, X: Any, function: Callable[[Objective, Tensor, Tensor], Tensor]
) -> np.ndarray:
    layout = estimator._preprocessor.layout
    samples = check_new_input(estimator, X, layout, files=file_options(estimator))
    device = resolve_device(estimator.device)
    objective = estimator._objective
    preprocess: nn.Module = samples.preprocessor(estimator._preprocessor)
    if device.type != "cpu":  # a copy, so that nothing of the estimator stays on the device
        objective = move_to(objective.copy_for_prediction(), device)
        preprocess = move_to(copy.deepcopy(preprocess), device)
    source = open_source(samples.rows, device=device)
    multiple = row_multiple(layout)
    small = device.type == "cpu" and is_small(objective, layout.sample_shape)
    network = network_of(objective)
    precision = resolve_precision(estimator.precision, device, layout.sample_shape)
    batch_size = default_batch_size(source.n_features)
    is_frozen = frozen_encoder(objective) is not None
    cache = feature_cache(estimator.cache, network, preprocess, precision) if is_frozen else None
    if cache is not None:
        features = compute_features(
            network,
            source,
            preprocess,
            precision=precision,
            multiple=multiple,
            is_small=small,
            cache=cache,
        )
        source = open_source(features, device=device)

    def mapped(x: Tensor) -> Tensor:
        if cache is not None:
            return function(objective, x, x).float()
        inputs = preprocess(x)
        return function(objective, features_of(objective, inputs, precision), inputs).float()

    batches = map_batches(
        mapped,
        source,
        batch_size=batch_size,
        multiple=multiple,
        one_thread=small,
        foreign=is_foreign(objective),
    )
    return samples.with_skipped(collect(batches, source.n_samples).numpy(), np.nan)


def hard_labels(assignments: np.ndarray) -> np.ndarray:
    """Return the most probable clusters; -1 for files that were skipped."""
    return np.where(np.isnan(assignments[:, 0]), -1, assignments.argmax(axis=1))
