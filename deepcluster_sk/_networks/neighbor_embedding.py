"""Embedding of a neighbour graph in few dimensions, where k-means finds what is joined.

The loss is that of UMAP (McInnes, Healy and Melville, arXiv:1802.03426): with the Cauchy kernel
q = 1 / (1 + |z - z'|^2), edges of weight w add -w log q, and random pairs, five for each edge, add
-log(1 - q). UMAP takes one edge after the other. Here all rows move at once, by gradient descent
with momentum, and all are compared with the same random rows in one matrix product.
"""

from functools import partial

import numpy as np
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches

from .._runtime.threads import blas_in_one_thread, libraries_in_one_thread, map_in_threads

_DIM = 10
_STEPS = 100
_MOMENTUM = 0.8
_EXTENT = 5.0  # of the start: largest coordinate
_FARTHEST = 4.0  # a step, in each coordinate: rows that are close are thrown apart
_NEGATIVES = 5.0  # per edge
_COMPARED = 256  # random rows in a step, which stand for all negatives
_NEAR = 1e-3  # squared distance below which rows do not push each other further
_AT_ONCE = 512  # rows: the same pieces, whatever the number of threads


def embedded(
    edges: csr_array,
    rows: np.ndarray,
    seed: int,
    *,
    n_components: int = _DIM,
    n_steps: int = _STEPS,
) -> np.ndarray:
    """Embed the rows of a graph.

    Parameters
    ----------
    edges : sparse array of shape (n, n)
        Symmetric weights.
    rows : ndarray of shape (n, d), float32
        The embedding starts from their principal components.
    seed : int
    n_components : int, default=10
        At most; not more than n or d.
    n_steps : int, default=100

    Returns
    -------
    embedding : ndarray of shape (n, min(n, d, n_components)), float32
    """
    rng = np.random.default_rng(seed)
    embedding = _start(rows, n_components, rng)
    n_rows, mean_degree = len(rows), edges.nnz / len(rows)
    edges = csr_array(edges * np.float32(edges.nnz / edges.sum()), dtype=np.float32)
    pieces = [(piece, edges[piece]) for piece in gen_batches(n_rows, _AT_ONCE)]
    speed = np.zeros_like(embedding)
    with blas_in_one_thread():
        for step in range(n_steps):
            others = rng.integers(n_rows, size=_COMPARED)
            gradients = map_in_threads(
                partial(_gradient_of_piece, embedding, others), pieces, len(pieces)
            )
            # each pair moves both of its ends
            speed = _MOMENTUM * speed + 2 / mean_degree * np.concatenate(list(gradients))
            rate = 1 - step / n_steps
            embedding = embedding - np.float32(rate) * np.clip(speed, -_FARTHEST, _FARTHEST)
    return embedding


def gradient(
    embedding: np.ndarray, piece: slice, edges: csr_array, others: np.ndarray
) -> np.ndarray:
    """Return the gradient of the loss of some rows, as if all others stood still.

    Parameters
    ----------
    embedding : ndarray of shape (n, d), float32
    piece : slice
        The m rows.
    edges : sparse array of shape (m, n), float32
        Theirs.
    others : ndarray of shape (k,), int64
        The rows that all of them are compared with.

    Returns
    -------
    gradient : ndarray of shape (m, d), float32
    """
    here, degrees = embedding[piece], np.diff(edges.indptr)
    ends = np.repeat(np.arange(len(here)), degrees)
    squared = np.square(here[ends] - embedding[edges.indices]).sum(axis=1)
    pull = csr_array((edges.data / (1 + squared), edges.indices, edges.indptr), shape=edges.shape)
    apart = embedding[others]
    squared = np.square(here).sum(axis=1)[:, None] + np.square(apart).sum(axis=1)
    squared = np.maximum(squared - 2 * here @ apart.T, 0)
    push = 1 / (_NEAR + squared) - 1 / (1 + squared)
    push *= (_NEGATIVES / len(others) * degrees[:, None]).astype(np.float32)
    own = np.flatnonzero((others >= piece.start) & (others < piece.stop))
    push[others[own] - piece.start, own] = 0  # not by themselves
    drawn = (pull.sum(axis=1) - push.sum(axis=1))[:, None] * here
    total: np.ndarray = np.float32(2) * (drawn - pull @ embedding + push @ apart)
    return total


def _gradient_of_piece(
    embedding: np.ndarray, others: np.ndarray, part: tuple[slice, csr_array]
) -> np.ndarray:
    return gradient(embedding, *part, others)


def components_of(n_components: int, shape: tuple[int, ...]) -> PCA:
    """Return what finds principal components of rows of a shape (n, d), by the smaller side."""
    wide = shape[0] < shape[1]  # of which the covariances, d x d, would take far longer
    return PCA(n_components, svd_solver="full" if wide else "covariance_eigh")


def _start(rows: np.ndarray, n_components: int, rng: np.random.Generator) -> np.ndarray:
    """Return principal components of the rows, with little noise: equal rows have to part."""
    components = components_of(min(n_components, *rows.shape), rows.shape)
    with libraries_in_one_thread(), np.errstate(invalid="ignore"):  # of rows that are all alike
        start = components.fit_transform(rows)
    start /= max(np.abs(start).max(), np.finfo(np.float32).tiny)
    start *= _EXTENT
    noisy: np.ndarray = start + rng.normal(scale=0.01, size=start.shape)
    return noisy.astype(np.float32)
