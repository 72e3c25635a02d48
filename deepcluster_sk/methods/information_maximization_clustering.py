"""Information maximization clustering (IMC-SwAV).

Ntelemis, Jin and Thomas: "Information maximization clustering via multi-view self-labelling", 2021,
arXiv 2103.07368. The losses are those that the authors' code computes. The encoder learns to
predict codes of many prototypes, as in SwAV (Caron et al., NeurIPS 2020); a classifier on its
features learns labels that tell as much as possible about the prototypes.

=================  ==========================================================
symbol             name in the code
=================  ==========================================================
u                  scores: products of projections and prototypes
q                  codes
p(u), p(y)         p_u, p_y: their softmax, that of the labels
y                  logits of the classifier
tau                code_temperature
epsilon            sinkhorn_epsilon
b                  label_entropy_weight
k, k'              n_clusters, n_prototypes
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
from .._networks.cluster_heads import ClusterHeads, ClusterHeadsObjective
from .._networks.modules import Prototypes, projection_head
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, inner_products, sinkhorn, swapped_prediction

_N_CODED = 2  # the first views, of which codes are computed


def information_loss(p_y: Tensor, p_u: Tensor, *, entropy_weight: float = 4.0) -> Tensor:
    """Maximise the mutual information of labels and prototypes: ``H(Y|U) - b H(Y)``, Eq. (6).

    Both entropies are those of the joint distribution ``P = p_y^T p_u / B`` of a batch.

    Parameters
    ----------
    p_y : Tensor of shape (..., B, K), float
        Probabilities of the labels, rows summing to one. Leading axes are independent problems.
    p_u : Tensor of shape (..., B, K'), float
        Probabilities of the prototypes, rows summing to one.
    entropy_weight : float, default=4.0
        b; 1 gives the negative mutual information itself.

    Returns
    -------
    loss : Tensor of shape (...), float32
        In ``[-b log K, log K]``. Value and gradient stay finite when a label is never used.
    """
    joint = inner_products(p_y.mT, p_u.mT) / p_y.shape[-2]
    of_y, of_u = joint.sum(dim=-1), joint.sum(dim=-2)
    joint_entropy = _entropy(joint.flatten(-2))
    return joint_entropy - _entropy(of_u) - entropy_weight * _entropy(of_y)


def _entropy(p: Tensor) -> Tensor:
    """Entropy of distributions (..., n), in nats."""
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(dim=-1)


def logit_penalty(logits: Tensor, *, limit: float = 5.0) -> Tensor:
    """Penalise logits beyond a limit: mean over rows of the sum of ``relu(|y| - limit)``.

    Parameters
    ----------
    logits : Tensor of shape (..., B, K), float
    limit : float, default=5.0

    Returns
    -------
    penalty : Tensor of shape (...), float32
    """
    return (at_least_float32(logits).abs() - limit).relu().sum(dim=-1).mean(dim=-1)


class InformationMaximizationObjective(ClusterHeadsObjective):
    """An encoder that predicts codes, and classifiers on its features that do not shape them.

    Several classifiers are trained side by side; the paper has one. In the end the one is kept on
    which neighbours agree the most.
    """

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        width, dim = settings.projector_hidden_dim, settings.projection_dim
        self.projector: nn.Module = nn.Linear(feature_dim, dim)
        if width:
            self.projector = projection_head(feature_dim, width, dim)
        self.prototypes = Prototypes(settings.n_prototypes, dim, normalize=True)
        self.cluster_heads = ClusterHeads(
            feature_dim,
            settings.hidden_dim,
            settings.n_clusters,
            settings.n_heads,
            n_hidden_layers=settings.n_hidden_layers,
            start=settings.cluster_start,
        )

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_swap + L_information + logit_weight L_logit``.

        The last two are means over the heads and all pairs of views, and 0 before their start.
        """
        settings, n_views = self.settings, len(batch.views)
        features = self.encoder(torch.cat(batch.views))
        projections = F.normalize(self.projector(features).float(), dim=1)
        projections = gather(torch.unflatten(projections, 0, (n_views, -1)), dim=1)
        scores = inner_products(projections, self.prototypes())
        codes = sinkhorn(scores[:_N_CODED], epsilon=settings.sinkhorn_epsilon)
        swapped = swapped_prediction(scores, codes, temperature=settings.code_temperature)

        logits = self.cluster_heads(features.detach()).float()
        logits = gather(torch.unflatten(logits, 1, (n_views, -1)), dim=2)
        p_y = logits.softmax(dim=-1)[:, :, None]
        p_u = (scores.detach() / settings.code_temperature).softmax(dim=-1)
        information = information_loss(
            p_y, p_u, entropy_weight=settings.label_entropy_weight
        ).mean()
        penalty = logit_penalty(logits).mean()
        information, penalty = (self.cluster_heads.started * t for t in (information, penalty))
        return LossOutput(
            swapped + information + settings.logit_weight * penalty,
            detached(swapped=swapped, information=information, penalty=penalty),
        )

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Let further views show the samples themselves."""
        rows = super().view_rows(plan, generator)
        further = plan[:, None].expand(-1, self.settings.n_extra_views, -1)
        return torch.cat([rows, further], dim=1)


# the authors' code; images of 32 x 32 pixels for CIFAR, 96 x 96 for STL-10, 64 x 64 for
# tiny-ImageNet
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet18",
        "augmentation": images(scale=(0.2, 1.0), size=(28, 28)),
        "n_heads": 1,
        "hidden_dim": 1024,
        "n_hidden_layers": 2,
        "projector_hidden_dim": 0,
        "n_prototypes": 1000,
        "n_extra_views": 4,
        "max_epochs": 500,
        "learning_rate": 5e-4,
        "weight_decay": 1e-5,
        "schedule": "cosine",
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.811, 0.891, 0.790)),
        "cifar100": ({"n_clusters": 20}, scores(0.503, 0.490, 0.337)),
        "stl10": (
            {"n_clusters": 10, "augmentation": images(scale=(0.2, 1.0), size=(76, 76))},
            scores(0.729, 0.831, 0.685),
        ),
        "tiny_imagenet": (
            {
                "n_clusters": 200,
                "augmentation": images(scale=(0.2, 1.0), size=(56, 56)),
                "batch_size": 512,
            },
            scores(0.485, 0.279, 0.143),
        ),
    },
)


@with_parameters
class InformationMaximizationClustering(BaseDeepClusterer):
    """Information maximization clustering (IMC-SwAV) of images or rows.

    Many prototypes share the samples of each batch equally, and the encoder learns to predict from
    one view of a sample to which prototypes another view belongs. A classifier on the features
    learns labels whose mutual information with the prototypes is as large as possible. It does not
    shape the features.

    Parameters
    ----------
    n_heads : int, default=3
        Number of classifiers that are trained side by side on one encoder. One is kept: that on
        which neighbours agree the most. Where the graph of neighbours decides on the clusters, as
        for rows, it learns the best partition of the graph instead. The paper has one.
    hidden_dim : int, default=256
        Width of the hidden layers of the classifiers; 0 for none, 1,024 in the paper.
    n_hidden_layers : int, default=1
        Number of hidden layers of the classifiers; two in the paper.
    projector_hidden_dim : int, default=256
        Width of the hidden layer of the projector. 0 for none: linear, as in the authors' code.
    projection_dim : int, default=128
        Number of outputs of the projector, and dimension of the prototypes.
    n_prototypes : int, default=100
        k'; 1,000 in the paper. They should be several times as many as the clusters.
    code_temperature : float, default=0.1
        tau of the softmax over the prototypes.
    sinkhorn_epsilon : float, default=0.05
        epsilon of the codes: larger values give softer ones.
    label_entropy_weight : float, default=4.0
        b, the weight of the entropy of the labels. Lower it for clusters of very different size,
        raise it if clusters stay empty.
    logit_weight : float, default=0.01
        Weight of the penalty of logits beyond 5.
    n_extra_views : int, default=0
        Number of further views of each sample that have no codes of their own, but from which codes
        are predicted. Each costs half as much as a step with two views.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the classifiers begin to learn, in [0, 1): in turns from a
        partition of the features' neighbour graph and from k-means. 0 is the paper's method.
        ``"auto"`` is .3, and 168 steps in a training of more than 560 steps without `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"swapped"``, the cross-entropy of the codes, and from
        `cluster_start` on ``"information"``, at least ``-label_entropy_weight * log(n_clusters)``,
        and ``"penalty"``, that of large logits; 0 before.

    Notes
    -----
    The losses are those that the authors' code computes. Its small crops are left out: all views
    have the same augmentation.

    References
    ----------
    .. [1] Ntelemis, Jin and Thomas, "Information maximization clustering via multi-view
       self-labelling", 2021, https://arxiv.org/abs/2103.07368
    .. [2] Caron et al., "Unsupervised learning of visual features by contrasting cluster
       assignments", NeurIPS 2020 (SwAV).
    """

    _objective_class: ClassVar[type[Objective]] = InformationMaximizationObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger label_entropy_weight"

    n_heads: kinds.PositiveInt = 3
    hidden_dim: kinds.NonNegativeInt = 256
    n_hidden_layers: kinds.PositiveInt = 1
    projector_hidden_dim: kinds.NonNegativeInt = 256
    projection_dim: kinds.PositiveInt = 128
    n_prototypes: kinds.PositiveInt = 100
    code_temperature: kinds.PositiveFloat = 0.1
    sinkhorn_epsilon: kinds.PositiveFloat = 0.05
    label_entropy_weight: kinds.NonNegativeFloat = 4.0
    logit_weight: kinds.NonNegativeFloat = 0.01
    n_extra_views: kinds.NonNegativeInt = 0
