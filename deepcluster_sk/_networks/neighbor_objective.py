"""What methods share whose second view shows a neighbour."""

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._runtime.distributed import on_first
from .._training.objective import Objective, Settings, take_shapes
from .calibration import Calibration
from .cluster_tree import joined, linkage
from .neighbor_stage import NeighborStage, flat
from .typicality import Typicality

_MOST_LINKED = 500  # clusters that have a tree: the time it takes grows with their cube
_ROWS_AT_ONCE = 4096  # of which moments are taken in double precision: it takes several copies
_STATE = "neighbors."  # prefix of the names of what is kept in checkpoints


class NeighborObjective(Objective):
    """An objective whose second view shows a neighbour.

    It does so from ``settings.neighbor_start`` on or, with neighbours among the inputs, from the
    first step. The graph of the neighbours also tells how sure an assignment may be, which clusters
    are close to each other, and, with ``settings.join``, which of them are one.
    """

    graph_decides: ClassVar[bool] = True
    """Whether the graph may decide on the clusters, where they are those of the inputs or small."""
    links: Tensor
    """Shares of edges between calibrated clusters; of shape (0, 0) if unknown."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.neighbors = NeighborStage(settings, decides=self.graph_decides)
        self.calibration = Calibration(settings.n_clusters)
        self.typical = Typicality()
        self.register_buffer("links", torch.zeros(0, 0))

    def calibrated(self, assignments: Tensor) -> Tensor:
        """Sum the assignments of joined clusters, and make the confidence that of neighbours."""
        calibrated: Tensor = self.calibration(assignments)
        return calibrated

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time to."""
        self.neighbors.search(progress, map_all, self.encoder)

    def after_training(self, features: Tensor, seed: int) -> None:
        """Join the clusters, calibrate the assignments, and forget the neighbours."""
        self.finish_clusters(features, seed)

    def finish_clusters(self, features: Tensor, seed: int) -> None:
        """Join clusters, calibrate the assignments of the sampled rows, and forget the neighbours.

        Parameters
        ----------
        features : Tensor of shape (n, feature_dim)
            Of the sampled rows.
        seed : int
            Of the partitions of the graph that the assignments are compared with.
        """
        assignments = self.assign(features)
        self.calibration.reset()
        if self.settings.n_clusters <= _MOST_LINKED:
            links = self.neighbors.links(assignments.argmax(dim=1), features)
            if self.settings.join:
                links = self._join(on_first(lambda: joined(links)), links)
                assignments = self.calibration.summed(assignments)
            self.links = torch.from_numpy(links).to(self.links)
        labels, n_clusters = assignments.argmax(dim=1), assignments.shape[1]
        agreed = self.neighbors.agreement(labels, features, n_clusters, seed)
        if agreed is not None and len(torch.unique(labels)) > 1:
            some, shares = agreed
            self.calibration.fit(assignments[some], shares)
        self.neighbors.end()

    def _join(self, numbers: np.ndarray, links: np.ndarray) -> np.ndarray:
        """Join the clusters that have equal numbers (n,); return the links between the new ones."""
        self.calibration.join(torch.from_numpy(numbers).to(self.cluster_of.device))
        groups = np.eye(numbers.max() + 1)[numbers]
        self.n_clusters = groups.shape[1]
        self.cluster_of = torch.arange(self.n_clusters, device=self.cluster_of.device)
        between: np.ndarray = groups.T @ links @ groups
        return between

    def linkage(self) -> np.ndarray | None:
        """Return the tree of the clusters, by the neighbour graph."""
        if not len(self.links):
            return None
        groups = np.eye(self.n_clusters)[self.cluster_of.numpy()]
        return linkage(groups.T @ self.links.double().numpy() @ groups)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show a neighbour in the second view, once there are neighbours."""
        return self.neighbors.view_rows(plan, generator)

    def labels_itself(self, n_rows: int) -> bool:
        """Tell whether the clusters are not those of the graph in the end."""
        return not self.neighbors.will_decide(n_rows)

    def before_single_pass(self) -> None:
        """Leave the neighbours out."""
        self.neighbors.n_neighbors = 0

    def state(self) -> dict[str, Tensor]:
        """Return how far the stage has come, and the neighbours."""
        return {f"{_STATE}{name}": tensor for name, tensor in self.neighbors.state().items()}

    def learn_typicality(self, features: Tensor, map_all: MapAll) -> None:
        """Learn the density of the space in which neighbours are searched.

        Networks map rows that are far from all others to the features of some cluster. So where
        neighbours are searched among the inputs, the density is that of the inputs.
        """
        n_clusters = len(self.calibration.of_clusters)

        def moments(features: Tensor, inputs: Tensor) -> Tensor:
            labels = self.calibration.summed(self.assign(features)).argmax(dim=1)
            return self.typical.moments(self._placed(features, inputs), labels, n_clusters)

        if self.neighbors.among_inputs:
            self.typical.fit(map_all.sum_on_sampled(lambda x: moments(self.encoder(x), x)))
        else:
            pieces = torch.split(features, _ROWS_AT_ONCE)
            self.typical.fit(on_first(lambda: torch.stack([moments(x, x) for x in pieces]).sum(0)))

    def _placed(self, features: Tensor, inputs: Tensor) -> Tensor:
        """Return where samples are in the space in which neighbours are searched (B, d)."""
        return flat(inputs) if self.neighbors.among_inputs else F.normalize(features.float())

    def typicality(self, features: Tensor, inputs: Tensor) -> Tensor | None:
        """Return log-densities (B,), after a whole training."""
        if not self.typical.is_fitted:
            return None
        density: Tensor = self.typical(self._placed(features, inputs))
        return density

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have none
        state_dict.setdefault(f"{prefix}links", torch.zeros(0, 0))
        take_shapes(self, state_dict, prefix, "links")
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.neighbors.load_state({k.removeprefix(_STATE): tensor for k, tensor in state.items()})
