"""Contrastive embedded clustering (CADEEP).

Sundareswaran, Herrera-Gerena, Just and Jannesari: "Cluster analysis with deep embeddings and
contrastive learning", 2021, arXiv 2109.12714. The terms are those that the authors' code computes,
by a description of that code; what the defaults change is this project's.

=================  ======================================================
symbol             name in the code
=================  ======================================================
x, x_i, x_j        plain, and the two augmented views
z_i, z_j           z_a, z_b: instance projections of the two views
e                  embedding, in which the centres are: z, or the features
mu                 centers
q, p               q: assignments by Student's t; p: their target distribution
tau                instance_temperature
=================  ======================================================
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset
from .._estimator.parameters import with_parameters
from .._networks.centroid_objective import CentroidObjective
from .._networks.modules import Prototypes, projection_head
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, inner_products, nt_xent


def student_t(embedding: Tensor, centers: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Assign samples by Student's t of one degree of freedom (Xie et al. 2016, Eq. 1).

    ``q_ik`` is proportional to ``1 / (1 + ||e_i - mu_k||^2 / temperature)``.

    Parameters
    ----------
    embedding : Tensor of shape (B, d), float
    centers : Tensor of shape (K, d), float
    temperature : float, default=1.0
        Squared distance at which a kernel has half of its height; 1 in the paper.

    Returns
    -------
    q : Tensor of shape (B, K), float32
        Rows sum to one.
    """
    e, mu = at_least_float32(embedding), at_least_float32(centers)
    squares = (
        e.square().sum(dim=1, keepdim=True) + mu.square().sum(dim=1) - 2 * inner_products(e, mu)
    )
    kernel = 1 / (1 + squares.clamp_min(0) / temperature)
    return kernel / kernel.sum(dim=1, keepdim=True)


def target_distribution(q: Tensor) -> Tensor:
    """Sharpen assignments, and even the clusters out (Xie et al. 2016, Eq. 3).

    ``p_ik`` is proportional to ``q_ik^2 / sum over i of q_ik``.

    Parameters
    ----------
    q : Tensor of shape (B, K), float
        Soft assignments, rows summing to one, none of them zero.

    Returns
    -------
    p : Tensor of shape (B, K), float
        Rows sum to one.
    """
    weight = q.square() / q.sum(dim=0)
    return weight / weight.sum(dim=1, keepdim=True)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence from assignments q to p, in nats; the mean over samples.

    Parameters
    ----------
    p, q : Tensor of shape (B, K), float
        Rows sum to one, none of their values is zero.

    Returns
    -------
    divergence : Tensor of shape (), float32
        At least 0, and 0 where they are equal.
    """
    return (p * (p.log() - q.log())).sum(dim=1).mean()


class EmbeddedObjective(CentroidObjective):
    """An instance head, and centres among its projections or among the features.

    The third view shows the sample as it is.
    """

    n_plain_views = 1

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        width, dim = settings.hidden_dim, settings.projection_dim
        self.projector = projection_head(feature_dim, width, dim)
        self.centers = Prototypes(
            settings.n_clusters, dim if settings.embed else feature_dim, normalize=settings.embed
        )

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_instance + cluster_weight (KL(p, q) + KL(q, q_i) + KL(q, q_j))``.

        The divergences begin with the centres. No gradient reaches p, nor q where it is a target.
        """
        settings = self.settings
        views = self.encoder(torch.cat(batch.views)).chunk(3)
        embedded = [self.project(view) for view in views]
        z_a, z_b = embedded[:2] if settings.embed else map(super().project, views[:2])
        instance = nt_xent(gather(z_a), gather(z_b), temperature=settings.instance_temperature)
        q_a, q_b, q = (gather(self.nearness(e)) for e in embedded)
        own = q.detach()
        sharpened = divergence(target_distribution(own), q)
        consistent = divergence(own, q_a) + divergence(own, q_b)
        sharpened, consistent = self.started * sharpened, self.started * consistent
        return LossOutput(
            instance + settings.cluster_weight * (sharpened + consistent),
            detached(instance=instance, target=sharpened, consistency=consistent),
        )

    def project(self, features: Tensor) -> Tensor:
        """Return what centres are compared with: (n, d), float32."""
        return super().project(features) if self.settings.embed else features.float()

    def nearness(self, vectors: Tensor) -> Tensor:
        """Return q."""
        return student_t(vectors, self.centers(), temperature=self.settings.kernel_scale)

    def assign(self, features: Tensor) -> Tensor:
        """Return q."""
        return self.nearness(self.project(features))

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show the sample itself, or a neighbour in the second view, and the sample as it is."""
        return torch.cat([super().view_rows(plan, generator), plan[:, None]], dim=1)

    def settle(self, features: Tensor) -> None:
        """Gather the instance projections, if the centres are among them."""
        if self.settings.embed:
            self.neighbors.gather(self.projector, features, self.settings.kernel_scale)

    def take(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the centres be the means of the clusters."""
        members = F.one_hot(labels.to(vectors.device), len(self.centers.weight)).float()
        means = members.mT @ vectors / members.sum(dim=0).clamp_min(1)[:, None]
        self.centers.weight.copy_(means)


# by a description of the authors' code
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet34",
        "hidden_dim": 512,
        "embed": False,
        "kernel_scale": 1.0,
        "augmentation": images(strength=0.5),
        "max_epochs": 2000,
        "batch_size": 128,
        "learning_rate": 3e-4,
    },
    {"cifar10": ({"n_clusters": 10}, {"NMI": 0.772})},
)


@with_parameters
class ContrastiveEmbeddedClustering(BaseDeepClusterer):
    """Contrastive embedded clustering (CADEEP) of images or rows.

    Deep embedded clustering beside contrastive learning: an instance head learns to tell each
    sample from all others, centres assign samples by Student's t, samples without augmentation are
    drawn to a sharpened version of their assignments, and augmented views to the assignments
    of the sample.

    Parameters
    ----------
    hidden_dim : int, default=256
        Width of the hidden layer of the heads.
    projection_dim : int, default=128
        Number of outputs of the instance head.
    embed : bool, default=True
        Whether the centres are among the projections of the instance head, which have unit length;
        in the paper they are among the features.
    instance_temperature : float, default=0.5
        tau; lower values press harder on the most similar other samples.
    kernel_scale : float, default=0.1
        Squared distance from a centre at which Student's t has half of its height; 1 in the paper.
    cluster_weight : float, default=1.0
        Weight of the three divergences.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the centres begin to count, from k-means on the projections,
        in [0, 1). Until then only the instance head is trained. 0 is the paper's method, which
        takes the centres of k-means on the features of the untrained network. ``"auto"`` is .3, and
        168 steps in a training of more than 560 steps without `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, and from `cluster_start` on ``"target"``,
        the divergence from the target distribution, and ``"consistency"``, those between a sample
        and its views; 0 before.

    Notes
    -----
    The terms follow a description of the authors' code. The target distribution is that of
    the batch. Centres among projections, the late start and the neighbour stage are this project's.

    References
    ----------
    .. [1] Sundareswaran, Herrera-Gerena, Just and Jannesari, "Cluster analysis with deep embeddings
       and contrastive learning", 2021, https://arxiv.org/abs/2109.12714
    .. [2] Xie, Girshick and Farhadi, "Unsupervised deep embedding for clustering analysis", ICML
       2016, https://arxiv.org/abs/1511.06335
    """

    _objective_class: ClassVar[type[Objective]] = EmbeddedObjective
    _paper: ClassVar[Preset] = _PAPER

    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    embed: kinds.Boolean = True
    instance_temperature: kinds.PositiveFloat = 0.5
    kernel_scale: kinds.PositiveFloat = 0.1
    cluster_weight: kinds.NonNegativeFloat = 1.0
