"""What clusterings are compared with: usual methods, each on several scalings of the rows.

A baseline is a function ``(rows, n_clusters, seed)`` that returns labels by name: one embedding
serves several clusterings. UMAP, EVoC and the methods of ClustPy are needed only where they run
(``pip install -e ".[bench]"``); HDBSCAN is scikit-learn's.
"""

from collections.abc import Callable

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler, normalize

Labels = dict[str, np.ndarray]
_N_DIMENSIONS = 10  # of the embedding that UMAP makes for clustering


def scaled(X: np.ndarray, how: str) -> np.ndarray:
    """Flatten samples and scale the rows."""
    rows = X.reshape(len(X), -1).astype(np.float64)
    if how == "standardised":
        rows = StandardScaler().fit_transform(rows)
    elif how == "global":
        rows = rows - rows.mean(axis=0)
        rows /= rows.std()
    elif how == "unit":
        rows = normalize(rows - rows.mean(axis=0))
    return rows.astype(np.float32)


SCALINGS = ("raw", "global", "standardised", "unit")


def kmeans(rows: np.ndarray, n_clusters: int, seed: int) -> Labels:
    return {"KMeans": KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(rows)}


def hdbscan(rows: np.ndarray, n_clusters: int, seed: int) -> Labels:
    return {"HDBSCAN": HDBSCAN(min_cluster_size=_smallest(rows), copy=True).fit_predict(rows)}


def umap_then(*clusterings: str, seeded: bool = True) -> Callable[[np.ndarray, int, int], Labels]:
    """Return what clusters an embedding by UMAP, which takes all cores only without a seed."""

    def run(rows: np.ndarray, n_clusters: int, seed: int) -> Labels:
        import umap

        state = seed if seeded else None
        embed = umap.UMAP(n_components=_N_DIMENSIONS, min_dist=0.0, random_state=state)
        embedding = embed.fit_transform(rows)
        makers = {
            "KMeans": lambda: KMeans(n_clusters, n_init=10, random_state=seed),
            "GMM": lambda: GaussianMixture(n_clusters, random_state=seed, reg_covar=1e-4),
            "HDBSCAN": lambda: HDBSCAN(min_cluster_size=_smallest(rows), copy=True),
        }
        return {f"UMAP+{name}": makers[name]().fit_predict(embedding) for name in clusterings}

    return run


def evoc(rows: np.ndarray, n_clusters: int, seed: int) -> Labels:
    import evoc

    return {"EVoC": evoc.EVoC(random_state=seed).fit_predict(rows)}


def clustpy(method: str) -> Callable[[np.ndarray, int, int], Labels]:
    def run(rows: np.ndarray, n_clusters: int, seed: int) -> Labels:
        import clustpy.deep

        if method == "VaDE":  # its loss is for values in [0, 1]
            rows = (rows - rows.min()) / (rows.max() - rows.min())
        fitted = getattr(clustpy.deep, method)(n_clusters, random_state=seed)
        return {f"ClustPy-{method}": fitted.fit_predict(rows)}

    return run


def _smallest(rows: np.ndarray) -> int:
    """Return the size of the smallest cluster that HDBSCAN looks for."""
    return max(5, len(rows) // 100)


_ON_ROWS = {
    "KMeans": kmeans,
    "UMAP": umap_then("KMeans", "GMM", "HDBSCAN"),
    "HDBSCAN": hdbscan,
    "EVoC": evoc,
}
BASELINES = {
    **{f"{name} {how}": (run, how) for name, run in _ON_ROWS.items() for how in SCALINGS},
    "UMAP+KMeans": (umap_then("KMeans"), "raw"),
    **{f"ClustPy-{name}": (clustpy(name), "raw") for name in ("DEC", "IDEC", "DCN", "VaDE")},
}
"""Baselines by name, each with the scaling of its rows."""
