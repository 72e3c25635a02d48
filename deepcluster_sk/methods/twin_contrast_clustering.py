"""Twin-contrast clustering (TCC), in this project's reading.

Shen, Shen, Wang, Qin, Torr and Shao: "You never cluster alone", NeurIPS 2021, arXiv 2106.01908.
The authors' code is not public. The formulas follow the abstract, a prototype by the first author,
and later papers that cite it, and have not been checked against the method section.

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
L, J                n_cluster_sets, queue_size: lengths of the queues
==================  ==========================================================
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset, scores
from .._estimator.parameters import with_parameters
from .._networks.centroid_objective import CentroidObjective
from .._networks.centroids import centroids_of
from .._networks.modules import FeatureQueue, MomentumCopy, Prototypes, projection_head
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, info_nce, inner_products, negative_entropy


def gumbel_softmax(logits: Tensor, gumbel: Tensor, *, temperature: float = 0.8) -> Tensor:
    """Reparametrised sample of a categorical variable, relaxed.

    Parameters
    ----------
    logits, gumbel : Tensor of shape (B, K), float
        Logarithms of probabilities, up to a constant per row; standard Gumbel noise.
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
    mean = inner_products(weights.mT, v.mT) / mass.clamp_min(1e-8)
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
        Past representations in blocks of K. Those of the same cluster are not negatives.
    batch_negatives : bool, default=True
        Whether those of the other clusters in this batch, of both networks, are negatives.

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
    """Mean divergence of assignments (B, K) from the uniform prior, in nats: in ``[0, log K]``."""
    return negative_entropy(pi[:, None]).mean()


class TwinContrastObjective(CentroidObjective):
    """A network with prototypes, its momentum copy, and queues of instances and of clusters."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings, started=settings.cluster_start == 0)
        dim, n_clusters = settings.projection_dim, settings.n_clusters
        self.projector = projection_head(feature_dim, settings.hidden_dim, dim)
        self.prototypes = Prototypes(n_clusters, dim, normalize=settings.normalize_prototypes)
        self.key_encoder = MomentumCopy(encoder)
        self.key_projector = MomentumCopy(self.projector)
        self.key_prototypes = MomentumCopy(self.prototypes)
        self.queue = FeatureQueue(settings.queue_size, dim)
        self.cluster_queue = FeatureQueue(settings.n_cluster_sets * n_clusters, dim)

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
        settings, (query, key), (gumbel, noise) = self.settings, batch.views, batch.noise
        v, mu = gather(self.project(self.encoder(query))), self.prototypes()
        logits = inner_products(v, mu) / settings.assign_temperature
        pi = logits.softmax(dim=1)
        sample = gumbel_softmax(logits, gumbel, temperature=settings.gumbel_temperature)
        keys = gather(F.normalize(self.key_projector(self.key_encoder(key)).float(), dim=1))
        mu_key = self.key_prototypes()
        pi_key = (inner_products(keys, mu_key) / settings.assign_temperature).softmax(dim=1)

        r = cluster_representations(v, sample if settings.sampled_weights else pi)
        r_key = cluster_representations(keys, pi_key)
        past = F.normalize(self.cluster_queue.features + settings.cluster_noise * noise, dim=1)
        tau, in_batch = settings.cluster_temperature, settings.batch_negatives
        cluster = cluster_loss(r, r_key, temperature=tau, queue=past, batch_negatives=in_batch)
        e = F.normalize(v + self.started * inner_products(sample, mu.mT), dim=1)
        e_key = F.normalize(keys + self.started * inner_products(pi_key, mu_key.mT), dim=1)
        tau, queue = settings.instance_temperature, self.queue.features
        instance = info_nce(e, e_key, temperature=tau, extra_keys=queue, batch_negatives=in_batch)
        divergence = uniform_divergence(pi)
        alpha, kl_weight = self.started * settings.alpha, self.started * settings.kl_weight
        return LossOutput(
            alpha * cluster + (1 - alpha) * (instance + kl_weight * divergence),
            detached(instance=instance, cluster=cluster, divergence=divergence),
            carry=(e_key, r_key),
        )

    def nearness(self, vectors: Tensor) -> Tensor:
        """Return the products of v and mu."""
        products: Tensor = vectors @ self.prototypes().mT
        return products

    def assign(self, features: Tensor) -> Tensor:
        """Return pi, without noise."""
        products = self.nearness(self.project(features))
        return torch.softmax(products / self.settings.assign_temperature, dim=1)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Move the key network and the queues."""
        e_key, r_key = carry
        momentum = self.settings.momentum
        self.key_encoder.update(self.encoder, momentum)
        self.key_projector.update(self.projector, momentum)
        self.key_prototypes.update(self.prototypes, momentum)
        self.queue.push(e_key)
        self.cluster_queue.push(r_key)

    def settle(self, features: Tensor) -> None:
        """Gather the projections."""
        if self.neighbors.gather(self.projector, features, self.settings.assign_temperature):
            self.key_projector.update(self.projector, momentum=0)

    def take(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the prototypes of both networks, of their mean length, be the centroids."""
        own = self.prototypes()
        renewed = centroids_of(vectors, labels, len(own))
        self.prototypes.weight.copy_(renewed * own.norm(dim=1).mean())
        self.key_prototypes.update(self.prototypes, momentum=0)
        # the queue holds clusters of other numbers
        self.cluster_queue.push(renewed.repeat(self.settings.n_cluster_sets, 1))


# sizes, temperatures, momentum and noise are those of the first author's prototype; alpha,
# kl_weight, the negatives and the training have not been checked against the paper
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet34",
        "augmentation": images(scale=(0.2, 1.0)),
        "hidden_dim": 128,
        "instance_temperature": 1.0,
        "cluster_temperature": 1.0,
        "assign_temperature": 1.0,
        "gumbel_temperature": 0.3,
        "alpha": 0.5,
        "kl_weight": 1.0,
        "normalize_prototypes": False,
        "momentum": 0.999,
        "queue_size": 16_384,
        "n_cluster_sets": 20,
        "cluster_noise": 0.05,
        "batch_negatives": False,
        "max_epochs": 1000,
        "batch_size": 384,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.790, 0.906, 0.733)),
        "cifar100": ({"n_clusters": 20}, scores(0.479, 0.491, 0.312)),
        "stl10": ({"n_clusters": 10}, scores(0.732, 0.814, 0.689)),
        "imagenet10": ({"n_clusters": 10}, scores(0.848, 0.897, 0.825)),
        "imagenet_dogs": ({"n_clusters": 15}, scores(0.554, 0.595, 0.417)),
    },
)


@with_parameters
class TwinContrastClustering(BaseDeepClusterer):
    """Twin-contrast clustering (TCC) of images or rows.

    Trainable prototypes assign each sample to clusters. A cluster is represented by the sum of its
    samples' projections, weighted by their assignments, and contrasted with what a slowly moving
    copy of the network makes of it; samples are contrasted in the same way, each together with the
    prototypes that it is assigned to by a relaxed random draw. The user guide marks all readings.

    Parameters
    ----------
    hidden_dim : int, default=256
        Width of the hidden layer of the projector.
    projection_dim : int, default=128
        Number of outputs of the projector, and dimension of the prototypes.
    instance_temperature : float, default=0.5
        tau of the instance loss; 1 in the first author's prototype.
    cluster_temperature : float, default=0.5
        tau of the cluster loss; 1 in the first author's prototype.
    assign_temperature : float, default=0.1
        Divides the products of projection and prototypes in the assignment. With unit vectors, a
        value of 1 could never assign a sample with confidence.
    gumbel_temperature : float, default=0.8
        lambda of the relaxed draw; towards 0 the draws become one-hot. The prototype has .3.
    alpha : float, default=0.2
        Weight of the cluster loss, in [0, 1]; the instance loss has ``1 - alpha``.
    kl_weight : float, default=0.02
        Weight of the divergence of each assignment from the uniform prior; 1 in the ELBO. It
        presses for uncertain assignments, and stalls the training at 1 and few steps.
    normalize_prototypes : bool, default=True
        Whether prototypes have unit length.
    sampled_weights : bool, default=False
        Whether the random draws weight the query network's clusters, in place of the assignments.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which prototypes come into play, from k-means on the projections,
        in [0, 1). Until then projections alone are contrasted. 0 is the paper's method. ``"auto"``
        is .3, and 168 steps in a training of more than 560 steps without `max_time`.
    momentum : float, default=0.9
        Share of the old weights in the key network's average, in [0, 1). Long runs and
        photographs want more: .99 to .999.
    queue_size : int, default=256
        J: number of past instance keys that serve as negatives; 0 for none.
    n_cluster_sets : int, default=2
        L: number of past sets of K cluster representations that serve as negatives; 0 for none.
    cluster_noise : float, default=0.05
        Standard deviation, per coordinate, of noise on past cluster representations in each step.
    batch_negatives : bool, default=True
        Whether other samples and clusters of the batch are negatives; otherwise the queues only.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, ``"cluster"`` and ``"divergence"`` from
        the uniform prior, the last two without effect before `cluster_start`.

    References
    ----------
    .. [1] Shen, Shen, Wang, Qin, Torr and Shao, "You never cluster alone", NeurIPS 2021,
       https://arxiv.org/abs/2106.01908
    """

    _objective_class: ClassVar[type[Objective]] = TwinContrastObjective
    _paper: ClassVar[Preset] = _PAPER

    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    instance_temperature: kinds.PositiveFloat = 0.5
    cluster_temperature: kinds.PositiveFloat = 0.5
    assign_temperature: kinds.PositiveFloat = 0.1
    gumbel_temperature: kinds.PositiveFloat = 0.8
    alpha: kinds.ClosedFraction = 0.2
    kl_weight: kinds.NonNegativeFloat = 0.02
    normalize_prototypes: kinds.Boolean = True
    sampled_weights: kinds.Boolean = False
    momentum: kinds.Fraction = 0.9
    queue_size: kinds.NonNegativeInt = 256
    n_cluster_sets: kinds.NonNegativeInt = 2
    cluster_noise: kinds.NonNegativeFloat = 0.05
    batch_negatives: kinds.Boolean = True

    def _queues_in_use(self) -> list[str]:
        used = {"queue_size": self.alpha < 1 or self.cluster_start, "n_cluster_sets": self.alpha}
        return [name for name, use in used.items() if use]
