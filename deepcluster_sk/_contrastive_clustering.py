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

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor, nn

from ._base import BaseDeepClusterer
from ._modules import projection_head
from ._objective import Batch, LossOutput, Objective
from ._validation import non_negative_float, positive_float
from .losses import at_least_float32, negative_entropy, nt_xent


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
    c_a, c_b : Tensor of shape (B, K), float
        Soft assignments, rows summing to one.
    temperature : float, default=1.0
        tau_C.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the 2K columns; 0 for one cluster.
    """
    # an empty column must not divide by zero: the floor of torch.nn.CosineSimilarity
    column_a = F.normalize(at_least_float32(c_a), dim=0, eps=1e-8)
    column_b = F.normalize(at_least_float32(c_b), dim=0, eps=1e-8)
    return nt_xent(column_a.T, column_b.T, temperature=temperature)


class ContrastiveObjective(Objective):
    """Encoder, instance head and cluster head, trained together (Fig. 2 of the paper)."""

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        *,
        n_clusters: int,
        projection_dim: int,
        instance_temperature: float,
        cluster_temperature: float,
        cluster_weight: float,
        entropy_weight: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.instance_head = projection_head(feature_dim, projection_dim)
        self.cluster_head = projection_head(feature_dim, n_clusters)
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.entropy_weight = entropy_weight

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_instance + cluster_weight L_cluster + entropy_weight (NE_a + NE_b)``."""
        features = self.encoder(torch.cat(batch.views))
        z_a, z_b = F.normalize(self.instance_head(features).float(), dim=1).chunk(2)
        c_a, c_b = self.assign(features).chunk(2)
        instance = instance_loss(z_a, z_b, temperature=self.instance_temperature)
        cluster = cluster_loss(c_a, c_b, temperature=self.cluster_temperature)
        entropy = negative_entropy(c_a) + negative_entropy(c_b)
        total = instance + self.cluster_weight * cluster + self.entropy_weight * entropy
        terms = {"instance": instance, "cluster": cluster, "entropy": entropy}
        return LossOutput(total, {name: term.detach() for name, term in terms.items()})

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the cluster head."""
        return self.cluster_head(features).float().softmax(dim=1)

    def permute_clusters(self, order: Tensor) -> None:
        """Permute the outputs of the cluster head."""
        last = self.cluster_head[-1]
        with torch.no_grad():
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order])


class ContrastiveClustering(BaseDeepClusterer):
    """Contrastive clustering."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepClusterer._parameter_constraints,
        "instance_temperature": [positive_float],
        "cluster_temperature": [positive_float],
        "cluster_weight": [non_negative_float],
        "entropy_weight": [non_negative_float],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        encoder: str | nn.Module | Callable[[], nn.Module] = "auto",
        augmentation: str | Callable[[Tensor], Tensor] = "auto",
        image_shape: tuple[int, ...] | None = None,
        projection_dim: int = 128,
        instance_temperature: float = 0.5,
        cluster_temperature: float = 1.0,
        cluster_weight: float = 1.0,
        entropy_weight: float = 1.0,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        warmup: float = 0.0,
        device: str | torch.device = "auto",
        precision: str = "auto",
        compile: bool = False,
        verbose: int = 0,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.encoder = encoder
        self.augmentation = augmentation
        self.image_shape = image_shape
        self.projection_dim = projection_dim
        self.instance_temperature = instance_temperature
        self.cluster_temperature = cluster_temperature
        self.cluster_weight = cluster_weight
        self.entropy_weight = entropy_weight
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
        self.verbose = verbose
        self.random_state = random_state

    def _make_objective(self, encoder: nn.Module, feature_dim: int) -> Objective:
        return ContrastiveObjective(
            encoder,
            feature_dim,
            n_clusters=self.n_clusters,
            projection_dim=self.projection_dim,
            instance_temperature=self.instance_temperature,
            cluster_temperature=self.cluster_temperature,
            cluster_weight=self.cluster_weight,
            entropy_weight=self.entropy_weight,
        )
