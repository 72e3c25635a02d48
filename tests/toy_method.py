"""A clustering method in one file, as somebody would add it: soft k-means on the features."""

from typing import ClassVar

import torch
from torch import nn

from deepcluster_sk._estimator import kinds
from deepcluster_sk._estimator.base import BaseDeepClusterer
from deepcluster_sk._estimator.parameters import with_parameters
from deepcluster_sk._networks.neighbor_objective import NeighborObjective
from deepcluster_sk._runtime.distributed import gather
from deepcluster_sk._training.objective import LossOutput, Objective, detached


class ToyObjective(NeighborObjective):
    """Pull each view to the centroids that the other one belongs to."""

    def __init__(self, encoder, feature_dim, settings):
        super().__init__(encoder, feature_dim, settings)
        self.centroids = nn.Parameter(torch.randn(settings.n_clusters, feature_dim))

    def forward(self, batch):
        a, b = (gather(self.encoder(view)) for view in batch.views)
        pull = (self.assign(a).detach() * torch.cdist(b, self.centroids)).sum(dim=1).mean()
        return LossOutput(pull, detached(pull=pull))

    def assign(self, features):
        return (-torch.cdist(features, self.centroids) / self.settings.softness).softmax(dim=1)


@with_parameters
class ToyClustering(BaseDeepClusterer):
    """Soft k-means on the features of an encoder.

    Parameters
    ----------
    softness : float, default=1.0
        Divides the distances to the centroids.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of ``"pull"``, the distance to the centroids, per epoch.
    """

    _objective_class: ClassVar[type[Objective]] = ToyObjective

    softness: kinds.PositiveFloat = 1.0
