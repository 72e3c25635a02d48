"""Cross-instance guided contrastive clustering (C3).

Sadeghi, Hojjati and Armanfard: "C3: Cross-instance guided contrastive clustering", BMVC 2023, arXiv
2211.07136. It fine-tunes a network that contrastive clustering has trained; the loss is the one
that the authors' code computes.

=================  =======================================================
symbol             name in the code
=================  =======================================================
z                  z_a, z_b: unit projections of the two views
zeta               threshold: similarity from which projections are a pair
=================  =======================================================
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import kinds
from .._estimator.papers import Preset, scores
from .._estimator.parameters import with_parameters
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..losses import at_least_float32
from .contrastive_clustering import ContrastiveClustering, ContrastiveObjective


def cross_instance_loss(z_a: Tensor, z_b: Tensor, *, threshold: float = 0.6) -> Tensor:
    """Draw together all projections that are similar already.

    With ``S = [z_a; z_b] [z_a; z_b]^T`` and ``P_i`` the columns j with ``S_ij > threshold``, those
    of i itself and of its other view included::

        -1/B * sum over i of log( sum over j in P_i of exp S_ij / sum over all j of exp S_ij )

    Parameters
    ----------
    z_a, z_b : Tensor of shape (B, projection_dim), float
        Projections of unit length.
    threshold : float, default=0.6
        zeta.

    Returns
    -------
    loss : Tensor of shape (), float32
        A sum over 2B projections, divided by B, as in the authors' code; 0 if all are pairs.
    """
    with torch.autocast(z_a.device.type, enabled=False):
        z = at_least_float32(torch.cat([z_a, z_b]))
        similarity = z @ z.mT
        same = torch.eye(len(z_a), dtype=torch.bool, device=z.device).repeat(2, 2)
        pairs = same | (similarity > threshold)
        positive = similarity.masked_fill(~pairs, float("-inf")).logsumexp(dim=1)
        return (similarity.logsumexp(dim=1) - positive).sum() / len(z_a)


class CrossInstanceObjective(ContrastiveObjective):
    """The networks of contrastive clustering, whose loss changes in the last part."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self._start: float = settings.fine_tune_start
        self._fine_tunes = False

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Prepare the epoch as contrastive clustering does; change the loss when it is time."""
        super().before_epoch(progress, map_all)
        self._fine_tunes = progress >= self._start

    def before_single_pass(self) -> None:
        """Leave the neighbours and the fine-tuning out."""
        super().before_single_pass()
        self._start = math.inf

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate the loss of contrastive clustering, or the one that follows it."""
        if self._fine_tunes:
            return self._fine_tuned(batch)
        total, terms, carry = super().forward(batch)
        return LossOutput(total, {**terms, "cross_instance": torch.zeros_like(total)}, carry)

    def _fine_tuned(self, batch: Batch) -> LossOutput:
        """Replace `L_instance`, and leave the rest of the loss out unless asked for it."""
        settings = self.settings
        features = self.encoder(torch.cat(batch.views))
        z_a, z_b = self.project(features)
        total = pairs = cross_instance_loss(z_a, z_b, threshold=settings.threshold)
        cluster = entropy = torch.zeros_like(pairs)
        if settings.fine_tune_clusters:
            cluster, entropy = self.cluster_terms(features)
            total = pairs + settings.cluster_weight * cluster + settings.entropy_weight * entropy
        instance = torch.zeros_like(pairs)
        terms = detached(instance=instance, cluster=cluster, entropy=entropy, cross_instance=pairs)
        return LossOutput(total, terms)


# those of contrastive clustering, and 20 epochs more, as in the authors' code
_PAPER = Preset(
    {
        **ContrastiveClustering._paper.settings,
        "fine_tune_start": 1000 / 1020,
        "max_epochs": 1020,
    },
    {
        name: (special, scores(0.750, 0.841, 0.709) if name == "cifar10" else {})
        for name, (special, _) in ContrastiveClustering._paper.data_sets.items()
    },
)


@with_parameters
class CrossInstanceClustering(ContrastiveClustering):
    """Cross-instance guided contrastive clustering (C3) of images or rows.

    A network is trained by contrastive clustering (CC). In the last part, samples whose projections
    are similar are drawn together, whether they are views of one sample or not, in place of the
    contrast of each sample with all others.

    Parameters
    ----------
    threshold : float, default=0.6
        zeta, the cosine of two projections above which they are drawn together, in [0, 1].
    fine_tune_start : float, default=0.8
        Share of the epochs after which the loss changes, in [0, 1).
    fine_tune_clusters : bool, default=False
        Whether the cluster loss and the entropy stay until the end. In the paper, the encoder and
        the instance head alone are fine-tuned.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"``, 0 from `fine_tune_start` on;
        ``"cross_instance"``, 0 before; ``"cluster"`` and ``"entropy"``, 0 before `cluster_start`
        and, unless `fine_tune_clusters`, from `fine_tune_start` on.

    See Also
    --------
    ContrastiveClustering : The method that is fine-tuned.

    Notes
    -----
    The losses are those that the authors' code computes. The authors fine-tune with a learning rate
    of their own; here, it follows `schedule`. :meth:`partial_fit` does not fine-tune.

    References
    ----------
    .. [1] Sadeghi, Hojjati and Armanfard, "C3: Cross-instance guided contrastive clustering", BMVC
       2023, https://arxiv.org/abs/2211.07136
    .. [2] Li, Hu, Liu, Peng, Zhou and Peng, "Contrastive clustering", AAAI 2021,
       https://arxiv.org/abs/2009.09687
    """

    _objective_class: ClassVar[type[Objective]] = CrossInstanceObjective
    _paper: ClassVar[Preset] = _PAPER

    threshold: kinds.ClosedFraction = 0.6
    fine_tune_start: kinds.Fraction = 0.8
    fine_tune_clusters: kinds.Boolean = False
