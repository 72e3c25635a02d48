"""Nearest neighbours among the vectors of a whole data set."""

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches
from torch import Tensor

from .._runtime.threads import (
    blas_in_one_thread,
    libraries_in_one_thread,
    map_in_threads,
    openmp_in_one_thread,
)
from .neighbor_cells import Cell, neighbor_cells
from .neighbor_embedding import components_of
from .partition import edge_shares, value

_SEARCHED_AT_ONCE = 4096  # vectors: the same pieces, whatever the number of threads
_MOST_COMPARED = 20_000  # vectors: of more, only those in cells that are close are compared
SEARCH_DIM = 64  # the time of a search grows with it; 84 % of the neighbours are the exact ones


class NeighborSearch:
    """Nearest neighbours among some vectors.

    Parameters
    ----------
    vectors : Tensor of shape (n, d), float32
        At least two rows. Of more than 64 columns, the 64 principal components are compared.
    n_neighbors : int
        Capped at ``n - 1``.
    by_direction : bool, default=False
        Whether the directions of the vectors are compared, or of their components.

    Attributes
    ----------
    rows : ndarray of shape (n, d), float32
        What is compared.
    """

    def __init__(self, vectors: Tensor, n_neighbors: int, *, by_direction: bool = False) -> None:
        rows = vectors.cpu().numpy()
        self._by_direction = by_direction
        self._components: PCA | None = None
        with libraries_in_one_thread():
            if min(rows.shape) > SEARCH_DIM:
                self._components = components_of(SEARCH_DIM, rows.shape)
                with np.errstate(invalid="ignore"):  # shares of a variance of zero
                    # more precise than `transform`, which centres after the product
                    rows = self._components.fit_transform(rows)
            rows = normalize(rows) if by_direction else rows
            search = NearestNeighbors(
                n_neighbors=min(n_neighbors, len(rows) - 1), algorithm="brute"
            )
            self.rows, self._search = rows, search.fit(rows)

    def _compared(self, rows: np.ndarray) -> np.ndarray:
        """Return what is compared of some vectors."""
        if self._components is not None:
            rows = self._components.transform(rows)
        return normalize(rows) if self._by_direction else rows

    def graph(self) -> csr_array:
        """Join every vector with its nearest others; of equally near ones, the first ones.

        Of more than 20,000 vectors, those that are found in cells around that of the vector.
        """
        n_rows, n_neighbors = len(self.rows), self._search.n_neighbors
        every = np.arange(n_rows)
        if n_rows > _MOST_COMPARED:
            pieces = neighbor_cells(self.rows, n_neighbors + 1)
        else:
            pieces = [(every[piece], every) for piece in gen_batches(n_rows, _SEARCHED_AT_ONCE)]
        nearest = np.empty((n_rows, n_neighbors), dtype=np.int64)
        with blas_in_one_thread():
            found = map_in_threads(self._others, pieces, len(pieces))
            for (own, _), others in zip(pieces, found, strict=True):
                nearest[own] = others
        starts = np.arange(0, nearest.size + 1, n_neighbors)
        return csr_array((np.ones(nearest.size), nearest.ravel(), starts), shape=(n_rows, n_rows))

    def _others(self, piece: Cell) -> np.ndarray:
        """Return the nearest of others for some of the vectors: (m, n_neighbors)."""
        n_neighbors = self._search.n_neighbors
        own, compared = piece
        search = self._search
        if len(compared) < len(self.rows):
            search = NearestNeighbors(algorithm="brute").fit(self.rows[compared])
        with openmp_in_one_thread():
            found = search.kneighbors(self.rows[own], n_neighbors + 1, return_distance=False)
        nearest = compared[found]
        is_other = nearest != own[:, None]
        is_other[is_other.all(axis=1), -1] = False  # among many that are alike, it may be missing
        others: np.ndarray = nearest[is_other].reshape(-1, n_neighbors)
        return others

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return which of the vectors are nearest to others: (m, n_neighbors), int64."""
        rows = self._compared(vectors.cpu().numpy())
        with openmp_in_one_thread():
            return torch.from_numpy(self._search.kneighbors(rows, return_distance=False))


class NeighborGraph:
    """Rows joined with their nearest neighbours.

    Parameters
    ----------
    nearest : sparse array of shape (n, n)
        A row's entries are its nearest others, of one number for all rows.

    Attributes
    ----------
    edges : sparse array of shape (n, n)
        Symmetric: 1 where one row is a neighbour of the other, 2 where each is.
    degrees : Tensor of shape (n,), int64
        With how many others each row is joined.
    """

    def __init__(self, nearest: csr_array) -> None:
        self.edges = csr_array(nearest + nearest.T)
        self.edges.sort_indices()
        self.degrees = torch.from_numpy(np.diff(self.edges.indptr).astype(np.int64))
        own = csr_array(self.edges.multiply(nearest))
        own.sort_indices()
        shape = len(own.indptr) - 1, -1
        self._nearest = torch.from_numpy(own.indices.astype(np.int64)).reshape(shape)
        self._chances = torch.from_numpy(own.data.astype(np.float32)).reshape(shape).cumsum(dim=1)

    @classmethod
    def among(cls, vectors: Tensor, n_neighbors: int) -> "NeighborGraph":
        """Search the neighbours.

        Parameters
        ----------
        vectors : Tensor of shape (n, d), float32
            At least two rows. Of more than 64 columns, the 64 principal components are compared.
        n_neighbors : int
            Capped at ``n - 1``.
        """
        return cls(NeighborSearch(vectors, n_neighbors).graph())

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "NeighborGraph":
        """Return the graph that :meth:`state` was taken from, without a search."""
        nearest = state["neighbors"].numpy()
        n_rows, n_neighbors = nearest.shape
        starts = np.arange(0, nearest.size + 1, n_neighbors)
        return cls(csr_array((np.ones(nearest.size), nearest.ravel(), starts), shape=(n_rows,) * 2))

    def state(self) -> dict[str, Tensor]:
        """Return the neighbours of each row (n, n_neighbors), int64."""
        return {"neighbors": self._nearest}

    def neighbors(self, row: int) -> Tensor:
        """Return the neighbours of a row, int64."""
        return self._nearest[row]

    def sample(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a neighbour of each of the rows; int64, any shape.

        Those that have the row as a neighbour as well are drawn twice as often: fewer of them
        belong to another class.
        """
        chances = self._chances[rows]
        draw = torch.rand((*rows.shape, 1), generator=generator) * chances[..., -1:]
        choice = (chances <= draw).sum(dim=-1, keepdim=True)
        choice.clamp_(max=chances.shape[-1] - 1)  # the product may round up
        return self._nearest[rows].gather(-1, choice)[..., 0]

    def agreement(self, labels: Tensor) -> float:
        """Return the mutual information of the labels (n,) at both ends of an edge, in nats.

        High for clusters that are many, even, and separated by gaps: a class that is cut in two
        loses it along the cut, two classes in one cluster lose it as well.
        """
        numbers = labels.cpu().numpy()
        return value(edge_shares(self.edges, numbers, int(numbers.max()) + 1), balance=1.0)
