"""Deep robust clustering (DRC).

Zhong, Chen, Jin and Hua: "Deep robust clustering by contrastive learning", 2020, arXiv 2008.03030.
No code of the authors is public; the losses are those of two independent implementations that cite
the paper. What the defaults change is this project's reading.

=================  ======================================================
symbol             name in the code
=================  ======================================================
z, z'              z_a, z_b: assignment features (logits) of the two views
p, p'              p_a, p_b: assignment probabilities, their softmax
q_k                column k of p over the batch
T_AF, T_AP         feature_temperature, probability_temperature
lambda             regularization_weight
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
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import at_least_float32, info_nce, symmetric_info_nce


def feature_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    temperature: float = 0.5,
    normalize: bool = True,
    symmetric: bool = True,
) -> Tensor:
    """Tell the assignment features of a sample's other view from those of other samples, L_AF.

    Parameters
    ----------
    z_a, z_b : Tensor of shape (..., B, K), float
        Logits of the two views. Leading axes are independent heads.
    temperature : float, default=0.5
        T_AF.
    normalize : bool, default=True
        Whether rows are compared by their cosine; the original form compares raw products.
    symmetric : bool, default=True
        Whether to average over both directions; the original form has the one from `z_a` to `z_b`.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the B rows; ``log B`` for equal logits.
    """
    if normalize:
        z_a, z_b = (F.normalize(at_least_float32(z), dim=-1, eps=1e-8) for z in (z_a, z_b))
    contrast = symmetric_info_nce if symmetric else info_nce
    return contrast(z_a, z_b, temperature=temperature)


def probability_loss(
    p_a: Tensor,
    p_b: Tensor,
    *,
    temperature: float = 1.0,
    normalize: bool = True,
    symmetric: bool = True,
) -> Tensor:
    """Tell the other view of a cluster's column of probabilities from other clusters', L_AP.

    Parameters
    ----------
    p_a, p_b : Tensor of shape (..., B, K), float
        Assignment probabilities of the two views. Leading axes are independent heads.
    temperature : float, default=1.0
        T_AP.
    normalize, symmetric : bool, default=True
        As in :func:`feature_loss`, for the columns.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the K columns; ``log K`` for uniform probabilities.
    """
    return feature_loss(
        at_least_float32(p_a).mT,
        at_least_float32(p_b).mT,
        temperature=temperature,
        normalize=normalize,
        symmetric=symmetric,
    )


def cluster_regularization(p: Tensor, *, scale_free: bool = True) -> Tensor:
    """Penalise clusters of unequal mass, L_CR: ``1/B * sum over k of (sum over i of p_ik)^2``.

    Parameters
    ----------
    p : Tensor of shape (..., B, K), float
        Assignment probabilities. Leading axes are independent heads.
    scale_free : bool, default=True
        Whether to divide by ``B / K``, the value for equal masses; the original form does not.

    Returns
    -------
    loss : Tensor of shape (...), float32
        In ``[B / K, B]``, or ``[1, K]`` if scale-free.
    """
    n, n_clusters = p.shape[-2:]
    penalty = at_least_float32(p).sum(dim=-2).square().sum(dim=-1) / n
    return penalty * n_clusters / n if scale_free else penalty


class DeepRobustObjective(ClusterHeadsObjective):
    """Encoder and cluster heads; features and probabilities of the same head are contrasted.

    Several heads share the encoder; the paper has one. In the end the one is kept on which
    neighbours agree the most.
    """

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        n_fine = settings.n_fine_clusters
        self.cluster_heads = ClusterHeads(
            feature_dim,
            settings.hidden_dim,
            settings.n_clusters,
            settings.n_heads,
            start=settings.cluster_start if n_fine else 0.0,
        )
        self.fine_head = ClusterHeads(feature_dim, settings.hidden_dim, n_fine) if n_fine else None

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_AF + L_AP + regularization_weight L_CR``, as means over the heads.

        The fine head adds the same sum for its own clusters.
        """
        features = self.encoder(torch.cat(batch.views))
        terms = self._terms(self.cluster_heads, features)
        total = self._sum(terms)
        if self.fine_head is not None:
            fine = self._sum(self._terms(self.fine_head, features))
            total = total + fine
            terms["fine"] = fine
        return LossOutput(total, detached(**terms))

    def _terms(self, heads: ClusterHeads, features: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of some heads, as means over them; 0 before their start."""
        settings = self.settings
        how = {"normalize": settings.normalize, "symmetric": settings.symmetric}
        z_a, z_b = (gather(z, dim=1) for z in heads(features).float().chunk(2, dim=1))
        p_a, p_b = z_a.softmax(dim=-1), z_b.softmax(dim=-1)
        terms = {
            "feature": feature_loss(z_a, z_b, temperature=settings.feature_temperature, **how),
            "probability": probability_loss(
                p_a, p_b, temperature=settings.probability_temperature, **how
            ),
            "regularization": cluster_regularization(p_a, scale_free=settings.scale_free),
        }
        return {name: heads.started * term.mean() for name, term in terms.items()}

    def _sum(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        weight: float = self.settings.regularization_weight
        return terms["feature"] + terms["probability"] + weight * terms["regularization"]

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep one head of those for the clusters asked for."""
        super().after_training(features, seed)
        self.fine_head = None

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many heads as the state, and no finer head if it has none."""
        super().adapt_to(state_dict)
        if not any(name.startswith("fine_head.") for name in state_dict):
            self.fine_head = None


# losses, weight and temperatures are those of an independent implementation, training and
# augmentation those of PICA and GCC, by the same group: readings, not facts
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "resnet34",
        "augmentation": images(scale=(0.2, 1.0)),
        "n_heads": 1,
        "hidden_dim": 0,
        "n_fine_clusters": 0,
        "feature_temperature": 0.5,
        "probability_temperature": 1.0,
        "regularization_weight": 0.5,
        "normalize": False,
        "symmetric": False,
        "scale_free": False,
        "max_epochs": 200,
        "learning_rate": 1e-4,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.621, 0.727, 0.547)),
        "cifar100": ({"n_clusters": 20}, scores(0.356, 0.367, 0.208)),
        "stl10": ({"n_clusters": 10, "batch_size": 128}, scores(0.644, 0.747, 0.569)),
        "imagenet10": ({"n_clusters": 10}, scores(0.830, 0.884, 0.798)),
        "imagenet_dogs": ({"n_clusters": 15}, scores(0.384, 0.389, 0.233)),
        "tiny_imagenet": ({"n_clusters": 200}, scores(0.321, 0.139, 0.056)),
    },
)


@with_parameters
class DeepRobustClustering(BaseDeepClusterer):
    """Deep robust clustering (DRC) of images or rows.

    A head maps features to K logits. The logits of two views of a sample (assignment features) and
    the columns of their softmax (assignment probabilities) are both contrasted, and a penalty keeps
    the clusters of equal mass. There is no projection head, momentum network or queue.

    Parameters
    ----------
    n_heads : int, default=3
        Number of heads that are trained side by side on one encoder. One is kept: that on
        which neighbours agree the most. Where the graph of neighbours decides on the clusters, as
        for rows, it learns the best partition of the graph instead. The paper has one.
    hidden_dim : int, default=256
        Width of the hidden layer of all heads; 0 for none, as in the paper.
    n_fine_clusters : int, default=70
        Number of clusters of an additional, finer head, which is trained by the same loss and
        dropped in the end; 0 for none, as in the paper. A head of K outputs alone leaves features
        in which similar classes are merged. PICA, on whose protocol the paper builds, has such a
        head of 70.
    feature_temperature : float, default=0.5
        T_AF.
    probability_temperature : float, default=1.0
        T_AP.
    regularization_weight : float, default=0.5
        lambda: weight of the penalty on clusters of unequal mass. Lower it for clusters of very
        different size, raise it if clusters stay empty.
    normalize : bool, default=True
        Whether features and columns are compared by their cosine. The paper compares raw products,
        which grow with the logits and the batch.
    symmetric : bool, default=True
        Whether both views are contrasted with the other one; in the paper the first with the
        second.
    scale_free : bool, default=True
        Whether the penalty is divided by its value for equal clusters; it grows with the batch
        otherwise, as in the paper.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the heads for the K clusters begin to learn, in [0, 1): in
        turns from a partition of the features' neighbour graph and from k-means. Until then only
        the finer head is trained; without one, they begin at once. 0 is the paper's method.
        ``"auto"`` is .3, and 168 steps in a training of more than 560 steps without `max_time`.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"feature"`` (L_AF), ``"probability"`` (L_AP),
        ``"regularization"`` (L_CR), all 0 before `cluster_start`, and ``"fine"``, the loss of the
        finer head.

    Notes
    -----
    No code of the authors is public. The three losses follow two independent implementations that
    cite the paper; the finer head, the late start and the neighbour stage are this project's.

    References
    ----------
    .. [1] Zhong, Chen, Jin and Hua, "Deep robust clustering by contrastive learning", 2020,
       https://arxiv.org/abs/2008.03030
    .. [2] Huang, Gong and Zhu, "Deep semantic clustering by partition confidence maximisation",
       CVPR 2020 (PICA).
    """

    _objective_class: ClassVar[type[Objective]] = DeepRobustObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger regularization_weight"

    n_heads: kinds.PositiveInt = 3
    hidden_dim: kinds.NonNegativeInt = 256
    n_fine_clusters: kinds.NonNegativeInt = 70
    feature_temperature: kinds.PositiveFloat = 0.5
    probability_temperature: kinds.PositiveFloat = 1.0
    regularization_weight: kinds.NonNegativeFloat = 0.5
    normalize: kinds.Boolean = True
    symmetric: kinds.Boolean = True
    scale_free: kinds.Boolean = True
