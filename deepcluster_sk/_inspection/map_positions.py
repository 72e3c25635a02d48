"""Where samples lie on the map: features in two dimensions, with neighbours side by side."""

import numpy as np
from sklearn.decomposition import PCA

_FEATURES = 64  # that neighbours are searched in
_NEIGHBORS = 10
_STEPS = 200
_SEED = 0
_SPREAD = 3.0  # of the middle 98 %, to either side: beyond it, samples are moved to the border
MAX_EMBEDDED = 20_000  # rows; others are put between their nearest ones of these
_ANCHORS = 5  # nearest embedded rows of another one
_JITTER = 0.2  # of the distance to the nearest of them


def map_positions(features: np.ndarray) -> np.ndarray:
    """Place samples in the plane so that neighbours stay neighbours; equal input, equal places.

    Parameters
    ----------
    features : ndarray of shape (n, d), float
        Samples whose features are not finite get no place.

    Returns
    -------
    positions : ndarray of shape (n, 2), float32
        The first axis is the longer one. NaN for samples without a place.
    """
    positions = np.full((len(features), 2), np.nan, np.float32)
    known = np.flatnonzero(np.isfinite(features).all(axis=1))
    rows = np.ascontiguousarray(features[known], dtype=np.float32)
    if len(rows) < 3:
        positions[known] = np.arange(len(rows))[:, None] * [1, 0]
        return positions
    if rows.shape[1] == 1:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    from .._runtime.isolation import isolated  # only now: torch takes its time

    with isolated():
        positions[known] = _turned(_placed(_fewer_features(rows)))
    return positions


def _fewer_features(rows: np.ndarray) -> np.ndarray:
    """Return principal components of rows that have very many features."""
    from .._runtime.threads import libraries_in_one_thread  # only now: torch takes its time

    n_components = min(_FEATURES, *rows.shape)
    if rows.shape[1] <= _FEATURES:
        return rows
    with libraries_in_one_thread():
        fewer: np.ndarray = PCA(n_components, random_state=_SEED).fit_transform(rows)
    return fewer


def _placed(rows: np.ndarray) -> np.ndarray:
    """Embed rows (n, d), or a part of them and then the others between their nearest ones."""
    if len(rows) <= MAX_EMBEDDED:
        return _embedded(rows)
    rng = np.random.default_rng(_SEED)
    chosen = np.zeros(len(rows), bool)
    chosen[rng.choice(len(rows), MAX_EMBEDDED, replace=False)] = True
    placed = np.empty((len(rows), 2), np.float32)
    placed[chosen] = _embedded(rows[chosen])
    placed[~chosen] = _between(rows[~chosen], rows[chosen], placed[chosen], rng)
    return placed


def _embedded(rows: np.ndarray) -> np.ndarray:
    """Embed the graph of nearest neighbours."""
    import torch  # only now: it takes its time

    from .._networks.neighbor_embedding import embedded
    from .._networks.neighbors import NeighborGraph

    graph = NeighborGraph.among(torch.from_numpy(rows), _NEIGHBORS)
    return embedded(graph.edges, rows, _SEED, n_components=2, n_steps=_STEPS)


def _between(
    rows: np.ndarray, anchors: np.ndarray, places: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the medians of the places of the nearest anchors, spread a little."""
    import torch

    from .._networks.neighbors import NeighborSearch

    search = NeighborSearch(torch.from_numpy(anchors), _ANCHORS)
    nearest = places[search.nearest(torch.from_numpy(rows)).numpy()]
    middle = np.median(nearest, axis=1)
    spread = np.linalg.norm(nearest[:, 0] - middle, axis=1, keepdims=True)
    found: np.ndarray = middle + _JITTER * spread * rng.normal(size=middle.shape)
    return found.astype(np.float32)


def _turned(places: np.ndarray) -> np.ndarray:
    """Turn places to their principal axes; those far outside are moved to the border."""
    turned = PCA(2, svd_solver="covariance_eigh").fit_transform(places.astype(np.float64))
    low, middle, high = np.quantile(turned, [0.01, 0.5, 0.99], axis=0)
    inside: np.ndarray = np.clip(
        turned, middle - _SPREAD * (middle - low), middle + _SPREAD * (high - middle)
    )
    return inside.astype(np.float32)
