"""An objective whose clusters are the nearest of some centroids or prototypes."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._training.objective import Settings
from .neighbor_objective import NeighborObjective


class CentroidObjective(NeighborObjective):
    """An objective whose clusters are the nearest of some centroids or prototypes.

    They start at a share ``settings.cluster_start`` of the training. Each search for neighbours may
    renew them, and so does the end of the training.
    """

    projector: nn.Module
    """Maps features to what clusters are compared in, before it gets unit length."""
    started: Tensor
    """Whether the clusters take part in the loss; 0 or 1."""

    def __init__(
        self, encoder: nn.Module, feature_dim: int, settings: Settings, *, started: bool = False
    ) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.register_buffer("started", torch.tensor(float(started)))

    def project(self, features: Tensor) -> Tensor:
        """Return what clusters are compared in: unit vectors (n, d), float32."""
        return F.normalize(self.projector(features).float(), dim=1)

    @abstractmethod
    def nearness(self, vectors: Tensor) -> Tensor:
        """Return how near projections are to each of the centroids: (n, n_clusters)."""

    @abstractmethod
    def take(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the centroids be those of clusters of some projections."""

    def renew(self, features: Tensor) -> None:
        """Take other centroids if none are in use yet, or if neighbours prefer their clusters."""
        vectors = self.project(features)
        used = self.nearness(vectors) if self.started else None
        labels = self.neighbors.new_labels(used, vectors)
        if labels is not None:
            self.take(vectors, labels)

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
