"""Twin-contrast clustering (TCC), in this project's reading.

Shen, Shen, Wang, Qin, Torr and Shao: "You never cluster alone", NeurIPS 2021, arXiv 2106.01908.
The authors' code is not public and the method section could not be read: the formulas here follow
the abstract, a prototype by the first author, and later papers that cite it.

==================  ==========================================================
symbol              name in the code
==================  ==========================================================
v, v^               v, keys: unit projections; of the network, of its momentum copy
mu                  prototypes
pi(k | x)           pi: soft assignments
c                   sample: Gumbel-softmax sample of pi
r_k, r^_k           r, r_key: cluster representations
e, e^               e, e_key: instance representations
tau                 instance_temperature, cluster_temperature
lambda              gumbel_temperature
alpha               alpha
L, J                n_cluster_sets, queue_size: lengths of the queues
==================  ==========================================================
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
    closed_fraction,
    fraction,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
)
from .._networks.kmeans import better_centroids, kmeans_centroids
from .._networks.modules import FeatureQueue, MomentumCopy, projection_head
from .._networks.neighbors import NeighborStage
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, MapAll, Objective
from ..augmentations import images
from ..losses import at_least_float32, info_nce, negative_entropy


def gumbel_softmax(logits: Tensor, gumbel: Tensor, *, temperature: float = 0.8) -> Tensor:
    """Reparametrised sample of a categorical variable, relaxed.

    Parameters
    ----------
    logits : Tensor of shape (B, K), float
        Logarithms of the probabilities, up to a constant per row.
    gumbel : Tensor of shape (B, K), float
        Standard Gumbel noise.
    temperature : float, default=0.8
        lambda; towards 0 the samples become one-hot.

    Returns
    -------
    sample : Tensor of shape (B, K), float
        Rows sum to one.
    """
    return ((logits + gumbel) / temperature).softmax(dim=1)


def cluster_representations(v: Tensor, weights: Tensor) -> Tensor:
    """Aggregate the projections of a batch: ``r_k = l2(sum over i of w_ik v_i)``.

    Parameters
    ----------
    v : Tensor of shape (B, d), float
    weights : Tensor of shape (B, K), float

    Returns
    -------
    r : Tensor of shape (K, d), float32
        Rows of unit length; the scale of a column of weights does not matter.
    """
    mass = at_least_float32(weights).sum(dim=0)[:, None]
    mean = at_least_float32(weights).mT @ at_least_float32(v) / mass.clamp_min(1e-8)
    return F.normalize(mean, dim=1, eps=1e-8)


def cluster_loss(
    r: Tensor,
    r_key: Tensor,
    *,
    temperature: float = 0.5,
    queue: Tensor | None = None,
    batch_negatives: bool = True,
) -> Tensor:
    """Tell the momentum representation of a cluster from those of other clusters, L_1.

    Parameters
    ----------
    r, r_key : Tensor of shape (K, d), float
        Cluster representations of the two networks.
    temperature : float, default=0.5
        tau.
    queue : Tensor of shape (L * K, d) or None, default=None
        Past representations in blocks of K. Those of the same cluster are no negatives.
    batch_negatives : bool, default=True
        Whether the other clusters' representations in this batch, of both networks, are negatives.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the K clusters; 0 for one cluster.
    """
    same = torch.eye(len(r), dtype=torch.bool, device=r.device)
    extra = [r] if batch_negatives else []
    if queue is not None:
        extra.append(queue.to(r.dtype))
    others = torch.cat(extra) if extra else None
    excluded = None if others is None else same.repeat(1, len(others) // len(r))
    return info_nce(
        r,
        r_key,
        temperature=temperature,
        extra_keys=others,
        excluded=excluded,
        batch_negatives=batch_negatives,
    )


def uniform_divergence(pi: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the assignments (B, K) from the uniform prior, in nats.

    In ``[0, log K]``, shape ().
    """
    return negative_entropy(pi[:, None]).mean()


class Prototypes(nn.Module):
    """A trainable vector for each cluster.

    Parameters
    ----------
    n_clusters, dim : int
        Number and dimension of the vectors.
    normalize : bool
        Whether they have unit length.
    """

    def __init__(self, n_clusters: int, dim: int, *, normalize: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_clusters, dim))
        nn.init.xavier_uniform_(self.weight)
        self.normalize = normalize

    def forward(self) -> Tensor:
        """Return mu (n_clusters, dim), float32."""
        mu = self.weight.float()
        return F.normalize(mu, dim=1) if self.normalize else mu


class TwinContrastObjective(Objective):
    """A network with prototypes, its momentum copy, and queues of instances and of clusters."""

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
        assign_temperature: float,
        gumbel_temperature: float,
        alpha: float,
        kl_weight: float,
        normalize_prototypes: bool,
        sampled_weights: bool,
        cluster_start: float,
        momentum: float,
        queue_size: int,
        n_cluster_sets: int,
        cluster_noise: float,
        batch_negatives: bool,
        neighbors: NeighborStage,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projection_head(feature_dim, hidden_dim, projection_dim)
        self.prototypes = Prototypes(n_clusters, projection_dim, normalize=normalize_prototypes)
        self.key_encoder = MomentumCopy(encoder)
        self.key_projector = MomentumCopy(self.projector)
        self.key_prototypes = MomentumCopy(self.prototypes)
        self.queue = FeatureQueue(queue_size, projection_dim)
        self.cluster_queue = FeatureQueue(n_cluster_sets * n_clusters, projection_dim)
        self.register_buffer("started", torch.tensor(float(cluster_start == 0)))
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.assign_temperature = assign_temperature
        self.gumbel_temperature = gumbel_temperature
        self.alpha = alpha
        self.kl_weight = kl_weight
        self.sampled_weights = sampled_weights
        self.cluster_start = cluster_start
        self.momentum = momentum
        self.n_cluster_sets = n_cluster_sets
        self.cluster_noise = cluster_noise
        self.batch_negatives = batch_negatives
        self.neighbors = neighbors

    def sample_noise(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw Gumbel noise for the samples, and normal noise for the queue of clusters."""
        device = generator.device
        n_clusters = len(self.prototypes.weight)
        uniform = torch.rand(batch_size, n_clusters, generator=generator, device=device)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        shape = self.cluster_queue.features.shape
        return gumbel, torch.randn(shape, generator=generator, device=device)

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``alpha L_1 + (1 - alpha) L_2``; before the start only the contrast of v."""
        query, key = batch.views
        gumbel, noise = batch.noise
        v, mu = gather(self.project(self.encoder(query))), self.prototypes()
        logits = v @ mu.mT / self.assign_temperature
        pi = logits.softmax(dim=1)
        sample = gumbel_softmax(logits, gumbel, temperature=self.gumbel_temperature)
        keys = gather(F.normalize(self.key_projector(self.key_encoder(key)).float(), dim=1))
        mu_key = self.key_prototypes()
        pi_key = (keys @ mu_key.mT / self.assign_temperature).softmax(dim=1)

        r = cluster_representations(v, sample if self.sampled_weights else pi)
        r_key = cluster_representations(keys, pi_key)
        past = self.cluster_queue.features + self.cluster_noise * noise
        cluster = cluster_loss(
            r,
            r_key,
            temperature=self.cluster_temperature,
            queue=F.normalize(past, dim=1),
            batch_negatives=self.batch_negatives,
        )
        e = F.normalize(v + self.started * (sample @ mu), dim=1)
        e_key = F.normalize(keys + self.started * (pi_key @ mu_key), dim=1)
        instance = info_nce(
            e,
            e_key,
            temperature=self.instance_temperature,
            extra_keys=self.queue.features,
            batch_negatives=self.batch_negatives,
        )
        divergence = uniform_divergence(pi)
        alpha = self.started * self.alpha
        kl_weight = self.started * self.kl_weight
        return LossOutput(
            alpha * cluster + (1 - alpha) * (instance + kl_weight * divergence),
            {
                "instance": instance.detach(),
                "cluster": cluster.detach(),
                "divergence": divergence.detach(),
            },
            carry=(e_key, r_key),
        )

    def project(self, features: Tensor) -> Tensor:
        """Return unit projections v (n, projection_dim), float32."""
        return F.normalize(self.projector(features).float(), dim=1)

    def assign(self, features: Tensor) -> Tensor:
        """Return pi, without noise."""
        logits = self.project(features) @ self.prototypes().mT / self.assign_temperature
        return torch.softmax(logits, dim=1)

    def permute_clusters(self, order: Tensor) -> None:
        """Permute the prototypes."""
        self._set_prototypes(self.prototypes.weight.detach()[order])

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Move the key network and the queues."""
        e_key, r_key = carry
        self.key_encoder.update(self.encoder, self.momentum)
        self.key_projector.update(self.projector, self.momentum)
        self.key_prototypes.update(self.prototypes, self.momentum)
        self.queue.push(e_key)
        self.cluster_queue.push(r_key)

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and renew the prototypes."""
        features = self.neighbors.search(progress, map_all, self.encoder)
        if not self.started and progress >= self.cluster_start:
            self._renew_prototypes(
                map_all.on_sampled(self.encoder) if features is None else features
            )
            self.started.fill_(1)
        elif features is not None:
            self._renew_prototypes(features)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show a neighbour in the second view, once there are neighbours."""
        return self.neighbors.view_rows(plan, generator)

    def after_training(self, map_all: MapAll) -> None:
        """Settle the prototypes on the final projections."""
        self._renew_prototypes(map_all.on_sampled(self.encoder))
        self.neighbors.end()

    def _renew_prototypes(self, features: Tensor) -> None:
        """Take those of k-means if they are not in use yet, or if neighbours agree on them more."""
        vectors, own = self.project(features), self.prototypes()
        renewed = own
        if not self.started:
            renewed = kmeans_centroids(vectors, len(own))
        elif self.neighbors.graph is not None:
            renewed = better_centroids(vectors, own, self.neighbors.graph)
        if renewed is not own:
            self._set_prototypes(renewed * own.norm(dim=1).mean())
            # the queue holds clusters of other numbers
            self.cluster_queue.push(renewed.repeat(self.n_cluster_sets, 1))

    def _set_prototypes(self, prototypes: Tensor) -> None:
        """Overwrite the prototypes of both networks, in place."""
        with torch.no_grad():
            self.prototypes.weight.copy_(prototypes)
            self.key_prototypes.update(self.prototypes, momentum=0)


# the first author's prototype and later papers: readings, not facts
_PAPER = Preset(
    {
        "encoder": "resnet34",
        "augmentation": images(scale=(0.2, 1.0)),
        "hidden_dim": 128,
        "instance_temperature": 1.0,
        "cluster_temperature": 1.0,
        "assign_temperature": 1.0,
        "alpha": 0.5,
        "kl_weight": 1.0,
        "normalize_prototypes": False,
        "cluster_start": 0.0,
        "momentum": 0.999,
        "queue_size": 12_800,
        "n_cluster_sets": 100,
        "cluster_noise": 0.1,
        "batch_negatives": False,
        "n_neighbors": 0,
        "max_epochs": 1000,
        "batch_size": 384,
        "schedule": "constant",
        "warmup": 0.0,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.790, 0.906, 0.733)),
        "cifar100": ({"n_clusters": 20}, scores(0.479, 0.491, 0.312)),
        "stl10": ({"n_clusters": 10}, scores(0.732, 0.814, 0.689)),
        "imagenet10": ({"n_clusters": 10}, scores(0.848, 0.897, 0.825)),
        "imagenet_dogs": ({"n_clusters": 15}, scores(0.554, 0.595, 0.417)),
    },
)


class TwinContrastClustering(BaseDeepClusterer):
    """Twin-contrast clustering (TCC) of images or rows.

    Trainable prototypes assign each sample to clusters. A cluster is represented by the sum of its
    samples' projections, weighted by their assignments, and contrasted with what a slowly moving
    copy of the network makes of it; samples are contrasted in the same way, each together with the
    prototypes that it is assigned to by a relaxed random draw.

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
        Number of outputs of the projector, and dimension of the prototypes.
    instance_temperature : float, default=0.5
        tau of the instance loss; 1 in the paper as recalled.
    cluster_temperature : float, default=0.5
        tau of the cluster loss; 1 in the paper as recalled.
    assign_temperature : float, default=0.1
        Divides the products of projection and prototypes in the assignment. With unit vectors, a
        value of 1 could never assign a sample with confidence.
    gumbel_temperature : float, default=0.8
        lambda of the relaxed draw; towards 0 the draws become one-hot.
    alpha : float, default=0.2
        Weight of the cluster loss, in [0, 1]; the instance loss has ``1 - alpha``.
    kl_weight : float, default=0.02
        Weight of the divergence of each assignment from the uniform prior; 1 in the ELBO. It
        presses for uncertain assignments, and stalls the training at 1 and few steps.
    normalize_prototypes : bool, default=True
        Whether prototypes have unit length.
    sampled_weights : bool, default=False
        Whether the clusters of the query network are represented with the random draws as weights,
        in place of the assignments themselves.
    cluster_start : float, default=0.3
        Share of the epochs after which prototypes come into play, from k-means on the projections,
        in [0, 1). Until then projections alone are contrasted. 0 is the paper's method.
    momentum : float, default=0.9
        Share of the old weights in the key network's average, in [0, 1). Long runs and
        photographs want more: .99 to .999.
    queue_size : int, default=256
        J: number of past instance keys that serve as negatives; 0 for none.
    n_cluster_sets : int, default=2
        L: number of past sets of K cluster representations that serve as negatives; 0 for none.
    cluster_noise : float, default=0.05
        Standard deviation, per coordinate, of the noise that is added to the past cluster
        representations at every step.
    batch_negatives : bool, default=True
        Whether other samples and clusters of the batch are negatives; otherwise only the queues
        are.
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
        Mean of each loss term per epoch: ``"instance"``, ``"cluster"`` and ``"divergence"`` from
        the uniform prior, the last two without effect before `cluster_start`.
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

    No code of the authors is public and the method section could not be read. What is a reading of
    this project is marked in the user guide.

    References
    ----------
    .. [1] Shen, Shen, Wang, Qin, Torr and Shao, "You never cluster alone", NeurIPS 2021,
       https://arxiv.org/abs/2106.01908

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import TwinContrastClustering
    >>> images = load_digits().images
    >>> model = TwinContrastClustering(n_clusters=10, max_epochs=4, random_state=0)
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
        "assign_temperature": [positive_float],
        "gumbel_temperature": [positive_float],
        "alpha": [closed_fraction],
        "kl_weight": [non_negative_float],
        "normalize_prototypes": ["boolean"],
        "sampled_weights": ["boolean"],
        "momentum": [fraction],
        "queue_size": [non_negative_int],
        "n_cluster_sets": [non_negative_int],
        "cluster_noise": [non_negative_float],
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
        cluster_temperature: float = 0.5,
        assign_temperature: float = 0.1,
        gumbel_temperature: float = 0.8,
        alpha: float = 0.2,
        kl_weight: float = 0.02,
        normalize_prototypes: bool = True,
        sampled_weights: bool = False,
        cluster_start: float = 0.3,
        momentum: float = 0.9,
        queue_size: int = 256,
        n_cluster_sets: int = 2,
        cluster_noise: float = 0.05,
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
        self.assign_temperature = assign_temperature
        self.gumbel_temperature = gumbel_temperature
        self.alpha = alpha
        self.kl_weight = kl_weight
        self.normalize_prototypes = normalize_prototypes
        self.sampled_weights = sampled_weights
        self.cluster_start = cluster_start
        self.momentum = momentum
        self.queue_size = queue_size
        self.n_cluster_sets = n_cluster_sets
        self.n_cluster_sets = n_cluster_sets
        self.cluster_noise = cluster_noise
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
        return TwinContrastObjective(
            encoder,
            feature_dim,
            n_clusters=self.n_clusters,
            hidden_dim=self.hidden_dim,
            projection_dim=self.projection_dim,
            instance_temperature=self.instance_temperature,
            cluster_temperature=self.cluster_temperature,
            assign_temperature=self.assign_temperature,
            gumbel_temperature=self.gumbel_temperature,
            alpha=self.alpha,
            kl_weight=self.kl_weight,
            normalize_prototypes=self.normalize_prototypes,
            sampled_weights=self.sampled_weights,
            cluster_start=self.cluster_start,
            momentum=self.momentum,
            queue_size=self.queue_size,
            n_cluster_sets=self.n_cluster_sets,
            cluster_noise=self.cluster_noise,
            batch_negatives=self.batch_negatives,
            neighbors=self._neighbor_stage(),
        )
