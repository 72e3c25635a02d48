"""The scikit-learn face that all methods share."""

import copy
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._callbacks import ProgressBar
from ._data import DataSource, open_source
from ._device import resolve_device, resolve_precision
from ._file_format import write_file
from ._image_files import checked_size
from ._inference import collect, default_batch_size, map_batches
from ._modules import FrozenEncoder
from ._neighbors import NeighborStage
from ._objective import Objective
from ._preprocessing import Layout, Preprocessor
from ._random import Seeds, draw_entropy
from ._state import TrainConfig, TrainState
from ._trainer import Trainer
from ._validation import (
    FileOptions,
    check_input,
    check_n_samples,
    check_new_input,
    fraction,
    non_negative_float,
    non_negative_int,
    one_of,
    positive_float,
    positive_int,
    unchanged_on_error,
)
from .augmentations import Augmentation
from .augmentations._recipes import RECIPES, make_augmentation
from .encoders import build_encoder, input_size, make_encoder
from .exceptions import EncoderError, SavedModelError

_MAX_SILHOUETTE_ROWS = 10_000
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


class Preset(NamedTuple):
    """Settings and results of a paper."""

    settings: dict[str, Any]
    """Constructor arguments for all data sets."""
    data_sets: dict[str, tuple[dict[str, Any], dict[str, float]]]
    """By data set: further constructor arguments, and results."""


def scores(nmi: float, acc: float, ari: float) -> dict[str, float]:
    """Name the three scores that the papers report."""
    return {"NMI": nmi, "ACC": acc, "ARI": ari}


class BaseDeepClusterer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator, ABC
):
    """Everything that the methods share; a method adds its constructor and its objective."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [positive_int],
        "encoder": [str, nn.Module, callable],
        "freeze_encoder": ["boolean"],
        "augmentation": [one_of("auto", *RECIPES), callable],
        "image_shape": [tuple, list, None],
        "image_size": [one_of("auto"), positive_int, tuple, list],
        "on_error": [one_of("raise", "skip")],
        "n_neighbors": [non_negative_int],
        "neighbor_space": [one_of("auto", "inputs", "features")],
        "neighbor_start": [fraction],
        "max_epochs": [positive_int, one_of("auto")],
        "batch_size": [positive_int],
        "optimizer": [one_of("adam", "adamw", "sgd")],
        "learning_rate": [positive_float],
        "weight_decay": [non_negative_float],
        "schedule": [one_of("constant", "cosine")],
        "warmup": [fraction],
        "device": [str, torch.device],
        "precision": [one_of("auto", "float32", "bfloat16", "float16")],
        "compile": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    _paper: ClassVar[Preset]
    """What the paper sets and reports."""
    _against_empty: ClassVar[str] = ""
    """The method's own parameter against empty clusters, for the warning about them."""

    @classmethod
    def paper_settings(cls, data_set: str) -> dict[str, Any]:
        """Return the paper's own settings for a data set.

        ``ContrastiveClustering(**ContrastiveClustering.paper_settings("cifar10"))`` is the method
        without this project's additions. What a paper leaves open is filled in as the user guide
        says. Images are to be passed in the size that the paper uses.

        Parameters
        ----------
        data_set : str
            One of the keys of :meth:`paper_results`.

        Returns
        -------
        settings : dict of str to object
            Constructor arguments, `n_clusters` among them; a new dictionary at each call.

        Raises
        ------
        ValueError
            If the paper has no such data set.
        """
        if data_set not in cls._paper.data_sets:
            raise ValueError(
                f"data_set={data_set!r} is unknown to {cls.__name__}. Expected one of "
                f"{sorted(cls._paper.data_sets)}."
            )
        special, _ = cls._paper.data_sets[data_set]
        return copy.deepcopy({**cls._paper.settings, **special})

    @classmethod
    def paper_results(cls) -> dict[str, dict[str, float]]:
        """Return what the paper reports for each data set.

        Returns
        -------
        results : dict of str to dict of str to float
            ``{"cifar10": {"NMI": ..., "ACC": ..., "ARI": ...}, ...}``, all in [0, 1]. Where the
            paper evaluates representations, ``"linear evaluation"`` is the accuracy of a linear
            classifier on them.
        """
        return {name: dict(results) for name, (_, results) in cls._paper.data_sets.items()}

    @abstractmethod
    def _make_objective(self, encoder: nn.Module, feature_dim: int) -> Objective:
        """Build the networks and the loss of the method."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the networks and assign the training samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W); folder or paths of image files; \
                or torch.utils.data.Dataset
            Rows of features or images; see the notes of the class docstring.
        y : None
            Ignored; present for the interface.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not as documented.
        ImageFileError
            If image files cannot be read; it names them.
        DivergenceError
            If the loss becomes NaN or infinite.
        MemoryError
            If a training step does not fit into memory.
        """
        with unchanged_on_error(self):
            self._validate_params()
            samples = check_input(self, X, image_shape=self.image_shape, files=self._file_options())
            rows, layout = samples.rows, samples.layout
            check_n_samples(len(rows), self.n_clusters)
            device = resolve_device(self.device)
            seeds = Seeds(draw_entropy(self.random_state))
            self._preprocessor = Preprocessor.learn(rows, layout).to(device)
            source = open_source(rows, device=device)
            parts = self._training_parts(source, seeds, device)
            self._objective = objective = parts.objective
            config = self._train_config(len(rows), device)
            state = Trainer(
                config,
                seeds=seeds,
                device=device,
                callbacks=[ProgressBar(type(self).__name__)] if self.verbose else [],
            ).run(objective, parts.source, parts.preprocess, parts.augment)
            self._set_fitted(state, config, device)
            self.skipped_ = list(samples.skipped.values())
            # batches as in predict: the labels get the same bits
            labels = self._number_by_size(parts, default_batch_size(source.n_features))
            self.labels_ = samples.with_skipped(labels, -1)
            objective.encoder = parts.encoder
            self.encoder_ = _network(objective)
            objective.cpu()
            self._preprocessor.cpu()
        self._warn(state)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Assign each sample to its most probable cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Cluster numbers; cluster 0 was the largest one in training. -1 for image files that
            were skipped.
        """
        return _labels(self.predict_proba(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the soft assignments.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.

        Returns
        -------
        assignments : ndarray of shape (n_samples, n_clusters), float32
            Rows sum to one; column k belongs to cluster k. NaN for image files that were skipped.
        """
        return self._infer(X, lambda objective, x: _assign(objective, _encode(objective, x)))

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.

        Returns
        -------
        features : ndarray of shape (n_samples, feature_dim), float32
            NaN for image files that were skipped.
        """
        return self._infer(X, _encode)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean silhouette coefficient of the predicted clusters.

        Computed on the encoder's features with the cosine distance; a measure that needs no
        labels, for model selection.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.
            Of more than 10,000 samples, a fixed random subset of 10,000 is scored.
        y : None
            Ignored; present for the interface.

        Returns
        -------
        score : float
            In [-1, 1], higher is better; -1 if fewer than two clusters, or as many clusters as
            samples, are predicted.
        """
        outputs = self._infer(X, _assign_and_encode)
        outputs = outputs[~np.isnan(outputs[:, 0])]  # files that were skipped
        n_clusters = len(self.cluster_sizes_)
        labels, features = _labels(outputs[:, :n_clusters]), outputs[:, n_clusters:]
        if len(labels) > _MAX_SILHOUETTE_ROWS:
            subset = np.random.default_rng(0).choice(
                len(labels), _MAX_SILHOUETTE_ROWS, replace=False
            )
            labels, features = labels[subset], features[subset]
        if not 2 <= len(np.unique(labels)) < len(labels):
            return -1.0
        return float(silhouette_score(features, labels, metric="cosine"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one file of tensors and JSON, without any code.

        :func:`deepcluster_sk.load` opens it. The weights of a custom encoder are written, its code
        is not: the module has to be passed to ``load`` again. A custom augmentation, which only
        training needs, is left out, and so is a ``RandomState`` instance.

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
        params = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
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
            "fitted": fitted,
        }
        write_file(path, header, tensors)

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
        with torch.device("meta"):  # a hostile file cannot make this allocate anything
            network = build_encoder(model.encoder, layout.sample_shape)
            custom = "augmentation" in header["custom"]
            objective = model._empty_objective(network, custom_augmentation=custom)
        prefix = "objective."
        state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        objective.load_state_dict(state, assign=True)
        model._objective = objective.eval()
        model.encoder_ = _network(objective)
        model.labels_ = tensors["labels_"].numpy()
        assigned = model.labels_[model.labels_ != -1]
        if not ((assigned >= 0) & (assigned < model.n_clusters)).all():
            raise ValueError(f"labels_ are not all in [0, {model.n_clusters})")
        if len(model.labels_) - len(assigned) != len(model.skipped_):
            raise ValueError("labels_ are not -1 for the files in skipped_, and for no others")
        model.cluster_sizes_ = np.bincount(assigned, minlength=model.n_clusters)
        return model

    def _empty_objective(self, network: nn.Module, *, custom_augmentation: bool) -> Objective:
        """Build the objective that the weights in a file belong to."""
        if not self.freeze_encoder:
            return self._make_objective(network, self._n_features_out)
        rescale = Preprocessor(
            Layout((self._n_features_out,)),
            torch.zeros(self._n_features_out),
            torch.ones(self._n_features_out),
        )
        frozen = FrozenEncoder(network, rescale)
        on_features = self._trains_on_features and not custom_augmentation
        seen = nn.Identity() if on_features else frozen
        objective = self._make_objective(seen, self._n_features_out)
        objective.encoder = frozen
        return objective

    def _file_options(self) -> FileOptions:
        """Resolve the parameters of image files."""
        return FileOptions(checked_size(self.image_size), self.on_error, bool(self.verbose))

    @property
    def _trains_on_features(self) -> bool:
        """Whether the features of a frozen encoder are computed once and then are rows."""
        return self.freeze_encoder and _is_for_features(self.augmentation)

    def _training_parts(self, source: DataSource, seeds: Seeds, device: torch.device) -> "_Parts":
        """Build what is trained, and what it is trained on."""
        preprocess = self._preprocessor
        with seeds.fork_global("init", device=device):
            encoder, self._n_features_out = make_encoder(
                self.encoder, preprocess.layout.sample_shape
            )
            seen = encoder  # by the objective in training
            if self.freeze_encoder:
                self._check_encoder_is_trained()
                features, rescale = self._compute_features(encoder, source, device)
                seen = encoder = FrozenEncoder(encoder, rescale)
                if self._trains_on_features:
                    source, preprocess = open_source(features, device=device), rescale
                    seen = nn.Identity()
            augment = make_augmentation(
                self.augmentation, preprocess.layout.sample_shape, input_size(seen)
            )
            objective = self._make_objective(seen, self._n_features_out)
        return _Parts(
            objective.to(device), source, preprocess, augment.to(device), encoder.to(device)
        )

    def _check_encoder_is_trained(self) -> None:
        """Refuse to freeze random weights."""
        if isinstance(self.encoder, str):
            raise EncoderError(
                f"freeze_encoder=True was passed with encoder={self.encoder!r}, which is untrained "
                "and would stay so. Pass a module with trained weights, or freeze_encoder=False."
            )

    def _compute_features(
        self, network: nn.Module, source: DataSource, device: torch.device
    ) -> tuple[np.ndarray, Preprocessor]:
        """Return the features (n, feature_dim) of a frozen encoder, and what rescales them."""
        network, preprocess = network.to(device).eval(), self._preprocessor
        batches = map_batches(
            lambda x: network(preprocess(x)).float(), source, multiple=self._multiple
        )
        features = collect(batches, source.n_samples)
        bad = (~features.isfinite()).any(dim=1).nonzero()
        if len(bad):
            raise EncoderError(
                f"The frozen encoder returned NaN or infinity for sample {int(bad[0])} "
                f"({len(bad)} of {len(features)} samples). Check its weights and the range of "
                "its input: images arrive as float32 in [0, 1]."
            )
        rescale = Preprocessor.learn(features.numpy(), Layout((features.shape[1],)))
        return features.numpy(), rescale.to(device)

    def _infer(self, X: Any, function: Callable[[Objective, Tensor], Tensor]) -> np.ndarray:
        """Apply a function of objective and preprocessed batch to all samples.

        Files that are skipped get NaN in all columns.
        """
        check_is_fitted(self)
        layout = self._preprocessor.layout
        samples = check_new_input(self, X, layout, files=self._file_options())
        device = resolve_device(self.device)
        objective, preprocessor = self._objective, self._preprocessor
        if samples.from_files:  # white is white, whatever the range of the training set
            preprocessor = Preprocessor.of_bytes(layout)
        if device.type != "cpu":  # a copy, so that nothing of the estimator stays on the device
            objective = copy.deepcopy(objective).to(device)
            preprocessor = copy.deepcopy(preprocessor).to(device)
        source = open_source(samples.rows, device=device)
        batches = map_batches(
            lambda x: function(objective, preprocessor(x)).float(), source, multiple=self._multiple
        )
        values = collect(batches, source.n_samples).numpy()
        return samples.with_skipped(values, np.nan)

    @property
    def _multiple(self) -> int:
        """Rows per batch of inference come in multiples of this; images are too dear to fill up."""
        return 1 if self._preprocessor.layout.is_image else 32

    def _neighbor_stage(self) -> NeighborStage:
        """Resolve the parameters of the neighbours."""
        space = self.neighbor_space
        if space == "auto":
            is_rows = self._trains_on_features or not self._preprocessor.layout.is_image
            space = "inputs" if is_rows else "features"
        return NeighborStage(self.n_neighbors, self.neighbor_start, among_inputs=space == "inputs")

    def _train_config(self, n_samples: int, device: torch.device) -> TrainConfig:
        """Resolve the parameters of the training loop."""
        batch_size = min(self.batch_size, n_samples)
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            max_epochs = default_epochs(n_samples, batch_size)
        return TrainConfig(
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            precision=resolve_precision(self.precision, device),
            compile=self.compile,
        )

    def _set_fitted(self, state: TrainState, config: TrainConfig, device: torch.device) -> None:
        """Set the fitted attributes that follow from the training run."""
        self.input_shape_ = self._preprocessor.layout.shape
        self.device_ = str(device)
        self.precision_ = config.precision
        self.n_iter_ = len(state.history)
        self.loss_curve_ = [record.total for record in state.history]
        self.history_ = {
            name: [record.terms[name] for record in state.history]
            for name in state.history[0].terms
        }

    def _number_by_size(self, parts: "_Parts", batch_size: int) -> np.ndarray:
        """Sort the clusters by decreasing size; return the labels of the rows of the source."""
        sizes = np.bincount(self._training_labels(parts, batch_size), minlength=self.n_clusters)
        order = np.argsort(-sizes, kind="stable")
        self._objective.permute_clusters(torch.as_tensor(order))
        labels = self._training_labels(parts, batch_size)
        self.cluster_sizes_ = np.bincount(labels, minlength=self.n_clusters)
        return labels

    def _training_labels(self, parts: "_Parts", batch_size: int) -> np.ndarray:
        """Return the labels of the source's rows, computed as ``predict`` does."""
        objective, preprocess, source = parts.objective, parts.preprocess, parts.source
        batches = map_batches(
            lambda x: objective.assign(objective.encoder(preprocess(x))).argmax(dim=1),
            source,
            batch_size=batch_size,
            multiple=self._multiple,
        )
        return collect(batches, source.n_samples).numpy()

    def _warn(self, state: TrainState) -> None:
        """Tell the user about an interrupted run and about empty clusters."""
        if state.interrupted:
            warnings.warn(
                f"Training was interrupted: the estimator is that of epoch {self.n_iter_} of "
                f"{state.max_epochs}, the last one finished. Call fit again to train longer.",
                ConvergenceWarning,
                stacklevel=3,
            )
        n_empty = int((self.cluster_sizes_ == 0).sum())
        if n_empty:
            warnings.warn(
                f"{n_empty} of {self.n_clusters} clusters are empty after {self.n_iter_} epochs. "
                f"Try another random_state, more max_epochs,{self._against_empty} or a smaller "
                "n_clusters.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        # the device is not asked here: reading tags must not start an accelerator
        tags.non_deterministic = self.device not in ("auto", "cpu")
        return tags


class _Parts(NamedTuple):
    """What a training consists of."""

    objective: Objective
    source: DataSource
    preprocess: Preprocessor
    augment: Augmentation
    encoder: nn.Module
    """The objective's encoder in predictions; in training it may see features instead."""


def _is_for_features(augmentation: Any) -> bool:
    """Whether an augmentation leaves it to a frozen encoder's features to be varied as rows."""
    return isinstance(augmentation, str) and augmentation in ("auto", "rows")


def _encode(objective: Objective, x: Tensor) -> Tensor:
    """Return the features of a preprocessed batch as users see them."""
    return _network(objective)(x)


def _assign(objective: Objective, features: Tensor) -> Tensor:
    """Return the soft assignments of such features."""
    encoder = objective.encoder
    if isinstance(encoder, FrozenEncoder):
        features = encoder.rescale(features.float())
    return objective.assign(features)


def _assign_and_encode(objective: Objective, x: Tensor) -> Tensor:
    """Return both side by side, from one pass through the encoder."""
    features = _encode(objective, x)
    return torch.cat([_assign(objective, features), features], dim=1)


def _network(objective: Objective) -> nn.Module:
    """Return the encoder without what belongs to a frozen one."""
    encoder = objective.encoder
    return encoder.network if isinstance(encoder, FrozenEncoder) else encoder


def _labels(assignments: np.ndarray) -> np.ndarray:
    """Return the most probable clusters; -1 for files that were skipped."""
    return np.where(np.isnan(assignments[:, 0]), -1, assignments.argmax(axis=1))


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a parameter; "auto" stands for code."""
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.random.RandomState):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, int | float | str | tuple | list | None) else "auto"


def default_epochs(n_samples: int, batch_size: int) -> int:
    """Return the epochs of ``max_epochs="auto"``: at least 12, and at least 560 steps."""
    return max(12, math.ceil(560 / (n_samples // batch_size)))
