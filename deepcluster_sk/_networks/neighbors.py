"""Nearest neighbours among the vectors of a whole data set, and the stage that shows them."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import eigh
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.metrics import mutual_info_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._runtime.distributed import on_first

_SEARCH_DIM = 64  # the time of a search grows with it; 84 % of the neighbours are the exact ones


class _Search:
    """Nearest neighbours among some vectors.

    Parameters
    ----------
    vectors : Tensor of shape (n, d), float32
        At least two rows. Of more than 64 columns, the 64 principal components are compared.
    n_neighbors : int
        Capped at ``n - 1``.
    """

    def __init__(self, vectors: Tensor, n_neighbors: int) -> None:
        rows = vectors.cpu().numpy()
        self._components: PCA | None = None
        if min(rows.shape) > _SEARCH_DIM:
            self._components = PCA(_SEARCH_DIM, svd_solver="covariance_eigh")
            with np.errstate(invalid="ignore"):  # shares of the variance, where there is none
                rows = self._components.fit_transform(rows)
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(rows) - 1), algorithm="brute")
        self._search = search.fit(rows)

    def graph(self) -> csr_array:
        """Join every vector with its nearest others."""
        return self._search.kneighbors_graph()

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return which of the vectors are nearest to others: (m, n_neighbors), int64."""
        rows = vectors.cpu().numpy()
        if self._components is not None:
            rows = self._components.transform(rows)
        return torch.from_numpy(self._search.kneighbors(rows, return_distance=False))


class NeighborGraph:
    """Rows joined with their nearest neighbours, in both directions.

    Parameters
    ----------
    edges : sparse array of shape (n, n)
        A row's entries are its nearest others.
    """

    def __init__(self, edges: csr_array) -> None:
        both = edges.maximum(edges.T).tocsr()
        self._first = torch.from_numpy(both.indptr.astype(np.int64))
        self._neighbors = torch.from_numpy(both.indices.astype(np.int64))

    @classmethod
    def among(cls, vectors: Tensor, n_neighbors: int) -> "NeighborGraph":
        """Search the neighbours.

        Parameters
        ----------
        vectors : Tensor of shape (n, d), float32
            At least two rows. Of more than 64 columns, the 64 principal components are compared.
        n_neighbors : int
            Capped at ``n - 1``. A row has at least as many, and more if others chose it.
        """
        return cls(_Search(vectors, n_neighbors).graph())

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "NeighborGraph":
        """Return the graph that :meth:`state` was taken from, without a search."""
        graph = cls.__new__(cls)
        graph._first, graph._neighbors = state["first"], state["neighbors"]
        return graph

    def state(self) -> dict[str, Tensor]:
        """Return the edges: where each row's neighbours begin, and the neighbours."""
        return {"first": self._first, "neighbors": self._neighbors}

    def neighbors(self, row: int) -> Tensor:
        """Return the neighbours of a row, int64."""
        return self._neighbors[self._first[row] : self._first[row + 1]]

    def sample(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a neighbour of each of the rows; int64, any shape."""
        first, degree = self._first[rows], self._first.diff()[rows]
        pick = (torch.rand(rows.shape, generator=generator) * degree).long()
        return self._neighbors[first + pick.minimum(degree - 1)]  # the product may round up

    def agreement(self, labels: Tensor) -> float:
        """Return the mutual information of the labels (n,) at both ends of an edge, in nats.

        High for clusters that are many, even, and separated by gaps: a class that is cut in two
        loses it along the cut, two classes in one cluster lose it as well.
        """
        here = labels.cpu().repeat_interleave(self._first.diff()).numpy()
        return float(mutual_info_score(here, labels.cpu()[self._neighbors].numpy()))


class NeighborStage:
    """The part of a training in which the second view shows a neighbour.

    Neighbours are searched among the features when a share `start` of the training is done, and
    again in the middle of what is left.

    Parameters
    ----------
    n_neighbors : int
        0 leaves the stage out.
    start : float
        In [0, 1).
    among_inputs : bool
        Whether neighbours among the inputs serve until then, from the first step on.
    """

    def __init__(self, n_neighbors: int, start: float, *, among_inputs: bool) -> None:
        self.n_neighbors = n_neighbors
        self.among_inputs = among_inputs
        self.graph: NeighborGraph | None = None
        self._nearest: Tensor | None = None
        self._sampled: Tensor | None = None
        self._times = (start, (1 + start) / 2)
        self._n_searches = 0

    def search(self, progress: float, map_all: MapAll, encoder: nn.Module) -> Tensor | None:
        """Search if it is time to.

        Returns
        -------
        features : Tensor of shape (n, d) or None
            Of the sampled rows, which are those of :attr:`graph`; None if there was no search among
            features.
        """
        if not self.n_neighbors:
            return None
        if self.among_inputs and self.graph is None:
            columns = _compared_columns(map_all)
            self._connect(map_all.on_sampled(columns), map_all, columns)
        due = sum(progress >= time for time in self._times)
        if self._n_searches >= due:
            return None
        self._n_searches = due
        features = map_all.on_sampled(encoder)
        directions = F.normalize(features, dim=1)
        self._connect(directions, map_all, lambda x: F.normalize(encoder(x), dim=1))
        return features

    def _connect(self, sampled: Tensor, map_all: MapAll, embed: Callable[[Tensor], Tensor]) -> None:
        """Join the sampled rows, and every row with those of them that are nearest."""
        search = _Search(sampled, self.n_neighbors)
        self.graph = NeighborGraph(search.graph())
        self._sampled = map_all.sampled
        if self._sampled is not None:
            self._nearest = map_all(lambda x: search.nearest(embed(x))).int()

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Choose the rows behind the two views: from a plan (steps, B) to (steps, 2, B)."""
        if self.graph is None:
            second = plan
        elif self._nearest is None or self._sampled is None:
            second = self.graph.sample(plan, generator)
        else:
            choice = torch.randint(self._nearest.shape[1], plan.shape, generator=generator)
            second = self._sampled[self._nearest[plan, choice].long()]
        return torch.stack([plan, second], dim=1)

    def end(self) -> None:
        """Forget the neighbours: they are as many as the training set."""
        self.graph = self._nearest = self._sampled = None

    def state(self) -> dict[str, Tensor]:
        """Return how far the stage has come, and the neighbours."""
        state = {"n_searches": torch.tensor(self._n_searches)}
        if self.graph is not None:
            state |= self.graph.state()
        if self._nearest is not None and self._sampled is not None:
            state |= {"nearest": self._nearest, "sampled": self._sampled}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self._n_searches = int(state["n_searches"])
        self.graph = NeighborGraph.from_state(state) if "first" in state else None
        self._nearest, self._sampled = state.get("nearest"), state.get("sampled")


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _compared_columns(map_all: MapAll) -> Callable[[Tensor], Tensor]:
    """Return what maps samples to the rows that a search compares: of few columns, or all.

    The 64 principal components are those of :class:`_Search`, of rows that are never together in
    memory. Where there are no more rows than columns, the rows take less than the second moments.
    """
    n_rows, n_columns = map_all.sampled_shape
    if not _SEARCH_DIM < n_columns < n_rows:
        return _flat
    moments = map_all.sum_on_sampled(_moments)
    mean, axes = on_first(lambda: _principal_axes(moments))  # rounded differently, rows differ
    return lambda x: (_flat(x) - mean.to(x)) @ axes.to(x)


def _moments(x: Tensor) -> Tensor:
    """Return number, sums and sums of products of the columns in one matrix (1 + d, 1 + d)."""
    rows = F.pad(_flat(x).cpu().double(), (1, 0), value=1.0)
    return rows.mT @ rows


def _principal_axes(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the first principal axes (d, 64) of rows, by their moments."""
    mean = moments[0, 1:] / moments[0, 0]
    covariance = (moments[1:, 1:] / moments[0, 0]).addr_(mean, mean, alpha=-1)
    last = len(mean) - 1
    _, axes = eigh(
        covariance.numpy().T,  # the order of LAPACK: nothing is copied
        subset_by_index=(last - _SEARCH_DIM + 1, last),
        overwrite_a=True,
    )
    return mean.float(), torch.from_numpy(axes).float()
