"""Clustering across views (CRLC).

Do, Tran and Venkatesh: "Clustering by maximizing mutual information across views", ICCV 2021, arXiv
2107.11635. No code of the authors is public: the losses are as later papers describe them, not
checked against the paper, and unknown settings are those of CC.

=================  ======================================================
symbol             name in the code
=================  ======================================================
p, p'              p_a, p_b: soft assignments of the two views
z, z'              z_a, z_b: projections of the two views
tau                instance_temperature
lambda             entropy_weight
H                  log K - negative_entropy, per view
=================  ======================================================
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
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, negative_entropy, symmetric_info_nce

_LEAST_PRODUCT = 1e-8  # of two assignments: below, the gradient would leave float32


def assignment_loss(p_a: Tensor, p_b: Tensor) -> Tensor:
    """Tell the other view of a sample from other samples by assignments alone.

    The contrastive loss whose critic is the logarithm of the dot product: with
    ``s_ij = p_a[i] . p_b[j]``, the mean over i of ``-log(s_ii / sum over j of s_ij)``, and the mean
    of both directions. It bounds the mutual information between the clusters of the two views.

    Parameters
    ----------
    p_a, p_b : Tensor of shape (..., B, K), float
        Soft assignments, rows summing to one. Leading axes are independent heads.

    Returns
    -------
    loss : Tensor of shape (...), float32
        ``log B`` where all assignments are equal, ``log(B / K)`` for certain, equal clusters.
    """
    p_a, p_b = at_least_float32(p_a), at_least_float32(p_b)
    own = (p_a * p_b).sum(dim=-1)
    # the sum over all other samples is a product with the sum of their assignments
    there = (p_a * p_b.sum(dim=-2, keepdim=True)).sum(dim=-1)
    back = (p_b * p_a.sum(dim=-2, keepdim=True)).sum(dim=-1)
    own, there, back = (s.clamp_min(_LEAST_PRODUCT).log() for s in (own, there, back))
    return ((there + back) / 2 - own).mean(dim=-1)


class AcrossViewsObjective(ClusterHeadsObjective):
    """Encoder, cluster heads and a head for features, trained together.

    Several cluster heads share the encoder; the paper has one. In the end the one is kept on which
    neighbours agree the most.
    """

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.instance_head = projection_head(
            feature_dim, settings.hidden_dim, settings.projection_dim
        )
        self.cluster_heads = ClusterHeads(
            feature_dim,
            settings.hidden_dim,
            settings.n_clusters,
            settings.n_heads,
            start=settings.cluster_start,
        )

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_cluster + entropy_weight (NE_a + NE_b) / 2 + instance_weight L_instance``.

        All but `L_instance` are means over the heads, and 0 before their start.
        """
        settings = self.settings
        features = self.encoder(torch.cat(batch.views))
        z = F.normalize(self.instance_head(features).float(), dim=1)
        instance = symmetric_info_nce(
            *map(gather, z.chunk(2)), temperature=settings.instance_temperature
        )
        assignments = self.cluster_heads(features).float().softmax(dim=-1)
        p_a, p_b = (gather(p, dim=1) for p in assignments.chunk(2, dim=1))
        cluster = assignment_loss(p_a, p_b).mean()
        entropy = (negative_entropy(p_a) + negative_entropy(p_b)).mean() / 2
        cluster, entropy = (self.cluster_heads.started * term for term in (cluster, entropy))
        return LossOutput(
            cluster + settings.entropy_weight * entropy + settings.instance_weight * instance,
            detached(instance=instance, cluster=cluster, entropy=entropy),
        )


# weight and temperature are those of later papers; encoder, augmentation and training are those of
# CC, whose protocol the results follow: not checked against the paper
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet34",
        "n_heads": 1,
        "hidden_dim": 512,
        "instance_temperature": 0.1,
        "instance_weight": 10.0,
        "augmentation": images(strength=0.5),
        "max_epochs": 1000,
        "learning_rate": 3e-4,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.679, 0.799, 0.634)),
        "cifar100": ({"n_clusters": 20}, {"ACC": 0.425}),
        "stl10": ({"n_clusters": 10}, scores(0.729, 0.818, 0.682)),
        "imagenet10": ({"n_clusters": 10}, scores(0.831, 0.854, 0.759)),
        "imagenet_dogs": ({"n_clusters": 15}, {"ACC": 0.461}),
        "tiny_imagenet": ({"n_clusters": 200}, {"ACC": 0.153}),
    },
)


@with_parameters
class ClusteringAcrossViews(BaseDeepClusterer):
    """Clustering across views (CRLC) of images or rows.

    A cluster head is trained so that the assignments of two views of a sample tell as much as they
    can about each other: they have to recognise each other among those of all other samples, by
    their dot product. A second head learns to recognise samples by projections of their features,
    as in contrastive clustering.

    Parameters
    ----------
    n_heads : int, default=6
        Number of cluster heads that are trained side by side on one encoder. One is kept: that on
        which neighbours agree the most. Where the graph of neighbours decides on the clusters, as
        for rows, it learns the best partition of the graph instead. The paper has one.
    hidden_dim : int, default=256
        Width of the hidden layer of all heads.
    projection_dim : int, default=128
        Number of outputs of the head for features.
    instance_temperature : float, default=0.5
        tau of the loss on features; lower values press harder on the most similar other samples.
    instance_weight : float, default=1.0
        Weight of the loss on features; about 10 in the paper.
    entropy_weight : float, default=1.0
        lambda: weight of the entropy of the mean assignment. Lower it for clusters of very
        different size, raise it if clusters stay empty.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the cluster heads begin to learn, in [0, 1): in turns from a
        partition of the features' neighbour graph and from k-means. 0 is the paper's method, with
        random weights. ``"auto"`` is .3, and 168 steps in a training of more than 560 steps without
        `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, and from `cluster_start` on ``"cluster"``
        and ``"entropy"``, 0 before.

    Notes
    -----
    No code of the authors is public: the form of the losses and their weights are as later papers
    describe them, not checked against the paper. Both directions of the loss, the several heads,
    the late start and the neighbour stage are this project's.

    References
    ----------
    .. [1] Do, Tran and Venkatesh, "Clustering by maximizing mutual information across views",
       ICCV 2021, https://arxiv.org/abs/2107.11635
    """

    _objective_class: ClassVar[type[Objective]] = AcrossViewsObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger entropy_weight"

    n_heads: kinds.PositiveInt = 6
    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    instance_temperature: kinds.PositiveFloat = 0.5
    instance_weight: kinds.NonNegativeFloat = 1.0
    entropy_weight: kinds.NonNegativeFloat = 1.0
