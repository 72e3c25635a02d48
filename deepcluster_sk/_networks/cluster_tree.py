"""Clusters joined step by step along the neighbour graph.

In each step, the two clusters become one whose joining loses least mutual information of the
clusters at both ends of an edge: the agglomerative information bottleneck (Slonim and Tishby,
NIPS 1999) of the graph. How many clusters to keep is the number at which

    sum_k P(k, k) - resolution sum_k p(k)^2

is highest, with P(k, l) the share of edges from cluster k to l, and p(k) that of the ends in k. At
a resolution of 1, this is the modularity (Newman and Girvan, 2004); a lower one (Reichardt and
Bornholdt, 2006) keeps fewer clusters.
"""

import numpy as np

from .partition import merge, merges, value

_RESOLUTION = 0.5  # with 1, classes that have several shapes fall apart


def linkage(shares: np.ndarray) -> np.ndarray:
    """Return the tree of some clusters in SciPy's format.

    Parameters
    ----------
    shares : ndarray of shape (m, m), float64
        Symmetric shares of edges between m clusters.

    Returns
    -------
    linkage : ndarray of shape (m - 1, 4), float64
        Of each step: the two clusters, the information lost in all steps up to it in nats, and the
        number of clusters in the new one, whose number is m for the first step.
    """
    total, height = value(shares, 1.0), 0.0
    nodes = [(cluster, 1) for cluster in range(len(shares))]
    rows = []
    for step, (a, b, after) in enumerate(merges(shares, 1.0)):
        (first, n_first), (second, n_second) = nodes[a], nodes.pop(b)
        height = max(height, total - value(after, 1.0))  # never lower, but for rounding
        rows.append((min(first, second), max(first, second), height, n_first + n_second))
        nodes[a] = (len(shares) + step, n_first + n_second)
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def joined(shares: np.ndarray) -> np.ndarray:
    """Join clusters as long as it pays.

    Parameters
    ----------
    shares : ndarray of shape (m, m), float64
        Symmetric shares of edges between m clusters.

    Returns
    -------
    new : ndarray of shape (m,), int64
        The new number of each cluster.
    """
    values = [_modularity(shares), *(_modularity(after) for *_, after in merges(shares, 1.0))]
    # of equally good numbers, the smaller one: empty clusters change nothing
    n_steps = len(values) - 1 - int(np.argmax(np.round(values[::-1], 12)))
    return merge(shares, len(shares) - n_steps, 1.0)


def _modularity(shares: np.ndarray) -> float:
    return float(np.trace(shares) - _RESOLUTION * np.square(shares.sum(axis=1)).sum())
