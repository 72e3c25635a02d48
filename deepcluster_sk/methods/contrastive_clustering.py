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
        Temperature of the contrastive loss over clusters, tau_C in the paper.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the 2K columns; 0 for one cluster.
    """
    # an empty column must not divide by zero: the floor of torch.nn.CosineSimilarity
    column_a = F.normalize(at_least_float32(c_a), dim=-2, eps=1e-8)
    column_b = F.normalize(at_least_float32(c_b), dim=-2, eps=1e-8)
    return nt_xent(column_a.mT, column_b.mT, temperature=temperature)


class ContrastiveObjective(ClusterHeadsObjective):
    """Encoder, instance head and cluster heads, trained together (Fig. 2 of the paper).

    Several cluster heads share the encoder; the paper has one. In the end one of them is kept.
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
        """Evaluate ``L_instance + cluster_weight L_cluster + entropy_weight (NE_a + NE_b)``.

        All but `L_instance` are means over the heads, and 0 before their start.
        """
        settings = self.settings
        features = self.encoder(torch.cat(batch.views))
        z_a, z_b = self.project(features)
        instance = instance_loss(z_a, z_b, temperature=settings.instance_temperature)
        cluster, entropy = self.cluster_terms(features)
        return LossOutput(
            instance + settings.cluster_weight * cluster + settings.entropy_weight * entropy,
            detached(instance=instance, cluster=cluster, entropy=entropy),
        )

    def project(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit projections of the two views, (B, projection_dim), float32."""
        z_a, z_b = F.normalize(self.instance_head(features).float(), dim=1).chunk(2)
        return gather(z_a), gather(z_b)

    def cluster_terms(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return L_cluster and the entropies, as means over the heads; 0 before their start."""
        assignments = self.cluster_heads(features).float().softmax(dim=-1)
        c_a, c_b = (gather(c, dim=1) for c in assignments.chunk(2, dim=1))
        temperature = self.settings.cluster_temperature
        cluster = cluster_loss(c_a, c_b, temperature=temperature).mean()
        entropy = (negative_entropy(c_a) + negative_entropy(c_b)).mean()
        return self.cluster_heads.started * cluster, self.cluster_heads.started * entropy


# the authors' configuration files; images of 224 x 224 pixels
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet34",
        "n_heads": 1,
        "hidden_dim": 512,
        "augmentation": images(strength=0.5),
        "max_epochs": 1000,
        "learning_rate": 3e-4,
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


@with_parameters
class ContrastiveClustering(BaseDeepClusterer):
    """Contrastive clustering (CC) of images or rows.

    Two augmented views of each sample pass through an encoder. An instance head learns to tell
    each sample from all others, a cluster head yields soft assignments whose columns are
    contrasted in the same way, and an entropy term keeps all clusters in use. Later in the
    training, for rows from the beginning, the second view shows one of the nearest neighbours.

    Parameters
    ----------
    n_heads : int, default=3
        Number of cluster heads that are trained side by side on one encoder. One is kept: that on
        which neighbours agree the most. Where the graph of neighbours decides on the clusters, as
        for rows, it learns the best partition of the graph instead. The paper has one; more make
        the result depend less on the seed.
    hidden_dim : int, default=256
        Width of the hidden layer of all heads; the paper uses the number of features.
    projection_dim : int, default=128
        Number of outputs of the instance head.
    instance_temperature : float, default=0.5
        Temperature of the contrastive loss over samples, tau_I in the paper. Lower values give more
        weight to the most similar other samples.
    cluster_temperature : float, default=1.0
        Temperature of the contrastive loss over clusters, tau_C in the paper.
    cluster_weight : float, default=1.0
        Weight of the cluster loss.
    entropy_weight : float, default=1.0
        Weight of the entropy terms. Lower it for clusters of very different size, raise it if
        clusters stay empty.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the cluster heads begin to learn, in [0, 1): in turns from a
        partition of the features' neighbour graph and from k-means. Until then only the instance
        head is trained. 0 is the paper's method, with random weights. ``"auto"`` is .3, and 168
        steps in a training of more than 560 steps without `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, and from `cluster_start` on ``"cluster"``
        and ``"entropy"``, 0 before.

    See Also
    --------
    sklearn.cluster.KMeans : Spherical clusters in the space of the data itself.

    Notes
    -----
    The losses are those that the authors' code computes. Both views pass through the network in
    one batch.

    References
    ----------
    .. [1] Li, Hu, Liu, Peng, Zhou and Peng, "Contrastive clustering", AAAI 2021,
       https://arxiv.org/abs/2009.09687
    .. [2] Van Gansbeke et al., "SCAN: learning to classify images without labels", ECCV 2020, for
       the neighbour stage.
    """

    _objective_class: ClassVar[type[Objective]] = ContrastiveObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger entropy_weight"

    n_heads: kinds.PositiveInt = 3
    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    instance_temperature: kinds.PositiveFloat = 0.5
    cluster_temperature: kinds.PositiveFloat = 1.0
    cluster_weight: kinds.NonNegativeFloat = 1.0
    entropy_weight: kinds.NonNegativeFloat = 1.0
