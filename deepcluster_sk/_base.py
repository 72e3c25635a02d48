"""The scikit-learn face that all methods share."""

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
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
from ._inference import map_batches
from ._neighbors import NeighborStage
from ._objective import Objective
from ._preprocessing import Preprocessor
from ._random import Seeds, draw_entropy
from ._saving import SavingMixin
from ._state import TrainConfig, TrainState
from ._trainer import Trainer
from ._validation import (
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
from .augmentations._recipes import RECIPES, make_augmentation
from .encoders import input_size, make_encoder

_MAX_SILHOUETTE_ROWS = 10_000


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
    SavingMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator, ABC
):
    """Everything that the methods share; a method adds its constructor and its objective."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [positive_int],
        "encoder": [str, nn.Module, callable],
        "augmentation": [one_of("auto", *RECIPES), callable],
        "image_shape": [tuple, list, None],
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
                (n_samples, H, W, C) or (n_samples, C, H, W)
            Rows of features or images; see the class docstring.
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
        DivergenceError
            If the loss becomes NaN or infinite.
        MemoryError
            If a training step does not fit into memory.
        """
        with unchanged_on_error(self):
            self._validate_params()
            X, layout = check_input(self, X, image_shape=self.image_shape)
            check_n_samples(len(X), self.n_clusters)
            device = resolve_device(self.device)
            seeds = Seeds(draw_entropy(self.random_state))
            self._preprocessor = Preprocessor.learn(X, layout).to(device)
            with seeds.fork_global("init", device=device):
                encoder, self._n_features_out = make_encoder(self.encoder, layout.sample_shape)
                augment = make_augmentation(
                    self.augmentation, layout.sample_shape, input_size(encoder)
                )
                objective = self._make_objective(encoder, self._n_features_out)
            self._objective = objective.to(device)
            source = open_source(X, device=device)
            config = self._train_config(len(X), device)
            state = Trainer(
                config,
                seeds=seeds,
                device=device,
                callbacks=[ProgressBar(type(self).__name__)] if self.verbose else [],
            ).run(
                objective,
                source,
                self._preprocessor,
                augment.to(device),
            )
            self._set_fitted(state, config, device)
            self._number_by_size(source)
            objective.cpu()
            self._preprocessor.cpu()
        self._warn(state)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Assign each sample to its most probable cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_)
            Samples of the fitted shape, or the same flattened.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Cluster numbers; cluster 0 was the largest one in training.
        """
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the soft assignments.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_)
            Samples of the fitted shape, or the same flattened.

        Returns
        -------
        assignments : ndarray of shape (n_samples, n_clusters), float32
            Rows sum to one; column k belongs to cluster k.
        """
        return self._infer(X, lambda objective, x: objective.assign(objective.encoder(x)))

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_)
            Samples of the fitted shape, or the same flattened.

        Returns
        -------
        features : ndarray of shape (n_samples, feature_dim), float32
        """
        return self._infer(X, lambda objective, x: objective.encoder(x))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean silhouette coefficient of the predicted clusters.

        Computed on the encoder's features with the cosine distance; a measure that needs no
        labels, for model selection.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_)
            Samples of the fitted shape, or the same flattened. Of more than 10,000 samples, a
            fixed random subset of 10,000 is scored.
        y : None
            Ignored; present for the interface.

        Returns
        -------
        score : float
            In [-1, 1], higher is better; -1 if fewer than two clusters, or as many clusters as
            samples, are predicted.
        """
        labels, features = self.predict(X), self.transform(X)
        if len(labels) > _MAX_SILHOUETTE_ROWS:
            subset = np.random.default_rng(0).choice(
                len(labels), _MAX_SILHOUETTE_ROWS, replace=False
            )
            labels, features = labels[subset], features[subset]
        if not 2 <= len(np.unique(labels)) < len(labels):
            return -1.0
        return float(silhouette_score(features, labels, metric="cosine"))

    def _infer(self, X: Any, function: Callable[[Objective, Tensor], Tensor]) -> np.ndarray:
        """Apply a function of objective and preprocessed batch to all samples."""
        check_is_fitted(self)
        X = check_new_input(self, X, self._preprocessor.layout)
        device = resolve_device(self.device)
        objective, preprocessor = self._objective, self._preprocessor
        if device.type != "cpu":  # a copy, so that nothing of the estimator stays on the device
            objective = copy.deepcopy(objective).to(device)
            preprocessor = copy.deepcopy(preprocessor).to(device)
        source = open_source(X, device=device)
        batches = map_batches(
            lambda x: function(objective, preprocessor(x)).float(), source, multiple=self._multiple
        )
        return torch.cat([batch.cpu() for batch in batches]).numpy()

    @property
    def _multiple(self) -> int:
        """Rows per batch of inference come in multiples of this; images are too dear to fill up."""
        return 1 if self._preprocessor.layout.is_image else 32

    def _neighbor_stage(self) -> NeighborStage:
        """Resolve the parameters of the neighbours."""
        space = self.neighbor_space
        if space == "auto":
            space = "features" if self._preprocessor.layout.is_image else "inputs"
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
        self.encoder_ = self._objective.encoder
        self.input_shape_ = self._preprocessor.layout.shape
        self.device_ = str(device)
        self.precision_ = config.precision
        self.n_iter_ = len(state.history)
        self.loss_curve_ = [record.total for record in state.history]
        self.history_ = {
            name: [record.terms[name] for record in state.history]
            for name in state.history[0].terms
        }

    def _number_by_size(self, source: DataSource) -> None:
        """Assign the training samples, and number the clusters by decreasing size."""
        sizes = np.bincount(self._training_labels(source), minlength=self.n_clusters)
        order = np.argsort(-sizes, kind="stable")
        self._objective.permute_clusters(torch.as_tensor(order))
        self.labels_ = self._training_labels(source)
        self.cluster_sizes_ = np.bincount(self.labels_, minlength=self.n_clusters)

    def _training_labels(self, source: DataSource) -> np.ndarray:
        """Return the labels of the source's rows, computed as ``predict`` does."""
        objective, preprocessor = self._objective, self._preprocessor
        batches = map_batches(
            lambda x: objective.assign(objective.encoder(preprocessor(x))),
            source,
            multiple=self._multiple,
        )
        return torch.cat([batch.argmax(dim=1).cpu() for batch in batches]).numpy()

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


def default_epochs(n_samples: int, batch_size: int) -> int:
    """Return the epochs of ``max_epochs="auto"``: at least 12, and at least 560 steps."""
    return max(12, math.ceil(560 / (n_samples // batch_size)))
