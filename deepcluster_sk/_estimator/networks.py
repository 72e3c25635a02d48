"""The networks of a method, built from the parameters of its estimator."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .._data.preprocessing import Layout
from .._training.frozen import build_frozen_objective
from .._training.objective import Objective, Settings
from .parameters import own_parameters
from .plan import trains_on_features

# shared parameters that concern an objective
_OF_OBJECTIVE = ("n_clusters", "cluster_start", "n_neighbors", "neighbor_start", "neighbor_space")


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
    if params.neighbor_space == "auto":
        is_rows = not layout.is_image or trains_on_features(
            params.freeze_encoder, params.augmentation
        )
        values["neighbor_space"] = "inputs" if is_rows else "features"
    make: Callable[[nn.Module, int], Objective]
    make = partial(method._objective_class, settings=Settings(**values))
    build = partial(build_frozen_objective, make) if params.freeze_encoder else make
    return build(encoder, feature_dim)
