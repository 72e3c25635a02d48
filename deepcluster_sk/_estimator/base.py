"""The scikit-learn face that all methods share."""

import os
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._runtime.isolation import isolating
from .._runtime.process_group import together
from .._runtime.threads import libraries_in_one_thread
from .._runtime.warnings import warn_user
from .._training.frozen import assign, assign_and_score, encode, scores
from .._training.interrupts import Interrupts
from .._training.objective import Objective
from ..metrics import embedding_silhouette_score
from . import errors, fitting, kinds, merging, saving
from .fitted import Online, unchanged_on_error
from .onnx import Dtype
from .papers import Preset
from .parameters import positional, with_parameters
from .prediction import Description, description, hard_labels, infer
from .sklearn_callbacks import CallbackSupportMixin
from .validation import check_parameters

DOCUMENTATION_URL = "https://deepcluster-sk.readthedocs.io/en/latest"


@with_parameters
class BaseDeepClusterer(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClusterMixin,
    BaseEstimator,
):
    """Everything that the methods share; a method adds its parameters and its objective."""

    # where scikit-learn's HTML representation links to
    _doc_link_module = "deepcluster_sk"
    _doc_link_template = DOCUMENTATION_URL + "/api/deepcluster_sk.{estimator_name}.html"

    _objective_class: ClassVar[type[Objective]]
    """Networks and loss of the method."""
    _paper: ClassVar[Preset] = Preset({}, {})
    """What the paper sets and reports."""
    _against_empty: ClassVar[str] = ""
    """For the warning about empty clusters: what to try, such as ``"a larger entropy_weight"``."""
    _least_training: ClassVar[tuple[int, int] | None] = None
    """Epochs and steps that ``max_epochs="auto"`` is at least; None is as for most methods."""

    # set on instances; a ClassVar only because it is not a parameter
    _online: ClassVar[Online | None] = None
    """What the next ``partial_fit`` goes on from, in addition to the networks."""

    n_clusters: kinds.Clusters = positional(default=8, kw_only=False)
    encoder: kinds.Encoder = "auto"
    freeze_encoder: kinds.BooleanOrAuto = "auto"
    augmentation: kinds.Augment = "auto"
    scale: kinds.Scale = "auto"
    image_shape: kinds.ImageShape = None
    image_size: kinds.ImageSize = "auto"
    on_error: Annotated[str, kinds.one_of("raise", "skip")] = "raise"
    outlier_fraction: kinds.FractionOrNone = None
    cluster_start: kinds.FractionOrAuto = "auto"
    n_neighbors: kinds.Neighbors = "auto"
    neighbor_start: kinds.FractionOrAuto = "auto"
    neighbor_space: Annotated[str, kinds.one_of("auto", "inputs", "features")] = "auto"
    self_labeling: kinds.Fraction = 0.0
    max_epochs: kinds.MaxEpochs = "auto"
    batch_size: kinds.PositiveInt = 256
    optimizer: Annotated[str, kinds.one_of("adam", "adamw", "sgd")] = "adam"
    learning_rate: kinds.PositiveFloat = 3e-3
    weight_decay: kinds.NonNegativeFloat = 0.0
    schedule: Annotated[str, kinds.one_of("constant", "cosine")] = "cosine"
    warmup: kinds.Fraction = 0.05
    device: kinds.Device = "auto"
    precision: Annotated[str, kinds.one_of("auto", "float32", "bfloat16", "float16")] = "auto"
    compile: kinds.Boolean = False
    max_time: kinds.Seconds = None
    tol: kinds.Tolerance = None
    n_iter_no_change: kinds.PositiveInt = 5
    warm_start: kinds.Boolean = False
    cache: kinds.Path = None
    checkpoint: kinds.Path = None
    checkpoint_every: kinds.EpochsOrSeconds = 1
    verbose: kinds.Verbose = 0
    random_state: kinds.RandomStateLike = None

    @isolating
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the networks and assign the training samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W), \
                (n_samples, H, W, C) or (n_samples, C, H, W); folder or paths of image files; \
                or torch.utils.data.Dataset
            Rows of features or images; see the notes of the class docstring.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not as documented.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read; it names them.
        DivergenceError
            If the loss becomes NaN or infinite.
        MemoryError
            If the networks or a training step do not fit into memory.
        ResumeError
            If the checkpoint belongs to another fit, is damaged, or is not a checkpoint.
        OSError
            If the checkpoint cannot be written; found out before the training.

        Warns
        -----
        ConvergenceWarning
            If clusters are empty, or if Ctrl-C ended the training early. The estimator is then that
            of the last finished epoch; in the first epoch, KeyboardInterrupt is raised.
        """
        check_parameters(self)
        with together(self.device):
            with unchanged_on_error(self):
                interrupts = fitting.fit(self, X, y)
            self._warn(interrupts)
        return self

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Train the networks, and return the clusters of the training samples.

        Parameters
        ----------
        X : array-like, folder, paths of image files or torch.utils.data.Dataset
            As in :meth:`fit`.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            `labels_`.

        Raises
        ------
        Exception
            As :meth:`fit`.
        """
        labels: np.ndarray = self.fit(X, y).labels_
        return labels

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Train the networks, and return the features of the training samples.

        Parameters
        ----------
        X : array-like, folder, paths of image files or torch.utils.data.Dataset
            As in :meth:`fit`.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        features : ndarray of shape (n_samples, feature_dim), float32
            NaN for image files that were skipped.

        Raises
        ------
        Exception
            As :meth:`fit`.
        """
        features: np.ndarray = self.fit(X, y).transform(X)
        return features

    @isolating
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one more pass, over these samples.

        The first call on an estimator that is not fitted builds the networks, and learns the
        scaling and the start of the clusters from its samples. Every other call continues from the
        end of the last one, or of `fit`: weights, momentum networks and queues, and after
        `partial_fit` also the state of the optimizer. The learning rate is constant, and there is
        no neighbour stage and no `self_labeling`. Clusters keep their numbers, so that they are not
        sorted by size, and `labels_` and `skipped_` are those of the last X. A frozen encoder stays
        as it is, and so does the scale of its features.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            At least 2 samples, at first at least `n_clusters`.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not as documented.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read; it names them.
        DivergenceError
            If the loss becomes NaN or infinite.
        MemoryError
            If the networks or a training step do not fit into memory.
        """
        check_parameters(self)
        with together(self.device), unchanged_on_error(self):
            fitting.partial_fit(self, X)
        return self

    @isolating
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
            were skipped and, with `outlier_fraction`, for samples whose score is below `offset_`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not like the samples of :meth:`fit`.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read, with ``on_error="raise"``.
        """
        if getattr(self, "offset_", None) is None:
            return hard_labels(self.predict_proba(X))
        outputs = infer(self, X, assign_and_score)
        return self._without_outliers(hard_labels(outputs[:, :-1]), outputs[:, -1])

    @isolating
    def score_samples(self, X: Any) -> np.ndarray:
        """Tell how typical samples are of the training set.

        The score is the logarithm of a density: of a mixture of Gaussians with one component for
        each cluster and one spherical covariance for all. It depends on the distances to the
        centres of the clusters, and on their sizes. For images, the density is that of the
        directions of the encoder's features; for rows, that of the scaled rows or, with a frozen
        encoder, of its scaled features. Scores of two estimators cannot be compared.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float32
            Higher is more typical. NaN for image files that were skipped.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or has been through :meth:`partial_fit` alone.
        ValueError
            If X is not like the samples of :meth:`fit`.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read, with ``on_error="raise"``.

        See Also
        --------
        sklearn.ensemble.IsolationForest : Outliers without clusters.
        sklearn.mixture.GaussianMixture : Densities with components of several shapes.

        Notes
        -----
        The mixture is fitted at the end of :meth:`fit`; :meth:`partial_fit` leaves it as it is.
        """
        scored: np.ndarray = infer(self, X, scores)[:, 0]
        return scored

    @property
    def linkage_(self) -> np.ndarray:
        """Tree of the clusters, computed when it is asked for; see the attributes of the class."""
        check_is_fitted(self)
        tree: np.ndarray | None = self._objective.linkage()
        if tree is None:
            raise errors.no_tree(self.n_clusters_)
        return tree

    @isolating
    def merge_clusters(self, groups: Iterable[Iterable[int]]) -> Self:
        """Return a fitted copy in which the clusters of each group are one.

        It predicts, saves and exports as any other fitted estimator, and :meth:`partial_fit` goes
        on from it. A sample belongs to a merged cluster if it belonged to one of its members. The
        probability of a merged cluster is the largest one of its members, over the sum of these for
        all clusters.

        Parameters
        ----------
        groups : iterable of iterables of int
            Such as ``[[0, 3], [5, 7]]``. Clusters in no group stay as they are.

        Returns
        -------
        merged : object
            Of the same class. Its clusters are numbered by decreasing size again; its parameter
            `n_clusters` is their number. This estimator stays as it is.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If `groups` are not groups of integers.
        ValueError
            If a group is empty, or a cluster does not exist or is named twice.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from deepcluster_sk import ContrastiveClustering
        >>> images = load_digits().images
        >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(images)
        >>> model.merge_clusters([[0, 3], [5, 7, 8]]).predict_proba(images).shape
        (1797, 7)
        """
        merged: Self = merging.merged(self, groups)
        return merged

    @isolating
    def cut(self, n_clusters: int) -> Self:
        """Return a fitted copy with fewer clusters, joined along the tree :attr:`linkage_`.

        Parameters
        ----------
        n_clusters : int
            In ``[1, n_clusters_]``.

        Returns
        -------
        coarser : object
            Of the same class, as :meth:`merge_clusters` returns it.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If `n_clusters` is not an integer.
        ValueError
            If `n_clusters` is out of range.
        AttributeError
            If there is no tree: after :meth:`partial_fit` alone, or with more than 500 clusters.
        """
        coarser: Self = merging.cut(self, n_clusters)
        return coarser

    @isolating
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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not like the samples of :meth:`fit`.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read, with ``on_error="raise"``.

        Notes
        -----
        The largest value of a row is calibrated without labels at the end of :meth:`fit`: it
        estimates the share of the cluster that belongs together with the sample, by the agreement
        of its neighbours and of several partitions of their graph. It is not with
        ``n_neighbors=0``, after a training too short for a search of neighbours, and after
        :meth:`partial_fit` alone; :meth:`partial_fit` after :meth:`fit` keeps the temperatures.

        For images, the values of a sample depend on the samples beside it by rounding, by less than
        1e-6 for the digits.
        """
        return infer(self, X, assign)

    @isolating
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

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not like the samples of :meth:`fit`.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read, with ``on_error="raise"``.
        """
        return infer(self, X, encode)

    @isolating
    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean silhouette coefficient of the predicted clusters.

        Computed on the encoder's features with the cosine distance; a measure that needs no
        labels. These features are learned, so that scores of estimators whose parameters shape
        them in another way, such as temperatures or encoders, cannot be compared.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape_) or (n_samples, n_features_in_); folder \
                or paths of image files; or torch.utils.data.Dataset
            Samples of the fitted shape, or the same flattened; files are resized to it.
            Of more than 10,000 samples, a fixed random subset of 10,000 is scored.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        score : float
            In [-1, 1], higher is better; -1 if fewer than two clusters, or as many clusters as
            samples, are predicted. Samples that :meth:`predict` labels -1 are left out.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not like the samples of :meth:`fit`.
        TypeError
            If X is sparse, or its columns have no common numeric type.
        ImageFileError
            If image files cannot be read, with ``on_error="raise"``.
        """
        found = self._describe(X)
        labels = hard_labels(found.assignments)
        if found.scores is not None and getattr(self, "offset_", None) is not None:
            labels = self._without_outliers(labels, found.scores)
        with libraries_in_one_thread():
            return embedding_silhouette_score(found.features, labels)

    @isolating
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
        saving.save(self, path)

    @isolating
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
            Type of the samples that the graph takes. Their range is that of the training set:
            images fitted as ``uint8`` or from files are passed in [0, 255], whatever their dtype.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `dtype` is not one of these.
        ImportError
            If a package of the extra is missing, or torch is older than 2.8.
        OnnxExportError
            If the encoder has no counterpart in ONNX.
        OSError
            If the file cannot be written.
        """
        saving.to_onnx(self, path, dtype=dtype)

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
        return cls._paper.settings_for(data_set, cls.__name__)

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
        return cls._paper.results()

    @isolating
    def _describe(self, X: Any) -> Description:
        """Return what `predict_proba`, `score_samples` and `transform` do, by one encoding of X."""
        return description(self, X)

    def _without_outliers(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the labels (n,), with -1 where the scores are below `offset_`."""
        return np.where(scores < self.offset_, -1, labels)

    def _queues_in_use(self) -> list[str]:
        """Name the parameters of queues that losses need where batches have no negatives."""
        return []

    def _warn(self, interrupts: Interrupts) -> None:
        """Tell the user about an interrupted run and about empty clusters."""
        if interrupts.cut:
            warn_user(
                f"Training was interrupted: the estimator is that of epoch {self.n_iter_} of "
                f"{interrupts.n_planned}, the last one finished. Call fit again to train longer.",
                ConvergenceWarning,
            )
        n_empty = int((self.cluster_sizes_ == 0).sum())
        if n_empty:
            further = f" {self._against_empty}," if self._against_empty else ""
            warn_user(
                f"{n_empty} of {self.n_clusters_} clusters are empty after {self.n_iter_} epochs. "
                f"Try another random_state, more max_epochs,{further} or a smaller n_clusters.",
                ConvergenceWarning,
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        # the device is not asked here: reading tags must not start an accelerator
        tags.non_deterministic = str(self.device).partition(":")[0] not in ("auto", "cpu")
        return tags
