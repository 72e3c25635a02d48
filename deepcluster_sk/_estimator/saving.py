"""What of an estimator goes into a file, and what is made of a file."""

import os
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._data.preprocessing import Layout, Preprocessor
from .._pretrained import parsed_name
from .._runtime.file_format import write_file
from .._runtime.process_group import may_write
from .._runtime.random import Seeds
from .._training.frozen import network_of
from .._training.objective import Objective
from .._version import __version__
from ..encoders import (
    build_encoder,
    is_kept_contiguous,
    is_kept_float32,
    keep_contiguous,
    keep_float32,
)
from . import errors
from .fitted import scale_of_rows
from .identity import plain
from .networks import build_objective
from .onnx import Dtype, PredictProba, write_onnx
from .parameters import resolved

_CUSTOM = ("encoder", "augmentation")  # parameters that may be code
_TRAINED = ("n_clusters", "join")  # settings of the objective that parameters do not tell
_SAVED = (
    "n_features_in_",
    "feature_names_in_",
    "_n_features_out",
    "n_iter_",
    "offset_",
    "loss_curve_",
    "history_",
    "device_",
    "precision_",
    "skipped_",
)


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to one file of tensors and JSON, without any code."""
    check_is_fitted(estimator)
    if not may_write():
        return
    params = {name: plain(value) for name, value in estimator.get_params(deep=False).items()}
    params["checkpoint"] = params["cache"] = None  # paths of this machine
    name = parsed_name(estimator.encoder)
    if name is not None:
        params["encoder"] = name.without_path
    tensors = {f"objective.{k}": v for k, v in estimator._objective.state_dict().items()}
    tensors |= {f"preprocessor.{k}": v for k, v in estimator._preprocessor.state_dict().items()}
    tensors["labels_"] = torch.from_numpy(estimator.labels_)
    layout, settings = estimator._preprocessor.layout, estimator._objective.settings
    network = network_of(estimator._objective)
    fitted = {name: getattr(estimator, name) for name in _SAVED if hasattr(estimator, name)}
    if "feature_names_in_" in fitted:
        fitted["feature_names_in_"] = fitted["feature_names_in_"].tolist()
    header = {
        "version": __version__,
        "class": type(estimator).__name__,
        "params": params,
        "custom": [name for name in _CUSTOM if not isinstance(getattr(estimator, name), str)],
        "layout": {"shape": layout.shape, "channels": layout.channels},
        "encoder_size": getattr(network, "size", None) if name is not None else None,
        "kept_contiguous": is_kept_contiguous(network),
        "kept_float32": is_kept_float32(network),
        "trained": {name: plain(getattr(settings, name)) for name in _TRAINED},
        "fitted": fitted,
    }
    write_file(path, header, tensors)


def to_onnx(estimator: Any, path: str | os.PathLike[str], *, dtype: Dtype) -> None:
    """Write preprocessing, encoder and assignment of a fitted estimator as one ONNX graph."""
    check_is_fitted(estimator)
    if dtype not in get_args(Dtype):
        raise errors.unknown_dtype(dtype, get_args(Dtype))
    if not may_write():
        return
    metadata = {
        "class": type(estimator).__name__,
        "n_clusters": str(estimator.n_clusters_),
        "deepcluster_sk": __version__,
    }
    flattened = estimator.image_shape is not None
    write_onnx(
        path,
        PredictProba(estimator._objective, estimator._preprocessor),
        sample_shape=(estimator.n_features_in_,) if flattened else estimator.input_shape_,
        dtype=dtype,
        metadata=metadata,
    )


def from_saved(
    method: Any,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    encoder: nn.Module | Callable[[], nn.Module] | None,
    device: str | torch.device | None,
) -> Any:
    """Build a fitted estimator of a class from what :func:`save` wrote."""
    model = method(**_parameters(header, encoder, device))
    model._validate_params()
    layout = Layout(tuple(header["layout"]["shape"]), header["layout"]["channels"])
    for name, value in header["fitted"].items():
        if name not in _SAVED:
            raise errors.unknown_attribute(name)
        setattr(model, name, value)
    if hasattr(model, "feature_names_in_"):
        model.feature_names_in_ = np.array(model.feature_names_in_, dtype=object)
    model.input_shape_ = layout.shape
    model._preprocessor = _preprocessor(layout, tensors)
    objective = _objective(model, header, tensors)
    model._objective = objective.eval()
    model.scale_ = scale_of_rows(model._preprocessor, objective)
    model.encoder_ = network_of(objective)
    model.labels_ = tensors["labels_"].numpy()
    model.n_clusters_ = objective.n_clusters
    assigned = model.labels_[model.labels_ != -1]
    if not ((assigned >= 0) & (assigned < model.n_clusters_)).all():
        raise errors.bad_labels(model.n_clusters_)
    model.offset_ = getattr(model, "offset_", None)  # files of version 0.1.0 have none
    n_outliers = len(model.labels_) - len(assigned) - len(model.skipped_)
    if n_outliers < 0 or (n_outliers and model.offset_ is None):
        raise errors.labels_of_other_files()
    model.cluster_sizes_ = np.bincount(assigned, minlength=model.n_clusters_)
    return model


def check_clusters(model: Any, objective: Objective) -> None:
    """Refuse clusters in a file that do not follow from each other."""
    numbers = objective.cluster_of
    known = sorted(set(numbers.tolist()))
    if numbers.is_floating_point() or known != list(range(len(known))):
        raise errors.bad_cluster_numbers(numbers)
    if model.n_clusters not in ("auto", objective.n_clusters):
        raise errors.bad_number_of_clusters(objective.n_clusters, model.n_clusters)
    with torch.inference_mode():
        shape = objective.probabilities(torch.zeros(1, model._n_features_out)).shape
    if shape != (1, objective.n_clusters):
        raise errors.bad_number_of_clusters(shape[1], objective.n_clusters)


def _preprocessor(layout: Layout, tensors: dict[str, Tensor]) -> Preprocessor:
    """Build the preprocessor of a model from a file."""
    state = _with_prefix("preprocessor.", tensors)
    preprocessor = Preprocessor(layout, state["offset"], state["scale"])
    preprocessor.load_state_dict(state, assign=True)
    return preprocessor


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _parameters(
    header: dict[str, Any],
    encoder: nn.Module | Callable[[], nn.Module] | None,
    device: str | torch.device | None,
) -> dict[str, Any]:
    """Return the constructor arguments in a file."""
    params = dict(header["params"])
    if "encoder" in header["custom"]:
        if encoder is None:
            raise errors.encoder_needed()
        params["encoder"] = encoder
    for name, value in params.items():  # JSON knows no tuples
        params[name] = tuple(value) if isinstance(value, list) else value
    if device is not None:
        params["device"] = device
    # paths of a stranger, which fit would write to
    params["checkpoint"] = params["cache"] = None
    return params


def _objective(model: Any, header: dict[str, Any], tensors: dict[str, Tensor]) -> Objective:
    """Build the networks of a model, with the weights of a file."""
    layout = model._preprocessor.layout
    trained = header.get("trained", {"n_clusters": model.n_clusters, "join": False})
    params = resolved(model, int(trained["n_clusters"]), join=bool(trained["join"]))
    foreign = not isinstance(model.encoder, str)
    with Seeds(0).drawing("init", foreign=foreign):  # weights are drawn in vain
        size = header.get("encoder_size")
        network = build_encoder(
            model.encoder,
            layout.sample_shape,
            weights=False,
            image_size=None if size is None else (int(size[0]), int(size[1])),
        )
        with torch.device("meta"):  # a hostile file cannot make this allocate anything
            objective = build_objective(type(model), params, layout, network, model._n_features_out)
    state = _with_prefix("objective.", tensors)
    objective.adapt_to(state)
    objective.load_state_dict(state, assign=True)
    check_clusters(model, objective)
    if header["kept_contiguous"]:
        keep_contiguous(network)
    elif layout.is_image:  # as in training: for the same speed, and the same bits
        objective.to(memory_format=torch.channels_last)
    if header.get("kept_float32", False):  # older files do not say
        keep_float32(network)
    return objective
