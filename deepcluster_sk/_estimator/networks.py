"""The networks of a method, built from the parameters of its estimator."""

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import nn

from .._data.preprocessing import Layout
from .._runtime.device import available_memory
from .._training.frozen import build_frozen_objective
from .._training.objective import Objective, Settings
from . import errors
from .parameters import own_parameters
from .plan import freezes_encoder, neighbor_space

_AUTO_NEIGHBORS = {"inputs": 15, "features": 10}
# shared parameters that concern an objective
_OF_OBJECTIVE = (
    "n_clusters",
    "join",
    "cluster_start",
    "n_neighbors",
    "neighbor_start",
    "neighbor_space",
)


_COPIES = 3  # of a trained weight, at least: itself, its gradient, an average of the optimiser


def check_sizes(
    method: Any, params: Settings, layout: Layout, feature_dim: int, device: torch.device
) -> None:
    """Refuse sizes of networks and queues that do not fit into memory; nothing is allocated.

    The encoder, which is there already, is left out.

    Raises
    ------
    MemoryError
        With the parameters that are sizes.
    """
    try:
        with torch.device("meta"):
            planned = build_objective(method, params, layout, nn.Identity(), feature_dim)
        tensors = [*planned.parameters(), *planned.buffers()]
        n_bytes = sum(x.nbytes * (_COPIES if x.requires_grad else 1) for x in tensors)
    except (RuntimeError, TypeError, OverflowError) as error:
        if "overflow" not in str(error).lower():
            raise
        n_bytes = 2**63  # torch cannot count more
    free = available_memory(device)
    if n_bytes > free:
        values = {name: getattr(params, name) for name in ("n_clusters", *own_parameters(method))}
        sizes = {
            name: int(value)
            for name, value in values.items()
            if isinstance(value, Integral) and not isinstance(value, bool)
        }
        raise errors.networks_too_large(sizes, n_bytes, device, free)


def build_objective(
    method: Any, params: Settings, layout: Layout, encoder: nn.Module, feature_dim: int
) -> Objective:
    """Build the objective of a method around an encoder, frozen or not.

    Parameters
    ----------
    method : type
        The class of the estimator.
    params : Settings
        Its constructor parameters.
    layout : Layout
    encoder : torch.nn.Module
        Becomes a part of the objective.
    feature_dim : int
        Number of features that the encoder returns.
    """
    values = {name: getattr(params, name) for name in (*own_parameters(method), *_OF_OBJECTIVE)}
    values["neighbor_space"] = neighbor_space(params, layout)
    if params.n_neighbors == "auto":
        values["n_neighbors"] = _AUTO_NEIGHBORS[values["neighbor_space"]]
    make: Callable[[nn.Module, int], Objective]
    make = partial(method._objective_class, settings=Settings(**values))
    build = partial(build_frozen_objective, make) if freezes_encoder(params, layout) else make
    return build(encoder, feature_dim)
