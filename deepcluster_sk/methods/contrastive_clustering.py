"""Contrastive clustering (CC).

Li, Hu, Liu, Peng, Zhou and Peng: "Contrastive clustering", AAAI 2021, arXiv 2009.09687. The losses
are those that the authors' code computes; its entropy term has another sign and normalisation
than the formula printed in the paper.

=================  ===================================================
symbol             name in the code
=================  ===================================================
h                  features, output of the encoder
z^a, z^b           z_a, z_b: instance projections of the two views
y^a, y^b (c here)  c_a, c_b: soft assignments of the two views
tau_I, tau_C       instance_temperature, cluster_temperature
H(Y)               log K - negative_entropy, per view
=================  ===================================================
"""

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor, nn

from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import Preset, scores
from .._estimator.validation import (
    non_negative_float,
    positive_float,
    positive_int,
)
from .._networks.cluster_heads import ClusterHeads
from .._networks.modules import projection_head
from .._networks.neighbors import NeighborStage
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, MapAll, Objective
from ..augmentations import images
from ..losses import at_least_float32, negative_entropy, nt_xent


def instance_loss(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Tell the two views of an image from all other images of the batch, Eq. (1)-(3).

    Parameters
    ----------
    z_a, z_b : Tensor of shape (B, projection_dim), float
        Projections of unit length.
    temperature : float, default=0.5
        tau_I.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the 2B projections.
    """
    return nt_xent(z_a, z_b, temperature=temperature)


def cluster_loss(c_a: Tensor, c_b: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Tell the two views of a cluster from all other clusters, Eq. (4)-(6), without the entropy.

    A cluster is represented by its column of assignments over the batch; columns are compared by
    their cosine.

    Parameters
    ----------
    c_a, c_b : Tensor of shape (..., B, K), float
        Soft assignments, rows summing to one. Leading axes are independent heads.
    temperature : float, default=1.0
        tau_C.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the 2K columns; 0 for one cluster.
    """
    # an empty column must not divide by zero: the floor of torch.nn.CosineSimilarity
    column_a = F.normalize(at_least_float32(c_a), dim=-2, eps=1e-8)
    column_b = F.normalize(at_least_float32(c_b), dim=-2, eps=1e-8)
    return nt_xent(column_a.mT, column_b.mT, temperature=temperature)


class ContrastiveObjective(Objective):
    """Encoder, instance head and cluster heads, trained together (Fig. 2 of the paper).

    Several cluster heads share the encoder; the paper has one. In the end the one is kept on which
    neighbours agree the most.
    """

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        *,
        n_clusters: int,
        n_heads: int,
        hidden_dim: int,
        projection_dim: int,
        instance_temperature: float,
        cluster_temperature: float,
        cluster_weight: float,
        entropy_weight: float,
        cluster_start: float,
        neighbors: NeighborStage,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.instance_head = projection_head(feature_dim, hidden_dim, projection_dim)
        self.cluster_heads = ClusterHeads(
            feature_dim, hidden_dim, n_clusters, n_heads, start=cluster_start, n_kmeans=1
        )
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.entropy_weight = entropy_weight
        self.neighbors = neighbors

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_instance + cluster_weight L_cluster + entropy_weight (NE_a + NE_b)``.

        All but `L_instance` are means over the heads, and 0 before their start.
        """
        features = self.encoder(torch.cat(batch.views))
        z_a, z_b = map(gather, self._project(features).chunk(2))
        c_a, c_b = (gather(c, 1) for c in _softmax(self.cluster_heads(features)).chunk(2, dim=1))
        instance = instance_loss(z_a, z_b, temperature=self.instance_temperature)
        cluster = cluster_loss(c_a, c_b, temperature=self.cluster_temperature).mean()
        entropy = (negative_entropy(c_a) + negative_entropy(c_b)).mean()
        cluster, entropy = (self.cluster_heads.started * term for term in (cluster, entropy))
        return LossOutput(
            instance + self.cluster_weight * cluster + self.entropy_weight * entropy,
            {
                "instance": instance.detach(),
                "cluster": cluster.detach(),
                "entropy": entropy.detach(),
            },
        )

    def _project(self, features: Tensor) -> Tensor:
        """Return unit projections (n, projection_dim), float32."""
        return F.normalize(self.instance_head(features).float(), dim=1)

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the first cluster head: the only one that is left after training."""
        return _softmax(self.cluster_heads(features)[0])

    def permute_clusters(self, order: Tensor) -> None:
        """Permute the outputs of the cluster heads."""
        self.cluster_heads.select(order)

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and give the worst head a fresh start."""
        self.cluster_heads.before_epoch(progress, map_all, self.encoder, self.neighbors)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show a neighbour in the second view, once there are neighbours."""
        return self.neighbors.view_rows(plan, generator)

    def after_training(self, map_all: MapAll) -> None:
        """Keep one head."""
        self.cluster_heads.keep_best(map_all.on_sampled(self.encoder), self.neighbors)


def _softmax(logits: Tensor) -> Tensor:
    """Soft assignments in float32, whatever the precision of the logits."""
    return logits.float().softmax(dim=-1)


# the authors' configuration files; images of 224 x 224 pixels
_PAPER = Preset(
    {
        "encoder": "resnet34",
        "n_heads": 1,
        "hidden_dim": 512,
        "cluster_start": 0.0,
        "n_neighbors": 0,
        "augmentation": images(strength=0.5),
        "max_epochs": 1000,
        "learning_rate": 3e-4,
        "schedule": "constant",
        "warmup": 0.0,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.705, 0.790, 0.637)),
        "cifar100": ({"n_clusters": 20}, scores(0.431, 0.429, 0.266)),
        "stl10": (
            {"n_clusters": 10, "augmentation": images(strength=1.0)},
            scores(0.764, 0.850, 0.726),
        ),
        "imagenet10": (
            {"n_clusters": 10, "augmentation": images(strength=1.0, blur=True)},
            scores(0.859, 0.893, 0.822),
        ),
        "imagenet_dogs": (
            {"n_clusters": 15, "augmentation": images(strength=1.0, blur=True)},
            scores(0.445, 0.429, 0.274),
        ),
    },
)


class ContrastiveClustering(BaseDeepClusterer):
    """Contrastive clustering (CC) of images or rows.

    Two augmented views of each sample pass through an encoder. An instance head learns to tell
    each sample from all others, a cluster head yields soft assignments whose columns are
    contrasted in the same way, and an entropy term keeps all clusters in use. In the last part of
    the training, the second view shows one of the sample's nearest neighbours.

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
    n_heads : int, default=6
        Number of cluster heads that are trained side by side on one encoder. The one is kept on
        which neighbours agree the most. The paper has one; more make the result depend less on
        the seed.
    hidden_dim : int, default=256
        Width of the hidden layer of all heads; the paper uses the number of features.
    projection_dim : int, default=128
        Number of outputs of the instance head.
    instance_temperature : float, default=0.5
        tau_I; lower values press harder on the most similar other samples.
    cluster_temperature : float, default=1.0
        tau_C.
    cluster_weight : float, default=1.0
        Weight of the cluster loss.
    entropy_weight : float, default=1.0
        Weight of the entropy terms. Lower it for clusters of very different size, raise it if
        clusters stay empty.
    cluster_start : float, default=0.3
        Share of the epochs after which the cluster heads begin to learn, in [0, 1): one from
        k-means on the features, the others from random weights. Until then only the instance head
        is at work. 0 is the paper's method.
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
        Mean of each loss term per epoch: ``"instance"``, and from `cluster_start` on ``"cluster"``
        and ``"entropy"``, 0 before.
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
    sklearn.cluster.KMeans : Spherical clusters in the space of the data itself.

    Notes
    -----
    Image files are a folder, searched with its subfolders, or a list, array or Series of paths.
    Files that are all grey give images without a channel axis, others RGB on a white background.
    Memory maps, torch datasets, and files that do not fit into memory are read while training.

    A 4-D X has its channels on the axis of length 1, 3 or 4, last or second; if both fit, the last
    one is taken for numpy arrays and the second one for torch tensors. Float images are scaled to
    [0, 1] by the smallest and largest value of the training set.

    The losses are those that the authors' code computes. Both views pass through the network in
    one batch.

    References
    ----------
    .. [1] Li, Hu, Liu, Peng, Zhou and Peng, "Contrastive clustering", AAAI 2021,
       https://arxiv.org/abs/2009.09687
    .. [2] Van Gansbeke et al., "SCAN: learning to classify images without labels", ECCV 2020, for
       the neighbour stage.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> images = load_digits().images
    >>> model = ContrastiveClustering(n_clusters=10, max_epochs=2, random_state=0)
    >>> labels = model.fit_predict(images)
    >>> labels.shape, model.predict_proba(images[:3]).shape
    ((1797,), (3, 10))
    """

    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = " a larger entropy_weight,"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepClusterer._parameter_constraints,
        "n_heads": [positive_int],
        "hidden_dim": [positive_int],
        "projection_dim": [positive_int],
        "instance_temperature": [positive_float],
        "cluster_temperature": [positive_float],
        "cluster_weight": [non_negative_float],
        "entropy_weight": [non_negative_float],
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
        n_heads: int = 6,
        hidden_dim: int = 256,
        projection_dim: int = 128,
        instance_temperature: float = 0.5,
        cluster_temperature: float = 1.0,
        cluster_weight: float = 1.0,
        entropy_weight: float = 1.0,
        cluster_start: float = 0.3,
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
        self.n_heads = n_heads
        self.hidden_dim = hidden_dim
        self.projection_dim = projection_dim
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.entropy_weight = entropy_weight
        self.cluster_start = cluster_start
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
        return ContrastiveObjective(
            encoder,
            feature_dim,
            n_clusters=self.n_clusters,
            n_heads=self.n_heads,
            hidden_dim=self.hidden_dim,
            projection_dim=self.projection_dim,
            instance_temperature=self.instance_temperature,
            cluster_temperature=self.cluster_temperature,
            cluster_weight=self.cluster_weight,
            entropy_weight=self.entropy_weight,
            cluster_start=self.cluster_start,
            neighbors=self._neighbor_stage(),
        )
