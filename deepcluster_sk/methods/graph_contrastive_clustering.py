"""Graph contrastive clustering (GCC).

Zhong, Wu, Chen, Huang, Deng, Nie, Lin and Hua: "Graph contrastive clustering", ICCV 2021, arXiv
2104.01429. The losses are those that the authors' code computes.

=================  ==================================================================
symbol             name in the code
=================  ==================================================================
z, z'              z_a, z_b: unit projections of the two views of a sample
z_j                neighbors: unit projections of neighbours in the graph
L_ij               weights: of a neighbour, from its degree in the graph
p, q               p, q: assignments of a sample and of one of its neighbours
tau                representation_temperature, assignment_temperature
lambda, eta        representation_weight, balance_weight
=================  ==================================================================
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset, scores
from .._estimator.parameters import with_parameters
from .._networks.cluster_heads import ClusterHeads, ClusterHeadsObjective
from .._networks.modules import projection_head
from .._networks.neighbor_stage import NeighborStage
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, info_nce, negative_entropy


def laplacian_weights(degrees: Tensor, *, scale: float = 3.0) -> Tensor:
    """Weigh neighbours by their number of neighbours: ``sqrt(scale / (degree + 1))``.

    Parameters
    ----------
    degrees : Tensor of any shape, int64
        With how many others the graph joins each neighbour.
    scale : float, default=3.0
        3 in the authors' code.

    Returns
    -------
    weights : Tensor of the same shape, float32
    """
    return (scale / (degrees + 1)).sqrt()


def representation_loss(
    z_a: Tensor,
    z_b: Tensor,
    neighbors: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    temperature: float = 0.1,
    include_self: bool = True,
) -> Tensor:
    """Tell the other view and the neighbours of a sample from all other vectors, L_RGC.

    Parameters
    ----------
    z_a, z_b : Tensor of shape (B, d), float
        Unit projections of two views; those of the first one are the anchors.
    neighbors : Tensor of shape (m, B, d) or None, default=None
        Unit projections of m neighbours of each sample.
    weights : Tensor of shape (m, B) or None, default=None
        Of the neighbours: factors of their projections, and of the exponentials of a sample's own.
    temperature : float, default=0.1
        Divides the products.
    include_self : bool, default=True
        Whether an anchor is among the vectors that it is told from, as in the authors' code.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the B anchors. With neighbours, the vectors of the sample itself are not in the
        denominator, so that the loss may be negative.
    """
    with torch.autocast(z_a.device.type, enabled=False):
        z_a, z_b = at_least_float32(z_a), at_least_float32(z_b)
        anchors, own = z_a / temperature, torch.eye(len(z_a), dtype=torch.bool, device=z_a.device)
        within, across = anchors @ z_a.mT, anchors @ z_b.mT
        if not include_self:
            within = within.masked_fill(own, float("-inf"))
        positive = (anchors * z_b).sum(dim=1)
        if neighbors is None or weights is None:
            return (torch.cat([within, across], dim=1).logsumexp(dim=1) - positive).mean()
        weighted = at_least_float32(neighbors) * weights[..., None]
        near = (anchors * weighted).sum(dim=2) + weights.log()
        others = torch.stack([across, *(anchors @ weighted.mT)]).masked_fill(own, float("-inf"))
        negatives = torch.cat([within, *others], dim=1).logsumexp(dim=1)
        return (negatives - torch.cat([positive[None], near]).logsumexp(dim=0)).mean()


def assignment_loss(p: Tensor, q: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Tell the neighbours' column of a cluster from those of other clusters, L_AGC.

    Parameters
    ----------
    p, q : Tensor of shape (..., B, K), float
        Assignments of samples and of one neighbour of each. Leading axes are independent heads.
    temperature : float, default=1.0
        Divides the cosines of the columns.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the K columns of p; 0 for one cluster.
    """
    # an empty column must not divide by zero
    column_p = F.normalize(at_least_float32(p), dim=-2, eps=1e-8)
    column_q = F.normalize(at_least_float32(q), dim=-2, eps=1e-8)
    return info_nce(column_p.mT, column_q.mT, temperature=temperature)


class GraphContrastiveObjective(ClusterHeadsObjective):
    """Encoder, instance head and cluster heads; neighbours of the graph are further views.

    Several cluster heads share the encoder; the paper has one. In the end the one is kept on which
    neighbours agree the most.
    """

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.neighbors = NeighborStage(settings, settings.n_searches)
        self.instance_head = projection_head(
            feature_dim, settings.hidden_dim, settings.projection_dim
        )
        self.cluster_heads = ClusterHeads(
            feature_dim,
            settings.head_hidden_dim,
            settings.n_clusters,
            settings.n_heads,
            start=settings.cluster_start,
        )
        self._weights: list[Tensor] = []  # of the neighbours that later steps of the epoch show

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show two views of each row and, once there is a graph, some of its neighbours."""
        if self.neighbors.graph is None:
            self._weights = []
            return plan[:, None].expand(-1, 2, -1)
        draws = [
            self.neighbors.draw(plan, generator) for _ in range(self.settings.n_shown_neighbors)
        ]
        rows, degrees = (torch.stack(part, dim=1) for part in zip(*draws, strict=True))
        weights = laplacian_weights(degrees, scale=self.settings.laplacian_scale)
        self._weights = list(weights.to(self.cluster_of.device).flip(0))
        return torch.cat([plan[:, None].expand(-1, 2, -1), rows], dim=1)

    def sample_noise(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Hand over the weights of the neighbours of the next step (m, B), if it shows any."""
        return (self._weights.pop(),) if self._weights else ()

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep one head, and nothing of an epoch that was cut."""
        super().after_training(features, seed)
        self._weights = []

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``representation_weight L_RGC + L_AGC + balance_weight NE``.

        All but `L_RGC` are means over the heads, and 0 before their start. Without a graph, the
        second view stands for a neighbour.
        """
        settings, n_views = self.settings, len(batch.views)
        features = self.encoder(torch.cat(batch.views))
        projections = F.normalize(self.instance_head(features).float(), dim=1)
        z_a, z_b, *shown = map(gather, projections.chunk(n_views))
        neighbors, weights = (torch.stack(shown), *batch.noise) if shown else (None, None)
        representation = representation_loss(
            z_a,
            z_b,
            neighbors,
            weights,
            temperature=settings.representation_temperature,
            include_self=settings.include_self,
        )
        assignments = self.cluster_heads(features).float().softmax(dim=-1).chunk(n_views, dim=1)
        p, q = (gather(part, dim=1) for part in (assignments[0], assignments[2 if shown else 1]))
        assignment = assignment_loss(p, q, temperature=settings.assignment_temperature).mean()
        balance = negative_entropy(p).mean()
        assignment, balance = (self.cluster_heads.started * t for t in (assignment, balance))
        return LossOutput(
            settings.representation_weight * representation
            + assignment
            + settings.balance_weight * balance,
            detached(representation=representation, assignment=assignment, balance=balance),
        )


# the authors' configuration files and training script; their graph is part of the method
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet18",
        "augmentation": images(scale=(0.2, 1.0)),
        "n_heads": 1,
        "hidden_dim": 512,
        "head_hidden_dim": 0,
        "representation_temperature": 0.1,
        "laplacian_scale": 3.0,
        "include_self": True,
        "n_shown_neighbors": 3,
        "n_neighbors": 5,
        "n_searches": 190,
        "neighbor_start": 0.05,
        "neighbor_space": "features",
        "cluster_start": 0.05,
        "max_epochs": 1000,
        "optimizer": "sgd",
        "learning_rate": 0.4,
        "weight_decay": 1e-4,
        "schedule": "cosine",
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.764, 0.856, 0.728)),
        "cifar100": ({"n_clusters": 20}, scores(0.472, 0.472, 0.305)),
        "stl10": ({"n_clusters": 10, "batch_size": 96}, scores(0.684, 0.788, 0.631)),
        "imagenet10": ({"n_clusters": 10, "batch_size": 96}, scores(0.842, 0.901, 0.822)),
        "imagenet_dogs": ({"n_clusters": 15, "batch_size": 96}, scores(0.490, 0.526, 0.362)),
        "tiny_imagenet": (
            {"n_clusters": 200, "batch_size": 128, "encoder": "resnet34"},
            scores(0.347, 0.138, 0.075),
        ),
    },
)


@with_parameters
class GraphContrastiveClustering(BaseDeepClusterer):
    """Graph contrastive clustering (GCC) of images or rows.

    A graph joins each sample with its nearest neighbours, first among what the network makes of
    them after a part of the training. From then on, an instance head learns to tell the views and
    the neighbours of a sample from all other samples, and the assignments of samples and of their
    neighbours are contrasted as columns. An entropy term keeps all clusters in use.

    Parameters
    ----------
    n_heads : int, default=6
        Number of cluster heads that are trained side by side on one encoder. One is kept: that on
        which neighbours agree the most. Where the graph of neighbours decides on the clusters, as
        for rows, it learns the best partition of the graph instead. The paper has one.
    hidden_dim : int, default=256
        Width of the hidden layer of the instance head; the paper uses the number of features.
    head_hidden_dim : int, default=256
        Width of the hidden layer of the cluster heads; 0 for none, as in the paper.
    projection_dim : int, default=128
        Number of outputs of the instance head.
    representation_temperature : float, default=0.5
        Divides the products of projections; .1 in the authors' code.
    assignment_temperature : float, default=1.0
        Divides the cosines of columns of assignments.
    representation_weight : float, default=2.0
        Weight of the contrast of projections.
    balance_weight : float, default=2.0
        Weight of the entropy term. Lower it for clusters of very different size, raise it if
        clusters stay empty.
    n_shown_neighbors : int, default=1
        Number of neighbours of each sample that a step shows in addition to its two views, drawn
        anew in each epoch. The authors' code shows the three nearest ones.
    laplacian_scale : float, default=10.0
        Neighbours have the weight ``sqrt(laplacian_scale / (degree + 1))``, where the degree is the
        number of samples that the graph joins with the neighbour; 3 in the authors' code.
    include_self : bool, default=False
        Whether projections are also told from themselves, as in the authors' code, which weakens
        the contrast at low temperatures.
    n_searches : int, default=2
        How often the graph is built from features, at `neighbor_start` and at even distances from
        there on; the authors' code builds it every five epochs. A graph of the inputs is built
        once.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the cluster heads begin to learn, in [0, 1): in turns from a
        partition of the features' neighbour graph and from k-means. Until then only the instance
        head is trained. In the authors' code they begin with the graph. ``"auto"`` is .3, and 168
        steps in a training of more than 560 steps without `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"representation"``, and from `cluster_start` on
        ``"assignment"`` and ``"balance"``, 0 before.

    See Also
    --------
    ContrastiveClustering : Contrasts views of single samples until its last part.

    Notes
    -----
    The losses are those that the authors' code computes. All views pass through the network in one
    batch.

    References
    ----------
    .. [1] Zhong, Wu, Chen, Huang, Deng, Nie, Lin and Hua, "Graph contrastive clustering", ICCV
       2021, https://arxiv.org/abs/2104.01429
    """

    _objective_class: ClassVar[type[Objective]] = GraphContrastiveObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger balance_weight"

    n_heads: kinds.PositiveInt = 6
    hidden_dim: kinds.PositiveInt = 256
    head_hidden_dim: kinds.NonNegativeInt = 256
    projection_dim: kinds.PositiveInt = 128
    representation_temperature: kinds.PositiveFloat = 0.5
    assignment_temperature: kinds.PositiveFloat = 1.0
    representation_weight: kinds.NonNegativeFloat = 2.0
    balance_weight: kinds.NonNegativeFloat = 2.0
    n_shown_neighbors: kinds.PositiveInt = 1
    laplacian_scale: kinds.PositiveFloat = 10.0
    include_self: kinds.Boolean = False
    n_searches: kinds.PositiveInt = 2
