"""Cluster contrast (CueCo), in this project's reading.

Giakoumoglou and Stathaki: "Cluster contrast for unsupervised visual representation learning", ICIP
2025, arXiv 2507.12359. No code is public, and only the abstract, the introduction and the figure
captions could be read: two networks, a contrastive loss that scatters, a clustering objective that
aligns. The formulas here are a reconstruction.

==================  ===================================================
symbol              name in the code
==================  ===================================================
q, k                q: query projections; k: key projections, momentum
mu_c                centroids
a(i)                the centroid nearest to the key of sample i
tau, tau_c          instance_temperature, cluster_temperature
lambda              cluster_weight
==================  ===================================================
"""

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor, nn

from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import Preset
from .._estimator.validation import (
    fraction,
    non_negative_float,
    non_negative_int,
    one_of,
    positive_float,
    positive_int,
)
from .._networks.kmeans import better_centroids, kmeans_centroids
from .._networks.modules import FeatureQueue, MomentumCopy, projection_head
from .._networks.neighbors import NeighborStage
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, MapAll, Objective
from ..augmentations import images
from ..losses import at_least_float32, info_nce


def clustering_loss(
    q: Tensor,
    centroids: Tensor,
    nearest: Tensor,
    *,
    form: str = "cross-entropy",
    temperature: float = 0.3,
) -> Tensor:
    """Pull each query to the centroid of its key.

    Parameters
    ----------
    q : Tensor of shape (B, d), float
        Query projections of unit length.
    centroids : Tensor of shape (K, d), float
        Of unit length; no gradient reaches them.
    nearest : Tensor of shape (B,), int64
        a(i).
    form : {"cross-entropy", "pull"}, default="cross-entropy"
        ``"pull"`` is ``1 - q . mu_a(i)``; ``"cross-entropy"`` is that of the softmax of
        ``q . mu / temperature``, which also pushes the query from the other centroids.
    temperature : float, default=0.3
        tau_c.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the B queries. ``"pull"`` is in [0, 2], and 0 when each query equals its centroid.
    """
    similarity = at_least_float32(q) @ centroids.detach().to(q.dtype).mT
    if form == "pull":
        return 1 - similarity.gather(1, nearest[:, None]).mean()
    return F.cross_entropy(similarity / temperature, nearest)


class ClusterContrastObjective(Objective):
    """A query network, its momentum copy, a queue of keys, and centroids."""

    centroids: Tensor
    started: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        *,
        n_clusters: int,
        hidden_dim: int,
        projection_dim: int,
        instance_temperature: float,
        cluster_temperature: float,
        cluster_weight: float,
        cluster_form: str,
        cluster_start: float,
        centroid_update: str,
        centroid_momentum: float,
        momentum: float,
        queue_size: int,
        batch_negatives: bool,
        neighbors: NeighborStage,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projection_head(feature_dim, hidden_dim, projection_dim)
        self.key_encoder = MomentumCopy(encoder)
        self.key_projector = MomentumCopy(self.projector)
        self.queue = FeatureQueue(queue_size, projection_dim)
        self.register_buffer(
            "centroids", F.normalize(torch.randn(n_clusters, projection_dim), dim=1)
        )
        self.register_buffer("started", torch.zeros(()))
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.cluster_form = cluster_form
        self.cluster_start = cluster_start
        self.centroid_update = centroid_update
        self.centroid_momentum = centroid_momentum
        self.momentum = momentum
        self.batch_negatives = batch_negatives
        self.neighbors = neighbors

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_contrast + cluster_weight L_cluster``; the second one from its start on."""
        query, key = batch.views
        q = gather(self.project(self.encoder(query)))
        k = gather(F.normalize(self.key_projector(self.key_encoder(key)).float(), dim=1))
        instance = info_nce(
            q,
            k,
            temperature=self.instance_temperature,
            extra_keys=self.queue.features,
            batch_negatives=self.batch_negatives,
        )
        nearest = (k @ self.centroids.mT).argmax(dim=1)
        cluster = self.started * clustering_loss(
            q,
            self.centroids,
            nearest,
            form=self.cluster_form,
            temperature=self.cluster_temperature,
        )
        return LossOutput(
            instance + self.cluster_weight * cluster,
            {"instance": instance.detach(), "cluster": cluster.detach()},
            carry=(k, nearest),
        )

    def project(self, features: Tensor) -> Tensor:
        """Return unit projections (n, projection_dim), float32."""
        return F.normalize(self.projector(features).float(), dim=1)

    def assign(self, features: Tensor) -> Tensor:
        """Softmax over the centroids."""
        similarity = self.project(features) @ self.centroids.mT
        return (similarity / self.cluster_temperature).softmax(dim=1)

    def permute_clusters(self, order: Tensor) -> None:
        """Permute the centroids."""
        self.centroids.copy_(self.centroids[order])

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Move the key network, the queue and the centroids."""
        keys, nearest = carry
        self.key_encoder.update(self.encoder, self.momentum)
        self.key_projector.update(self.projector, self.momentum)
        self.queue.push(keys)
        if self.centroid_update == "moving-average":
            members = F.one_hot(nearest, len(self.centroids)).to(keys.dtype)
            counts = members.sum(dim=0)[:, None]
            means = members.mT @ keys / counts.clamp_min(1)
            weight = (1 - self.centroid_momentum) * self.started * (counts > 0)
            self.centroids.copy_(F.normalize(self.centroids.lerp(means, weight), dim=1))

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and renew the centroids."""
        features = self.neighbors.search(progress, map_all, self.encoder)
        begins = progress >= self.cluster_start and not self.started
        if begins or (self.started and self.centroid_update == "k-means"):
            features = map_all.on_sampled(self.encoder) if features is None else features
            self.centroids.copy_(kmeans_centroids(self.project(features), len(self.centroids)))
            self.started.fill_(1)
        elif features is not None:
            self._renew_centroids(features)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show a neighbour in the second view, once there are neighbours."""
        return self.neighbors.view_rows(plan, generator)

    def after_training(self, map_all: MapAll) -> None:
        """Settle the centroids on the final projections."""
        self._renew_centroids(map_all.on_sampled(self.encoder))
        self.neighbors.end()

    def _renew_centroids(self, features: Tensor) -> None:
        """Take those of k-means if none are in use yet, or if neighbours agree on them more."""
        vectors = self.project(features)
        if not self.started:
            self.centroids.copy_(kmeans_centroids(vectors, len(self.centroids)))
        elif self.neighbors.graph is not None:
            self.centroids.copy_(better_centroids(vectors, self.centroids, self.neighbors.graph))


# the results are the paper's; the settings are those of momentum contrast in the benchmark that the
# results belong to: readings, not facts
_PAPER = Preset(
    {
        "encoder": "resnet18",
        "augmentation": images(scale=(0.2, 1.0)),
        "hidden_dim": 2048,
        "projection_dim": 256,
        "instance_temperature": 0.2,
        "cluster_weight": 0.5,
        "cluster_form": "pull",
        "cluster_start": 0.1,
        "centroid_update": "k-means",
        "momentum": 0.99,
        "queue_size": 32_768,
        "batch_negatives": False,
        "n_neighbors": 0,
        "max_epochs": 1000,
        "optimizer": "sgd",
        "learning_rate": 0.3,
        "weight_decay": 1e-4,
        "warmup": 0.01,
    },
    {
        "cifar10": ({"n_clusters": 10}, {"linear evaluation": 0.9140}),
        "cifar100": ({"n_clusters": 100}, {"linear evaluation": 0.6856}),
        "imagenet100": (
            {"n_clusters": 100, "queue_size": 65_536, "max_epochs": 400},
            {"linear evaluation": 0.7865},
        ),
    },
)


class ClusterContrast(BaseDeepClusterer):
    """Cluster contrast (CueCo): representations and clusters of images or rows.

    A query network learns to recognise the key that a slowly moving copy of it computes from
    another view of the sample (which scatters), and is pulled to the centroid of that key (which
    aligns). A learner of representations first: its main output is ``transform``.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters K, at least 1.
    encoder : str, torch.nn.Module or callable, default="auto"
        Maps a batch to features (n, feature_dim).

        - ``"auto"``: ``"mlp"`` for rows, ``"cnn"`` for images of up to 32 pixels a side,
          ``"resnet18"`` above.
        - ``"mlp"``: two layers of 512 with batch norm.
        - ``"cnn"``: six convolutions (four below 16 pixels); grey images of 16 pixels and more
          are resized to 20 x 20 first.
        - ``"resnet18"``, ``"resnet34"``, ...: untrained, without the classifier, with a 3x3 stem
          and no max-pooling for images of up to 96 pixels.
        - Any other classifier of ``torchvision.models``, by its name, untrained.
        - A module: copied, so that the one passed in is never trained; every fit starts from its
          weights.
        - A callable without arguments that returns a module: called within ``random_state``.

        Images arrive as float32 in [0, 1] of shape (n, C, H, W), rows standardised as (n, d).
    freeze_encoder : bool, default=False
        Whether to leave the encoder as it is and train the heads only; for encoders with trained
        weights. With ``augmentation="auto"`` or ``"rows"`` the features of all samples are
        computed once, without augmentation, and then treated like rows: standardised, varied by
        the recipe ``"rows"``, with neighbours among them. With any other `augmentation` they are
        computed in every step, for views of the samples.
    augmentation : str, callable or Augmentation, default="auto"
        Maps a batch to a random variation of the same shape.

        - ``"auto"``: ``"rows"`` for rows, ``"digits"`` for grey images, ``"images"`` for colour.
        - ``"images"``: the papers' recipe of crops, flips, colour jitter and grey.
        - ``"digits"``: gentle crops, rotations, shears and bending; no flips.
        - ``"rows"``: features swapped with those of other rows, and noise.
        - Anything from :mod:`deepcluster_sk.augmentations`, or a callable on a batch, which may
          draw from the global random states.
    image_shape : tuple of int or None, default=None
        ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of flattened images in a 2-D X. None reads 2-D X
        as rows of features.
    image_size : int, tuple of 2 ints or "auto", default="auto"
        Height and width, or both in one number, that image files are resized to in fit. ``"auto"``
        is the median height and the median width of the files, at most 32 pixels each: a small
        network is quick there. Pass more if clusters differ in details, best with a GPU.
    on_error : {"raise", "skip"}, default="raise"
        What to do about image files that cannot be read: an error that names all of them, or a
        warning and the label -1.
    hidden_dim : int, default=256
        Width of the hidden layer of the projector.
    projection_dim : int, default=128
        Number of outputs of the projector.
    instance_temperature : float, default=0.5
        tau; lower values press harder on the most similar other samples.
    cluster_temperature : float, default=0.3
        tau_c of the softmax over the centroids, in the cross-entropy form and in `predict_proba`.
    cluster_weight : float, default=1.0
        lambda; 0 with `batch_negatives=False` is momentum contrast (MoCo).
    cluster_form : {"cross-entropy", "pull"}, default="cross-entropy"
        ``"pull"``: one minus the cosine to the centroid, the wording of the paper.
        ``"cross-entropy"``: that of a softmax over all centroids, which also pushes from the
        others.
    cluster_start : float, default=0.3
        Share of the epochs after which the clustering loss begins, with centroids by k-means, in
        [0, 1).
    centroid_update : {"moving-average", "k-means"}, default="moving-average"
        How centroids follow the keys: by a moving average at every step, or by spherical k-means on
        all samples before every epoch.
    centroid_momentum : float, default=0.9
        Share of the old centroid in the moving average, in [0, 1).
    momentum : float, default=0.9
        Share of the old weights in the key network's average, in [0, 1). Long runs and
        photographs want more: .99 to .999.
    queue_size : int, default=256
        Number of past keys that serve as negatives; 0 for none.
    batch_negatives : bool, default=True
        Whether the other keys of the batch are negatives; in MoCo only the queue is.
    n_neighbors : int, default=10
        Number of nearest neighbours, one of which the second view shows in the neighbour stage; 0
        leaves the stage out, as in the paper.
    neighbor_start : float, default=0.6
        Share of the epochs after which neighbours are searched among the features, in [0, 1); they
        are searched again in the middle of the rest.
    neighbor_space : {"auto", "inputs", "features"}, default="auto"
        ``"features"``: the neighbour stage begins at `neighbor_start`. ``"inputs"``: it begins with
        the first step, with neighbours among the samples themselves until `neighbor_start`.
        ``"auto"`` is ``"inputs"`` for rows and ``"features"`` for images.
    max_epochs : int or "auto", default="auto"
        Number of passes over the data. ``"auto"`` is at least 12, and as many as make 560 steps of
        `batch_size` samples: 80 for 1,800 samples, 15 for 10,000, 12 from 13,000 on.
    batch_size : int, default=256
        Samples per step, capped at the number of samples. An incomplete last batch is dropped.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        ``"sgd"`` has Nesterov momentum 0.9.
    learning_rate : float, default=0.003
        Its maximum over the training.
    weight_decay : float, default=0.0
        As the optimizer defines it.
    schedule : {"constant", "cosine"}, default="cosine"
        Of the learning rate, after the warm-up.
    warmup : float, default=0.05
        Share of the steps over which the learning rate rises linearly from 0, in [0, 1).
    device : str or torch.device, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU; a named device that is missing is an error.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the products in training; ``"auto"`` is bfloat16 on GPUs that compute it natively, and on
        CPUs that do (AVX512-BF16, AMX) for images of 16 x 16 pixels and more; float32 elsewhere.
        Predictions are computed in float32.
    compile : bool, default=False
        Whether to compile loss and augmentation with ``torch.compile``, each as one graph. The
        encoder has to allow that; an augmentation that is a mere callable is left as it is.
    max_time : float or None, default=None
        Seconds of training; None for no limit. As many epochs are run as fit, at least one and at
        most `max_epochs`, and the schedule and the starts that are shares of the training are
        those of so many epochs. What follows the last epoch is not counted.
    tol : float or None, default=None
        The training ends early when at most this share of the samples, in [0, 1], has changed its
        cluster in each of `n_iter_no_change` epochs in a row; epochs before `cluster_start` and
        before the neighbour stage do not count. None for no early end. Any other value costs one
        more pass over the data, without gradients, in each epoch that counts.
    n_iter_no_change : int, default=5
        Number of epochs in a row, if `tol` is not None.
    warm_start : bool, default=False
        Whether `fit` begins with the weights of the fitted estimator, in place of new ones. The
        schedule starts again.
    checkpoint : path-like or None, default=None
        A file that `fit` is written to, and goes on from when it is called again with the same
        parameters and data after an interruption. It serves one fit, and is kept in the end: the
        same fit then returns at once.
    checkpoint_every : int or float, default=1
        Between two writings of the checkpoint: epochs if int, seconds if float. Ctrl-C and the end
        of the training write it in any case.
    verbose : int, default=0
        1 shows a progress bar.
    random_state : int, RandomState instance or None, default=None
        One value gives the same bits on the CPU. None draws from the operating system, not from
        numpy's global state, which no method of this class touches.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int64
        Clusters of the training samples, numbered by decreasing size; equal to ``predict`` of them.
        -1 for files that were skipped.
    cluster_sizes_ : ndarray of shape (n_clusters,), int64
        Training samples per cluster, decreasing; empty clusters come last.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean loss of each epoch.
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"`` and ``"cluster"`` (0 before
        `cluster_start`).
    encoder_ : torch.nn.Module
        The trained encoder, on the CPU and in evaluation mode.
    input_shape_ : tuple of int
        Shape of one sample as given in fit.
    device_ : str
        Device that the training ran on.
    precision_ : str
        Precision that the training ran in.
    skipped_ : list of str
        Image files that could not be read, with ``on_error="skip"``.
    n_features_in_ : int
        Number of features, or of pixels times channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X was a data frame with string names.

    See Also
    --------
    ContrastiveClustering : Instance and cluster heads on one network; the most tested of the four.

    Notes
    -----
    Image files are a folder, searched with its subfolders, or a list, array or Series of paths.
    Files that are all grey give images without a channel axis, others RGB on a white background.
    Memory maps, torch datasets, and files that do not fit into memory are read while training.

    A 4-D X has its channels on the axis of length 1, 3 or 4, last or second; if both fit, the last
    one is taken for numpy arrays and the second one for torch tensors. Float images are scaled to
    [0, 1] by the smallest and largest value of the training set.

    Only the abstract, the introduction and the captions of the paper could be read, and no code is
    public: everything beyond two networks, a contrastive loss and a pull to the cluster is this
    project's reading. The centroid of a cluster that is never the nearest stays where it is.

    References
    ----------
    .. [1] Giakoumoglou and Stathaki, "Cluster contrast for unsupervised visual representation
       learning", ICIP 2025, https://arxiv.org/abs/2507.12359
    .. [2] He et al., "Momentum contrast for unsupervised visual representation learning", CVPR
       2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ClusterContrast
    >>> images = load_digits().images
    >>> model = ClusterContrast(n_clusters=10, max_epochs=4, random_state=0)
    >>> labels = model.fit_predict(images)
    >>> labels.shape, model.predict_proba(images[:3]).shape
    ((1797,), (3, 10))
    """

    _paper: ClassVar[Preset] = _PAPER
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepClusterer._parameter_constraints,
        "hidden_dim": [positive_int],
        "projection_dim": [positive_int],
        "instance_temperature": [positive_float],
        "cluster_temperature": [positive_float],
        "cluster_weight": [non_negative_float],
        "cluster_form": [one_of("cross-entropy", "pull")],
        "centroid_update": [one_of("moving-average", "k-means")],
        "centroid_momentum": [fraction],
        "momentum": [fraction],
        "queue_size": [non_negative_int],
        "batch_negatives": ["boolean"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        encoder: str | nn.Module | Callable[[], nn.Module] = "auto",
        freeze_encoder: bool = False,
        augmentation: str | Callable[[Tensor], Tensor] = "auto",
        image_shape: tuple[int, ...] | None = None,
        image_size: int | tuple[int, int] | str = "auto",
        on_error: str = "raise",
        hidden_dim: int = 256,
        projection_dim: int = 128,
        instance_temperature: float = 0.5,
        cluster_temperature: float = 0.3,
        cluster_weight: float = 1.0,
        cluster_form: str = "cross-entropy",
        cluster_start: float = 0.3,
        centroid_update: str = "moving-average",
        centroid_momentum: float = 0.9,
        momentum: float = 0.9,
        queue_size: int = 256,
        batch_negatives: bool = True,
        n_neighbors: int = 10,
        neighbor_start: float = 0.6,
        neighbor_space: str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        optimizer: str = "adam",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        warmup: float = 0.05,
        device: str | torch.device = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_time: float | None = None,
        tol: float | None = None,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | float = 1,
        verbose: int = 0,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.augmentation = augmentation
        self.image_shape = image_shape
        self.image_size = image_size
        self.on_error = on_error
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.cluster_form = cluster_form
        self.cluster_start = cluster_start
        self.centroid_update = centroid_update
        self.centroid_momentum = centroid_momentum
        self.momentum = momentum
        self.queue_size = queue_size
        self.batch_negatives = batch_negatives
        self.n_neighbors = n_neighbors
        self.neighbor_start = neighbor_start
        self.neighbor_space = neighbor_space
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.device = device
        self.precision = precision
        self.compile = compile
        self.max_time = max_time
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose
        self.random_state = random_state

    def _make_objective(self, encoder: nn.Module, feature_dim: int) -> Objective:
        return ClusterContrastObjective(
            encoder,
            feature_dim,
            n_clusters=self.n_clusters,
            hidden_dim=self.hidden_dim,
            projection_dim=self.projection_dim,
            instance_temperature=self.instance_temperature,
            cluster_temperature=self.cluster_temperature,
            cluster_weight=self.cluster_weight,
            cluster_form=self.cluster_form,
            cluster_start=self.cluster_start,
            centroid_update=self.centroid_update,
            centroid_momentum=self.centroid_momentum,
            momentum=self.momentum,
            queue_size=self.queue_size,
            batch_negatives=self.batch_negatives,
            neighbors=self._neighbor_stage(),
        )
