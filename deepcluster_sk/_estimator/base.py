"""The scikit-learn face that all methods share."""

import copy
from abc import ABC
from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._data.sources import open_source
from .._runtime.device import resolve_device
from .._runtime.process_group import together
from .._runtime.warnings import warn_user
from .._training.frozen import assign, assign_and_encode, encode
from .._training.inference import collect, map_batches
from .._training.objective import Objective
from .._training.state import TrainState
from ..augmentations._recipes import RECIPES
from ..metrics import embedding_silhouette_score
from .fitting import FittingMixin, check_same_rows
from .papers import PaperMixin
from .saving import SavingMixin
from .validation import (
    check_new_input,
    closed_fraction,
    fraction,
    non_negative_float,
    non_negative_int,
    one_of,
    positive_float,
    positive_int,
    seconds_not_epochs,
    unchanged_on_error,
)

DOCUMENTATION_URL = "https://deepcluster-sk.readthedocs.io/en/latest"


class BaseDeepClusterer(
    PaperMixin,
    SavingMixin,
    FittingMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
    ABC,
):
    """Everything that the methods share; a method adds its constructor and its objective."""

    # where scikit-learn's HTML representation links to
    _doc_link_module = "deepcluster_sk"
    _doc_link_template = DOCUMENTATION_URL + "/api/deepcluster_sk.{estimator_name}.html"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [positive_int],
        "encoder": [str, nn.Module, callable],
        "freeze_encoder": ["boolean"],
        "augmentation": [one_of("auto", *RECIPES), callable],
        "image_shape": [tuple, list, None],
        "image_size": [one_of("auto"), positive_int, tuple, list],
        "on_error": [one_of("raise", "skip")],
        "cluster_start": [fraction],
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
        "max_time": [positive_float, None],
        "tol": [closed_fraction, None],
        "n_iter_no_change": [positive_int],
        "warm_start": ["boolean"],
        "checkpoint": [str, PathLike, None],
        "checkpoint_every": [positive_int, seconds_not_epochs],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    _against_empty: ClassVar[str] = ""
    """The method's own parameter against empty clusters, for the warning about them."""

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
        ResumeError
            If the checkpoint belongs to another fit, is damaged, or is none.
        OSError
            If the checkpoint cannot be written; found out before the training.
        """
        self._validate_params()
        with together(self.device):
            with unchanged_on_error(self):
                state = self._train(X, y)
            self._warn(state)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one more pass, over these samples.

        The first call on an estimator that is not fitted builds the networks, and learns the
        scaling and the start of the clusters from its samples. Every other call goes on from where
        the last one, or `fit`, ended: weights, momentum networks and queues, and after
        `partial_fit` also the optimiser. The learning rate is constant, and there is no neighbour
        stage. Clusters keep their numbers, so that they are not sorted by size, and
        `labels_` and `skipped_` are those of the last X. A frozen encoder stays as it is, and so
        does the scale of its features.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            At least 2 samples, at first at least `n_clusters`.
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
        self._validate_params()
        with together(self.device), unchanged_on_error(self):
            self._train_one_pass(X)
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
        return self._infer(X, assign)

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
        return self._infer(X, encode)

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
        outputs = self._infer(X, assign_and_encode)
        assignments, features = np.split(outputs, [len(self.cluster_sizes_)], axis=1)
        return embedding_silhouette_score(features, _labels(assignments))

    def _infer(self, X: Any, function: Callable[[Objective, Tensor], Tensor]) -> np.ndarray:
        """Apply a function of objective and preprocessed batch to all samples.

        Files that are skipped get NaN in all columns.
        """
        check_is_fitted(self)
        with together(self.device):
            return self._infer_together(X, function)

    def _infer_together(
        self, X: Any, function: Callable[[Objective, Tensor], Tensor]
    ) -> np.ndarray:
        """Do it in all processes of a job, each of which gets all rows."""
        layout = self._preprocessor.layout
        samples = check_new_input(self, X, layout, files=self._file_options())
        check_same_rows(samples)
        device = resolve_device(self.device)
        objective, preprocessor = self._objective, self._preprocessor_of(samples)
        if device.type != "cpu":  # a copy, so that nothing of the estimator stays on the device
            objective = copy.deepcopy(objective).to(device)
            preprocessor = copy.deepcopy(preprocessor).to(device)
        source = open_source(samples.rows, device=device)
        batches = map_batches(
            lambda x: function(objective, preprocessor(x)).float(), source, multiple=self._multiple
        )
        return samples.with_skipped(collect(batches, source.n_samples).numpy(), np.nan)

    def _warn(self, state: TrainState) -> None:
        """Tell the user about an interrupted run and about empty clusters."""
        if state.interrupted:
            warn_user(
                f"Training was interrupted: the estimator is that of epoch {self.n_iter_} of "
                f"{state.max_epochs}, the last one finished. Call fit again to train longer.",
                ConvergenceWarning,
            )
        n_empty = int((self.cluster_sizes_ == 0).sum())
        if n_empty:
            warn_user(
                f"{n_empty} of {self.n_clusters} clusters are empty after {self.n_iter_} epochs. "
                f"Try another random_state, more max_epochs,{self._against_empty} or a smaller "
                "n_clusters.",
                ConvergenceWarning,
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        # the device is not asked here: reading tags must not start an accelerator
        tags.non_deterministic = self.device not in ("auto", "cpu")
        return tags


def _labels(assignments: np.ndarray) -> np.ndarray:
    """Return the most probable clusters; -1 for files that were skipped."""
    return np.where(np.isnan(assignments[:, 0]), -1, assignments.argmax(axis=1))
