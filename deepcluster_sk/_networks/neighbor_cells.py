"""Cells of many vectors: neighbours of those in one cell are searched in the cells around it.

This is the inverted file of Jégou, Douze and Schmid, "Product quantization for nearest neighbor
search", PAMI 2011, without the quantization. A vector at the border of its cell may miss a
neighbour that lies far from the centre of the cell.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, pairwise_distances_argmin

from .._runtime.threads import libraries_in_one_thread

_CELLS, _COMPARED = 256, 32  # of MNIST's 64 principal components, 97 % of the neighbours are found
_SAMPLED = 64  # vectors per cell, from which the centres are learned
_ITERATIONS = 10

Cell = tuple[np.ndarray, np.ndarray]
"""The numbers of the vectors in a cell, and of all that they are compared with, both ascending."""


def neighbor_cells(vectors: np.ndarray, n_least: int) -> list[Cell]:
    """Divide vectors into cells by k-means, and find the cells around each.

    Parameters
    ----------
    vectors : ndarray of shape (n, d), float32
        At least as many as there are cells.
    n_least : int
        With how many vectors each is compared at the least, itself among them; at most n.

    Returns
    -------
    cells : list of (ndarray of shape (m,), ndarray of shape (k,)), both int64
        Those that are not empty.
    """
    some = vectors[:: max(1, len(vectors) // (_CELLS * _SAMPLED))]
    with libraries_in_one_thread():
        kmeans = KMeans(_CELLS, n_init=1, max_iter=_ITERATIONS, random_state=0)
        centres = kmeans.fit(some).cluster_centers_
        cell_of = pairwise_distances_argmin(vectors, centres)
        distances = pairwise_distances(centres)
    np.fill_diagonal(distances, -1.0)  # a cell comes before others with the same centre
    members = [np.flatnonzero(cell_of == cell) for cell in range(_CELLS)]
    sizes = np.bincount(cell_of, minlength=_CELLS)
    cells = []
    for own, order in zip(members, distances.argsort(axis=1, kind="stable"), strict=True):
        if len(own):
            enough = 1 + int(np.searchsorted(sizes[order].cumsum(), n_least))
            around = [members[cell] for cell in order[: max(_COMPARED, enough)]]
            cells.append((own, np.sort(np.concatenate(around))))
    return cells
