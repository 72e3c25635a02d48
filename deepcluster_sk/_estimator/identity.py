"""What tells a fit from others, and what JSON can hold of parameters."""

import hashlib
import os
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from .._runtime.device import Precision
from .._runtime.distributed import world_size
from .._training.checkpoint import tensors_identity
from .._training.feature_cache import FeatureCache
from .._version import __version__

# parameters that leave the result of a fit as it is
_WITHOUT_EFFECT = ("cache", "checkpoint", "checkpoint_every", "device", "verbose")


def fit_identity(estimator: BaseEstimator) -> dict[str, Any]:
    """Tell a fit from others by the class and its parameters; JSON can hold it.

    Code is told apart by its name only, and modules by their settings.
    """
    params = estimator.get_params(deep=False)
    return {
        "class": type(estimator).__name__,
        "deepcluster_sk": __version__,
        **{name: _name_of(value) for name, value in params.items() if name not in _WITHOUT_EFFECT},
    }


def feature_cache(
    folder: str | os.PathLike[str] | None,
    network: nn.Module,
    preprocess: nn.Module,
    precision: Precision,
) -> FeatureCache | None:
    """Open the features that a frozen encoder has in a folder.

    Encoders are told apart by their settings, parameters and buffers, by their precision, and by
    the versions of this package and of torch; not by code of the user. None if there is no folder,
    and in a job of several processes, which would have to agree on what is missing.
    """
    if folder is None or world_size() > 1:
        return None
    parts = [
        f"{__version__} {torch.__version__} {precision}",
        _name_of(network),
        tensors_identity({**dict(network.named_parameters()), **dict(network.named_buffers())}),
        tensors_identity(preprocess.state_dict()),
        repr(getattr(preprocess, "layout", None)),
    ]
    return FeatureCache(folder, hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16])


def _name_of(value: Any) -> Any:
    """Return what JSON can hold of a parameter, or a name for it."""
    if isinstance(value, nn.Module):
        settings = [
            (path, type(part).__qualname__, name, repr(setting))
            for path, part in value.named_modules()
            for name, setting in sorted(vars(part).items())
            if isinstance(setting, int | float | str | tuple | list) and name != "training"
        ]
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        return f"{type(value).__qualname__} {digest}"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return plain(value)


def plain(value: Any) -> Any:
    """Return what JSON can hold of a parameter; "auto" stands for code."""
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else "auto"
