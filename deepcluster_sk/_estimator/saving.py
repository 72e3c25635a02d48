"""What of an estimator goes into a file, and what is made of a file."""

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Self, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._data.preprocessing import Layout, Preprocessor
from .._runtime.file_format import write_file
from .._runtime.process_group import may_write
from .._runtime.random import Seeds
from .._training.frozen import network_of
from .._training.objective import Objective
from ..encoders import build_encoder, is_kept_contiguous, keep_contiguous
from ..exceptions import SavedModelError
from .onnx import Dtype, PredictProba, write_onnx

_CUSTOM = ("encoder", "augmentation")  # parameters that may be code
_SAVED = (
    "n_features_in_",
    "feature_names_in_",
    "_n_features_out",
    "n_iter_",
    "loss_curve_",
    "history_",
    "device_",
    "precision_",
    "skipped_",
)


# parameters that leave the result of a fit as it is
_WITHOUT_EFFECT = ("checkpoint", "checkpoint_every", "device", "verbose")


class SavingMixin(BaseEstimator):
    """The way of a fitted estimator into a file and back."""

    _objective: Objective
    _preprocessor: Preprocessor

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one file of tensors and JSON, without any code.

        :func:`deepcluster_sk.load` opens it. The weights of a custom encoder are written, its code
        is not: the module has to be passed to ``load`` again. A custom augmentation, which only
        training needs, is left out, and so are a ``RandomState`` instance and the path of a
        `checkpoint`. In a job of several processes, rank 0 writes the file, and the others return
        at once.

        Parameters
        ----------
        path : path-like
            The file is replaced if it exists.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        if not may_write():
            return
        params = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        params["checkpoint"] = None  # a path of this machine
        tensors = {f"objective.{k}": v for k, v in self._objective.state_dict().items()}
        tensors |= {f"preprocessor.{k}": v for k, v in self._preprocessor.state_dict().items()}
        tensors["labels_"] = torch.from_numpy(self.labels_)
        layout = self._preprocessor.layout
        fitted = {name: getattr(self, name) for name in _SAVED if hasattr(self, name)}
        if "feature_names_in_" in fitted:
            fitted["feature_names_in_"] = fitted["feature_names_in_"].tolist()
        header = {
            "version": version("deepcluster_sk"),
            "class": type(self).__name__,
            "params": params,
            "custom": [name for name in _CUSTOM if not isinstance(getattr(self, name), str)],
            "layout": {"shape": layout.shape, "channels": layout.channels},
            "kept_contiguous": is_kept_contiguous(network_of(self._objective)),
            "fitted": fitted,
        }
        write_file(path, header, tensors)

    def to_onnx(self, path: str | os.PathLike[str], *, dtype: Dtype = "float32") -> None:
        """Write preprocessing, encoder and assignment as one ONNX graph.

        The graph takes samples as :meth:`predict_proba` does and returns the same, without Python,
        torch or this package. Its input ``"X"`` has the shape ``(n, *input_shape_)`` for any n, or
        ``(n, n_features_in_)`` where `image_shape` says how rows are read; its output
        ``"predict_proba"`` the shape ``(n, n_clusters)``, float32. It checks nothing: samples must
        be finite. The metadata of the file are ``"class"``, ``"n_clusters"`` and
        ``"deepcluster_sk"``, the version of the package.

        Needs the extra ``onnx``.

        Parameters
        ----------
        path : path-like
            The file is replaced if it exists.
        dtype : {"float32", "float64", "uint8"}, default="float32"
            Of the samples that the graph takes. The values are those of the training set:
            images fitted as ``uint8`` or from files are passed in [0, 255], whatever their dtype.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `dtype` is none of these.
        ImportError
            If a package of the extra is missing, or torch is older than 2.6.
        OnnxExportError
            If the encoder has no counterpart in ONNX.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        if dtype not in get_args(Dtype):
            raise ValueError(f"dtype={dtype!r}, expected one of {list(get_args(Dtype))}.")
        if not may_write():
            return
        metadata = {
            "class": type(self).__name__,
            "n_clusters": str(len(self.cluster_sizes_)),
            "deepcluster_sk": version("deepcluster_sk"),
        }
        flattened = self.image_shape is not None
        write_onnx(
            path,
            PredictProba(self._objective, self._preprocessor),
            sample_shape=(self.n_features_in_,) if flattened else self.input_shape_,
            dtype=dtype,
            metadata=metadata,
        )

    @classmethod
    def _from_saved(
        cls,
        header: dict[str, Any],
        tensors: dict[str, Tensor],
        *,
        encoder: nn.Module | Callable[[], nn.Module] | None,
        device: str | torch.device | None,
    ) -> Self:
        """Build a fitted estimator from what :meth:`save` wrote."""
        params = dict(header["params"])
        if "encoder" in header["custom"]:
            if encoder is None:
                raise SavedModelError(
                    "The estimator was saved with an encoder of its own, whose code is not in the "
                    "file. Pass the module, or a callable that returns it, as encoder=."
                )
            params["encoder"] = encoder
        for name, value in params.items():  # JSON knows no tuples
            params[name] = tuple(value) if isinstance(value, list) else value
        if device is not None:
            params["device"] = device
        params["checkpoint"] = None  # a stranger's path, which fit would write to
        model = cls(**params)
        model._validate_params()
        layout = Layout(tuple(header["layout"]["shape"]), header["layout"]["channels"])
        for name, value in header["fitted"].items():
            if name not in _SAVED:
                raise KeyError(name)
            setattr(model, name, value)
        if hasattr(model, "feature_names_in_"):
            model.feature_names_in_ = np.array(model.feature_names_in_, dtype=object)
        model.input_shape_ = layout.shape
        model._preprocessor = Preprocessor(
            layout, tensors["preprocessor.offset"], tensors["preprocessor.scale"]
        )
        with Seeds(0).fork_global("init"):  # weights are drawn in vain
            network = build_encoder(model.encoder, layout.sample_shape, weights=False)
            with torch.device("meta"):  # a hostile file cannot make this allocate anything
                objective = model._build_objective(network)
        prefix = "objective."
        state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        objective.load_state_dict(state, assign=True)
        if header["kept_contiguous"]:
            keep_contiguous(network)
        elif layout.is_image:  # as in training: for the same speed, and the same bits
            objective.to(memory_format=torch.channels_last)
        model._objective = objective.eval()
        model.encoder_ = network_of(objective)
        model.labels_ = tensors["labels_"].numpy()
        assigned = model.labels_[model.labels_ != -1]
        if not ((assigned >= 0) & (assigned < model.n_clusters)).all():
            raise ValueError(f"labels_ are not all in [0, {model.n_clusters})")
        if len(model.labels_) - len(assigned) != len(model.skipped_):
            raise ValueError("labels_ are not -1 for the files in skipped_, and for no others")
        model.cluster_sizes_ = np.bincount(assigned, minlength=model.n_clusters)
        return model


def fit_identity(estimator: BaseEstimator) -> dict[str, Any]:
    """Tell a fit from others by the class and its parameters; JSON can hold it.

    Code is told apart by its name only, and modules by their settings.
    """
    params = estimator.get_params(deep=False)
    return {
        "class": type(estimator).__name__,
        "deepcluster_sk": version("deepcluster_sk"),
        **{name: _name_of(value) for name, value in params.items() if name not in _WITHOUT_EFFECT},
    }


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
    return _plain(value)


def _plain(value: Any) -> Any:
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
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else "auto"
