"""The part of a training in which the second view shows a neighbour."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._runtime.distributed import on_first, world_size
from .._runtime.threads import blas_in_one_thread, libraries_in_one_thread
from .._training.objective import Settings
from .calibration import agreement
from .centroids import gather_around_centroids, spherical_kmeans
from .neighbors import SEARCH_DIM, NeighborGraph, NeighborSearch
from .partition import BALANCES, edge_shares, partitions

_FEWEST = 3  # neighbours: with fewer, the graph falls apart
# most neighbours, as a share of the mean size of a cluster: trained features need fewer
_AMONG_INPUTS, _AMONG_FEATURES = 1 / 2, 1 / 12
_SMALL = 120  # rows in a cluster, in the mean
_JUDGES = 10  # neighbours that compare clusters where training had none
_START_ROWS = 10_000  # enough to tell where the clusters are; the time grows with the square
_LEAST_SEARCHED = 4  # partitions to start from, of which the best are taken
_JUDGED_ROWS = 20_000  # enough to tell how sure the assignments may be
_LINKED_ROWS, _LINKS = 10_000, 10  # of the graph that tells which clusters are close, if any


class NeighborStage:
    """The part of a training in which the second view shows a neighbour.

    Neighbours are searched among the inputs before the first step, or among the features when a
    share of the training is done, and again in the middle of what is left. Their graph also has a
    say in the clusters. That of the inputs decides on them: they start from its partitions. That of
    the features judges them, but decides as well where they are small: views of one object form
    chains, which linear heads and centroids tear.

    Parameters
    ----------
    settings : Settings
        ``n_neighbors``, where 0 leaves the stage out; ``neighbor_start``, ``neighbor_space`` and
        ``n_clusters``.
    n_searches : int, default=2
        Number of searches among the features, spread evenly over what is left of the training.
    decides : bool, default=True
        Whether the graph may decide on the clusters; otherwise no partition of it is searched.
    """

    def __init__(self, settings: Settings, n_searches: int = 2, *, decides: bool = True) -> None:
        self.decides = decides
        self.n_neighbors: int = settings.n_neighbors
        self.among_inputs = settings.neighbor_space == "inputs"
        self.n_clusters: int = settings.n_clusters
        self.join: bool = settings.join
        self.graph: NeighborGraph | None = None
        self.partitions: Tensor | None = None
        self._nearest: Tensor | None = None
        self._sampled: Tensor | None = None
        start: float = settings.neighbor_start
        later = [((n_searches - n) * start + n) / n_searches for n in range(1, n_searches)]
        self._times = (0.0,) if self.among_inputs else (start, *later)
        self._n_searches = 0

    def search(self, progress: float, map_all: MapAll, encoder: nn.Module) -> Tensor | None:
        """Search if it is time to.

        Returns
        -------
        features : Tensor of shape (n, d) or None
            Of the sampled rows, which are those of :attr:`graph`; None if there was no search among
            features.
        """
        due = sum(progress >= time for time in self._times)
        if not self.n_neighbors or self._n_searches >= due:
            return None
        self._n_searches = due
        if self.among_inputs:
            columns = _compared_columns(map_all)
            by_direction = _have_one_length(map_all.on_sampled(_lengths))
            sampled = map_all.on_sampled(columns)
            self._connect(sampled, map_all, columns, by_direction=by_direction)
            return None
        features = map_all.on_sampled(encoder)
        directions = F.normalize(features, dim=1)
        self._connect(directions, map_all, lambda x: F.normalize(encoder(x), dim=1))
        return features

    def _connect(
        self,
        sampled: Tensor,
        map_all: MapAll,
        embed: Callable[[Tensor], Tensor],
        *,
        by_direction: bool = False,
    ) -> None:
        """Join the sampled rows, and every row with those of them that are nearest.

        All processes get what rank 0 found: elsewhere, distances may round differently.
        """
        n_neighbors = self._most_neighbors(len(sampled), self.n_neighbors)
        search = NeighborSearch(sampled, n_neighbors, by_direction=by_direction)
        self.graph = NeighborGraph(search.graph())
        is_last = self._n_searches == len(self._times)
        if is_last and self.will_decide(len(sampled)):
            edges, rows = self.graph.edges, search.rows
            # clusters that are joined later are to be even, so that some cover every class
            balances = (1.0,) if self.join else BALANCES
            found = partitions(edges, rows, self.n_clusters, map_all.seed, balances=balances)
            self.partitions = torch.from_numpy(found)
        self._sampled = map_all.sampled
        if self._sampled is not None:
            with blas_in_one_thread():
                self._nearest = map_all(lambda x: search.nearest(embed(x))).int().cpu()
        if world_size() > 1:
            self.load_state(on_first(self.state))

    def will_decide(self, n_sampled: int) -> bool:
        """Tell whether the last graph of so many sampled rows decides on the clusters."""
        is_small = n_sampled / self.n_clusters < _SMALL
        return self.decides and self.n_neighbors > 0 and (self.among_inputs or is_small)

    def starts(self, features: Tensor, n_starts: int) -> Tensor:
        """Return partitions that clusters may start from.

        Those of the graph, if it decides. Otherwise partitions of a graph of some of the features
        and k-means of them take turns: where one of them is caught, the other one seldom is. The
        clusters are even, as the losses want them.

        Parameters
        ----------
        features : Tensor of shape (r, d)
            Of those of the sampled rows that :func:`start_rows` chooses.
        n_starts : int

        Returns
        -------
        labels : Tensor of shape (n_starts, r), int64
            The partitions.
        """
        if self.partitions is not None:
            turns = torch.arange(n_starts) % len(self.partitions)
            return self.partitions[turns][:, start_rows(self.partitions.shape[1])]
        directions = F.normalize(features, dim=1)
        n_neighbors = self._most_neighbors(len(features), self.n_neighbors or _JUDGES)
        search = NeighborSearch(directions, n_neighbors)
        edges = NeighborGraph(search.graph()).edges
        n_searched = max(_LEAST_SEARCHED, n_starts)
        of_graph = partitions(
            edges, search.rows, self.n_clusters, 0, n_starts=n_searched, balances=(1.0,)
        )
        found = [
            spherical_kmeans(directions, self.n_clusters, seed=number // 2)
            if number % 2
            else torch.from_numpy(of_graph[number // 2 % len(of_graph)])
            for number in range(n_starts)
        ]
        return torch.stack(found)

    def _most_neighbors(self, n_rows: int, wanted: int) -> int:
        """Return how many of the wanted neighbours each of some rows may have."""
        share = _AMONG_INPUTS if self.among_inputs else _AMONG_FEATURES
        return min(wanted, max(_FEWEST, int(share * n_rows / self.n_clusters)))

    def preferred(self, labels: Tensor, features: Tensor) -> int:
        """Return on which of several labellings neighbours agree the most.

        Parameters
        ----------
        labels : Tensor of shape (m, n), int64
            Of the sampled rows.
        features : Tensor of shape (n, d)
            Among which neighbours are searched, if training had none.
        """
        graph = self.graph or NeighborGraph.among(F.normalize(features, dim=1), _JUDGES)
        return int(torch.tensor([graph.agreement(of_rows) for of_rows in labels]).argmax())

    def new_labels(self, logits: Tensor | None, vectors: Tensor) -> Tensor | None:
        """Return labels (n,) of the sampled rows that are better than those in use.

        The best partition of the graph, if it decides, or else k-means of the vectors.

        Parameters
        ----------
        logits : Tensor of shape (n, n_clusters) or None
            Of the clusters in use; None if none are.
        vectors : Tensor of shape (n, d)
            What the clusters in use are clusters of.

        Returns
        -------
        labels : Tensor of shape (n,), int64, or None
            None if neighbours agree more on those in use, or there is no graph to tell.
        """
        if self.partitions is not None:
            return self.partitions[0]
        if logits is not None and self.graph is None:
            return None
        found = spherical_kmeans(vectors, self.n_clusters)
        if logits is None or self.graph is None:
            return found
        used = logits.argmax(dim=1)
        return found if self.graph.agreement(found) > self.graph.agreement(used) else None

    def gather(self, projector: nn.Module, features: Tensor, temperature: float) -> bool:
        """Gather projections (n, d) around the centroids of the best partition, if it decides.

        Without that, centroids of projections do not tell the clusters apart: training has drawn
        the projections to clusters of its own.

        Returns
        -------
        gathered : bool
            Whether there is such a partition.
        """
        if self.partitions is None:
            return False
        best = self.partitions[0]
        gather_around_centroids(projector, features, best, self.n_clusters, temperature)
        return True

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Choose the rows behind the two views: from a plan (steps, B) to (steps, 2, B)."""
        second = plan if self.graph is None else self.draw(plan, generator)[0]
        return torch.stack([plan, second], dim=1)

    def draw(self, plan: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a neighbour of each row of a plan, and tell with how many others it is joined."""
        assert self.graph is not None
        if self._nearest is None or self._sampled is None:
            drawn = self.graph.sample(plan, generator)
            return drawn, self.graph.degrees[drawn]
        choice = torch.randint(self._nearest.shape[1], plan.shape, generator=generator)
        drawn = self._nearest[plan, choice].long()
        return self._sampled[drawn], self.graph.degrees[drawn]

    def agreement(
        self, labels: Tensor, features: Tensor, n_clusters: int, seed: int
    ) -> tuple[slice, np.ndarray] | None:
        """Return how far some of the sampled rows belong to their clusters, by a graph of them.

        Parameters
        ----------
        labels : Tensor of shape (n,), int64
        features : Tensor of shape (n, d)
            From which partitions of the graph start, if there are none.
        n_clusters : int
            Of these partitions.
        seed : int

        Returns
        -------
        some : slice
            Which of the sampled rows: all, or every second one and so on.
        agreed : ndarray of shape (r,)
            None in place of both if there is no graph.
        """
        if self.graph is None:
            return None
        some = slice(None, None, -(-len(labels) // _JUDGED_ROWS))
        if self.partitions is not None and n_clusters == self.n_clusters:
            found = self.partitions.numpy()
            return some, agreement(labels.cpu().numpy(), self.graph.edges, list(found))[some]
        directions = F.normalize(features[some], dim=1)
        is_whole = len(directions) == len(labels)
        n_neighbors = self._most_neighbors(len(directions), self.n_neighbors)
        search = NeighborSearch(directions, n_neighbors)
        edges = self.graph.edges if is_whole else NeighborGraph(search.graph()).edges
        found = partitions(edges, search.rows, n_clusters, seed, n_starts=1)
        return some, agreement(labels[some].cpu().numpy(), edges, list(found))

    def links(self, labels: Tensor, features: Tensor) -> np.ndarray:
        """Return the shares of edges between the clusters (n_clusters, n_clusters) of sampled rows.

        Those of the graph, or of one of the final features of some of the rows: if training had
        none, and to join clusters that were trained on features, among which they had few
        neighbours each.
        """
        graph = self.graph
        if graph is None or (self.join and not self.among_inputs):
            every = -(-len(features) // _LINKED_ROWS)
            labels, features = labels[::every], features[::every]
            graph = NeighborGraph.among(F.normalize(features, dim=1), _LINKS)
        return edge_shares(graph.edges, labels.cpu().numpy(), self.n_clusters)

    def end(self) -> None:
        """Forget the neighbours: they are as many as the training set."""
        self.graph = self.partitions = self._nearest = self._sampled = None

    def state(self) -> dict[str, Tensor]:
        """Return how far the stage has come, and the neighbours."""
        state = {"n_searches": torch.tensor(self._n_searches)}
        if self.graph is not None:
            state |= self.graph.state()
        if self.partitions is not None:
            state["partitions"] = self.partitions
        if self._nearest is not None and self._sampled is not None:
            state |= {"nearest": self._nearest, "sampled": self._sampled}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self._n_searches = int(state["n_searches"])
        self.graph = NeighborGraph.from_state(state) if "neighbors" in state else None
        self.partitions = state.get("partitions")
        self._nearest, self._sampled = state.get("nearest"), state.get("sampled")


def start_rows(n_rows: int) -> Tensor:
    """Choose the rows among which clusters start, by their numbers (r,), int64."""
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(n_rows, generator=generator)[:_START_ROWS]


def flat(x: Tensor) -> Tensor:
    """Return samples as rows (B, d)."""
    return x.flatten(1)


def _lengths(x: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(flat(x), dim=1, keepdim=True)
    return lengths


def _have_one_length(lengths: Tensor) -> bool:
    """Tell whether only the directions of rows differ; a few that equal the mean may be zero."""
    return float((lengths > 0.999 * lengths.max()).float().mean()) > 0.9


def _compared_columns(map_all: MapAll) -> Callable[[Tensor], Tensor]:
    """Return what maps samples to the rows that a search compares: of few columns, or all.

    The 64 principal components are those of ``NeighborSearch``, of rows that are never together in
    memory. Where there are no more rows than columns, the rows take less than the second moments.
    """
    n_rows, n_columns = map_all.sampled_shape
    if not SEARCH_DIM < n_columns < n_rows:
        return flat
    moments = map_all.sum_on_sampled(_moments)
    mean, axes = on_first(lambda: _principal_axes(moments))  # rounded differently, rows differ
    return lambda x: (flat(x) - mean.to(x)) @ axes.to(x)


def _moments(x: Tensor) -> Tensor:
    """Return number, sums and sums of products of the columns in one matrix (1 + d, 1 + d)."""
    rows = F.pad(flat(x).cpu().double(), (1, 0), value=1.0)
    return rows.mT @ rows


def _principal_axes(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the first principal axes (d, 64) of rows, by their moments."""
    mean = moments[0, 1:] / moments[0, 0]
    covariance = (moments[1:, 1:] / moments[0, 0]).addr_(mean, mean, alpha=-1)
    last = len(mean) - 1
    with libraries_in_one_thread():
        _, axes = eigh(
            covariance.numpy().T,  # the order of LAPACK: nothing is copied
            subset_by_index=(last - SEARCH_DIM + 1, last),
            overwrite_a=True,
        )
    return mean.float(), torch.from_numpy(axes).float()
