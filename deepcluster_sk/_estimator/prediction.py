"""What a fitted estimator computes for samples."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._data.sources import open_source
from .._runtime.device import move_to, resolve_device
from .._runtime.distributed import alone
from .._runtime.random import is_foreign
from .._training.inference import collect, map_batches
from .._training.objective import Objective
from .._training.work import is_small
from .opening import file_options
from .samples import row_multiple
from .validation import check_new_input


def infer(estimator: Any, X: Any, function: Callable[[Objective, Tensor], Tensor]) -> np.ndarray:
    """Apply a function of objective and preprocessed batch to all samples.

    A process of a job computes all of them by itself: the others may do something else.

    Parameters
    ----------
    estimator : object
        Of this package; it stays as it is.
    X : array-like
        New samples.
    function : callable
        Maps an objective and a preprocessed batch to a tensor of shape (B, m).

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
    estimator: Any, X: Any, function: Callable[[Objective, Tensor], Tensor]
) -> np.ndarray:
    layout = estimator._preprocessor.layout
    samples = check_new_input(estimator, X, layout, files=file_options(estimator))
    device = resolve_device(estimator.device)
    objective = estimator._objective
    preprocess = samples.preprocessor(estimator._preprocessor)
    if device.type != "cpu":  # a copy, so that nothing of the estimator stays on the device
        objective = move_to(copy.deepcopy(objective), device)
        preprocess = move_to(copy.deepcopy(preprocess), device)
    source = open_source(samples.rows, device=device)
    batches = map_batches(
        lambda x: function(objective, preprocess(x)).float(),
        source,
        multiple=row_multiple(layout),
        one_thread=device.type == "cpu" and is_small(objective, layout.sample_shape),
        foreign=is_foreign(objective),
    )
    return samples.with_skipped(collect(batches, source.n_samples).numpy(), np.nan)


def hard_labels(assignments: np.ndarray) -> np.ndarray:
    """Return the most probable clusters; -1 for files that were skipped."""
    return np.where(np.isnan(assignments[:, 0]), -1, assignments.argmax(axis=1))
