"""An objective whose clusters are the nearest of some centroids or prototypes."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._training.objective import Settings
from .neighbor_objective import NeighborObjective


class CentroidObjective(NeighborObjective):
    """An objective whose clusters are the nearest of some centroids or prototypes.

    They start at a share ``settings.cluster_start`` of the training. Each search for neighbours may
    renew them, and so does the end of the training.
    """

    started: Tensor
    """Whether the clusters take part in the loss; 0 or 1."""

    def __init__(
        self, encoder: nn.Module, feature_dim: int, settings: Settings, *, started: bool = False
    ) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.register_buffer("started", torch.tensor(float(started)))

    @abstractmethod
    def renew(self, features: Tensor) -> None:
        """Take the centroids of other clusters of the features (n, feature_dim).

        If none are in use yet, or if neighbours prefer the others.
        """

    @abstractmethod
    def settle(self, features: Tensor) -> None:
        """Gather what clusters are compared in around the best partition of the graph, if any."""

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and start or renew the centroids."""
        features = self.neighbors.search(progress, map_all, self.encoder)
        starts = not self.started and progress >= self.settings.cluster_start
        if starts and features is None:
            features = map_all.on_sampled(self.encoder)
        if features is not None and (starts or self.started):
            self.renew(features)
        self.started.clamp_(min=float(starts))

    def after_training(self, features: Tensor, seed: int) -> None:
        """Settle the centroids on the final features."""
        self.settle(features)
        self.renew(features)
        self.started.fill_(1)  # what goes on from here keeps the clusters
        self.finish_clusters(features, seed)
