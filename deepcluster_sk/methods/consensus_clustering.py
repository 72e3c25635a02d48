"""Consensus clustering with unsupervised representation learning (ConCURL).

Regatti, Deshmukh, Manavoglu and Dogan: "Consensus clustering with unsupervised representation
learning", 2020, arXiv 2010.01245. The consensus loss is that of the authors' code for a later paper
(Deshmukh et al., "Representation learning for clustering via building consensus", 2021, arXiv
2105.01289), which differs in the contrast of samples; that one is this project's reading.

=================  ==========================================================
symbol             name in the code
=================  ==========================================================
z                  z: projections for the clusters
c                  prototypes
q                  codes
R_m                random_projections
tau                code_temperature
epsilon            sinkhorn_epsilon
M                  n_transforms
alpha, gamma       swapped_weight, consensus_weight; beta is 1
=================  ==========================================================
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
from .._networks.modules import FeatureQueue, Prototypes, projection_head
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import info_nce, inner_products, sinkhorn, swapped_prediction


def instance_loss(
    h_a: Tensor, h_b: Tensor, *, temperature: float = 0.5, queue: Tensor | None = None
) -> Tensor:
    """Tell the other view of a sample from other samples, in both directions.

    Parameters
    ----------
    h_a, h_b : Tensor of shape (B, d), float
        Embeddings of unit length.
    temperature : float, default=0.5
    queue : Tensor of shape (m, d) or None, default=None
        Past embeddings, further negatives.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the 2B embeddings.
    """
    there = info_nce(h_a, h_b, temperature=temperature, extra_keys=queue)
    back = info_nce(h_b, h_a, temperature=temperature, extra_keys=queue)
    return (there + back) / 2


def projected_scores(z: Tensor, prototypes: Tensor, transforms: Tensor) -> Tensor:
    """Cosines of projections and prototypes after each of several linear maps.

    Parameters
    ----------
    z : Tensor of shape (..., B, d), float
    prototypes : Tensor of shape (K, d), float
        No gradient reaches them.
    transforms : Tensor of shape (M, p, d), float
        The maps R_m.

    Returns
    -------
    scores : Tensor of shape (M, ..., B, K), float32
        ``cos(R_m z_i, R_m c_k)``.
    """
    of_z = inner_products(z.flatten(0, -2), transforms)
    of_c = inner_products(prototypes.detach(), transforms)
    cosines = inner_products(
        F.normalize(of_z, dim=-1, eps=1e-8), F.normalize(of_c, dim=-1, eps=1e-8)
    )
    return torch.unflatten(cosines, 1, z.shape[:-1])


def consensus_loss(
    z: Tensor, prototypes: Tensor, codes: Tensor, transforms: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Predict the codes of each view from the other one, after each of several random projections.

    Parameters
    ----------
    z : Tensor of shape (2, B, d), float
        Projections of the two views, of any length.
    prototypes : Tensor of shape (K, d), float
        No gradient reaches them.
    codes : Tensor of shape (2, B, K), float
        Of both views, rows summing to one.
    transforms : Tensor of shape (M, p, d), float
    temperature : float, default=0.1
        tau.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the M projections and both directions.
    """
    scores = projected_scores(z, prototypes, transforms)
    return swapped_prediction(scores, codes, temperature=temperature).mean()


class RandomProjections(nn.Module):
    """Random linear maps R_m, which stay the same; entries have the variance ``1 / dim``."""

    only_in_training = True
    weight: Tensor

    def __init__(self, n_transforms: int, dim: int, in_features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(n_transforms, dim, in_features) / dim**0.5)


class ConsensusObjective(CentroidObjective):
    """An encoder with an instance head, and a projector with prototypes."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings, started=settings.cluster_start == 0)
        dim, width = settings.projection_dim, settings.hidden_dim
        self.instance_head = nn.Linear(feature_dim, settings.instance_dim)
        self.projector = projection_head(feature_dim, width, dim)
        self.prototypes = Prototypes(settings.n_clusters, dim, normalize=True)
        self.transforms = RandomProjections(settings.n_transforms, settings.transform_dim, dim)
        size, width = settings.queue_size, settings.instance_dim
        self.queue = FeatureQueue(size, width) if size else None

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_instance + gamma L_consensus + alpha L_swap``.

        The last two are 0 before the start of the prototypes.
        """
        settings = self.settings
        features = self.encoder(torch.cat(batch.views))
        embeddings = F.normalize(self.instance_head(features).float(), dim=1)
        h_a, h_b = map(gather, embeddings.chunk(2))
        tau, queue = settings.instance_temperature, None
        if self.queue is not None:
            queue = self.queue.features
        instance = instance_loss(h_a, h_b, temperature=tau, queue=queue)

        z = gather(torch.stack(self.projector(features).float().chunk(2)), dim=1)
        mu, tau = self.prototypes(), settings.code_temperature
        scores = inner_products(F.normalize(z, dim=-1), mu)
        codes = sinkhorn(scores, epsilon=settings.sinkhorn_epsilon)
        consensus = consensus_loss(z, mu, codes, self.transforms.weight, temperature=tau)
        swapped = swapped_prediction(scores, codes, temperature=tau)
        consensus, swapped = self.started * consensus, self.started * swapped
        return LossOutput(
            instance + settings.consensus_weight * consensus + settings.swapped_weight * swapped,
            detached(instance=instance, consensus=consensus, swapped=swapped),
            carry=(h_b.detach(),),
        )

    def nearness(self, vectors: Tensor) -> Tensor:
        """Return the scores of the prototypes."""
        products: Tensor = vectors @ self.prototypes().mT
        return products

    def assign(self, features: Tensor) -> Tensor:
        """Softmax over the prototypes."""
        scores = self.nearness(self.project(features))
        return torch.softmax(scores / self.settings.code_temperature, dim=1)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Move the queue, if there is one."""
        if self.queue is not None:
            self.queue.push(carry[0])

    def settle(self, features: Tensor) -> None:
        """Gather the projections."""
        self.neighbors.gather(self.projector, features, self.settings.code_temperature)

    def take(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the prototypes be the centroids of the clusters."""
        n_clusters = len(self.prototypes.weight)
        self.prototypes.weight.copy_(centroids_of(vectors, labels, n_clusters))


# the authors' scripts for the later paper, whose results these are; images of 32 x 32 pixels for
# CIFAR, 160 x 160 for the subsets of ImageNet. STL-10 has no script: those of CIFAR-10
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet18",
        "augmentation": images(scale=(0.2, 1.0)),
        "hidden_dim": 2048,
        "projection_dim": 256,
        "n_transforms": 64,
        "transform_dim": 152,
        "swapped_weight": 0.0,
        "instance_temperature": 0.85,
        "queue_size": 4096,
        "max_epochs": 2000,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.015,
        "weight_decay": 5e-4,
        "schedule": "cosine",
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.762, 0.846, 0.715)),
        "cifar100": (
            {
                "n_clusters": 20,
                "n_transforms": 16,
                "transform_dim": 88,
                "instance_temperature": 0.35,
                "learning_rate": 0.06,
            },
            scores(0.468, 0.479, 0.303),
        ),
        "stl10": ({"n_clusters": 10}, scores(0.636, 0.749, 0.566)),
        "imagenet10": (
            {
                "n_clusters": 10,
                "encoder": "resnet50",
                "n_transforms": 1,
                "transform_dim": 104,
                "instance_temperature": 1.0,
                "learning_rate": 0.03,
            },
            scores(0.907, 0.958, 0.909),
        ),
        "imagenet_dogs": (
            {
                "n_clusters": 15,
                "encoder": "resnet50",
                "transform_dim": 136,
                "instance_temperature": 0.5,
                "learning_rate": 0.06,
            },
            scores(0.630, 0.695, 0.531),
        ),
    },
)


@with_parameters
class ConsensusClustering(BaseDeepClusterer):
    """Consensus clustering (ConCURL) of images or rows.

    A trainable prototype stands for each cluster, and the samples of each batch are shared out
    equally to the prototypes. The assignments of one view are predicted from the other view, in
    each of several random projections of samples and prototypes: clusters are what all of these
    agree on. An instance head tells each sample from all others.

    Parameters
    ----------
    hidden_dim : int, default=256
        Width of the hidden layer of the projector; 2,048 in the authors' code.
    projection_dim : int, default=128
        Number of outputs of the projector, and dimension of the prototypes; 256 in the authors'
        code.
    instance_dim : int, default=128
        Number of outputs of the instance head.
    n_transforms : int, default=16
        M, the number of random projections.
    transform_dim : int, default=64
        Number of dimensions that a random projection maps to.
    consensus_weight : float, default=1.0
        gamma, the weight of the consensus.
    swapped_weight : float, default=1.0
        alpha, the weight of the prediction without a random projection, the only loss that moves
        the prototypes; 0 in the authors' scripts.
    instance_temperature : float, default=0.5
        Divides the similarities of the instance head; lower values press harder on the most
        similar other samples.
    code_temperature : float, default=0.1
        tau of the softmax over the prototypes.
    sinkhorn_epsilon : float, default=0.05
        epsilon of the codes: larger values give softer ones.
    queue_size : int, default=0
        Number of past embeddings that are further negatives of the instance head; 4,096 in the
        authors' scripts.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the prototypes come into play, from k-means on the
        projections, in [0, 1). Until then only the instance head is trained. 0 is the paper's
        method. ``"auto"`` is .3, and 168 steps in a training of more than 560 steps without
        `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, and from `cluster_start` on
        ``"consensus"`` and ``"swapped"``, 0 before.

    Notes
    -----
    The codes, the random projections and the consensus are those of the authors' code; its contrast
    with a memory of all samples is replaced by one with the other samples of the batch.

    References
    ----------
    .. [1] Regatti, Deshmukh, Manavoglu and Dogan, "Consensus clustering with unsupervised
       representation learning", 2020, https://arxiv.org/abs/2010.01245
    .. [2] Deshmukh, Regatti, Manavoglu and Dogan, "Representation learning for clustering via
       building consensus", 2021, https://arxiv.org/abs/2105.01289
    """

    _objective_class: ClassVar[type[Objective]] = ConsensusObjective
    _paper: ClassVar[Preset] = _PAPER

    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    instance_dim: kinds.PositiveInt = 128
    n_transforms: kinds.PositiveInt = 16
    transform_dim: kinds.PositiveInt = 64
    consensus_weight: kinds.NonNegativeFloat = 1.0
    swapped_weight: kinds.NonNegativeFloat = 1.0
    instance_temperature: kinds.PositiveFloat = 0.5
    code_temperature: kinds.PositiveFloat = 0.1
    sinkhorn_epsilon: kinds.PositiveFloat = 0.05
    queue_size: kinds.NonNegativeInt = 0
