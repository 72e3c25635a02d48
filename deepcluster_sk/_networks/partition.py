"""Partitions of a neighbour graph into clusters.

With P(k, l) the share of edges from cluster k to cluster l, and p(k) that of the ends in k, the
search climbs

    sum_kl P(k, l) log P(k, l) - 2 balance sum_k p(k) log p(k)

At a balance of 1 this is the mutual information of the clusters at both ends of an edge, which
invariant information clustering (Ji et al., ICCV 2019) takes of augmented pairs. It draws clusters
to equal sizes; a lower balance draws less, until some clusters stay empty or hold a few rows. No
single balance suits all data, so several are tried, and the lowest one is taken whose best
partition cuts hardly more edges than those of the others. That is measured by the normalised cut
(Shi and Malik, PAMI 2000), which does not depend on the sizes, with a preference for even ones:
most rows in a single cluster, beside small tight ones, have a low cut as well. Only edges between
rows that are neighbours of each other count there: fewer of them join two classes.

The search is that of multilevel graph partitioning: many small clusters, which k-means finds well
among the rows and in an embedding of their graph, are improved on the graph, merged, and improved
again.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import KMeans

from .._runtime.threads import blas_in_one_thread, libraries_in_one_thread
from .neighbor_embedding import embedded

_STARTS = 6
BALANCES = (1.0, 0.9, 0.8, 0.7, 0.6)  # below, most clusters stay empty
_SMALL_CLUSTERS = 8  # per cluster that is asked for
_MOST_SMALL = 256  # the time of merging grows with the cube
_SMALL_SIZE = 12  # rows: smaller ones follow chance
_ROUNDS = 60
_FEW_ROUNDS = 20  # where the result is only merged
_PATIENCE = 5  # rounds without a better value
# times the lowest cut: those of usable balances are below 1.35, those of collapsed ones above 3
_TOLERATED = 1.5
_EVENNESS_POWER = 3  # of the number that a cut is divided by
_LEAST_CUT = 1e-3  # added to a cut, so that cuts of nearly 0 do not outweigh sizes
_SMOOTHING = 1e-3  # share of edges that are spread over all pairs of clusters


def partitions(
    edges: csr_array,
    rows: np.ndarray,
    n_clusters: int,
    seed: int,
    *,
    n_starts: int = _STARTS,
    balances: Sequence[float] = BALANCES,
) -> np.ndarray:
    """Search partitions whose clusters have few edges between them.

    Parameters
    ----------
    edges : sparse array of shape (n, n)
        Symmetric: 1 where one row is a neighbour of the other, 2 where each is.
    rows : ndarray of shape (n, d), float32
        What the edges are neighbours among.
    n_clusters : int
    seed : int
    n_starts : int, default=6
        Every second one is in an embedding of the graph.
    balances : sequence of float, default=(1.0, 0.9, 0.8, 0.7, 0.6)
        Those that are tried.

    Returns
    -------
    labels : ndarray of shape (m, n), int64
        Of each start and balance: first those of the balance that is taken, the one of the highest
        value before the others, and then those of the other balances. Fewer clusters may be in use
        than asked for.
    """
    spaces = [rows] if n_starts == 1 else [rows, embedded(edges, rows, seed)]
    seeds = np.random.SeedSequence(seed).generate_state(n_starts).tolist()
    starts = [
        (_small_clusters(edges, spaces[number % len(spaces)], n_clusters, start), start)
        for number, start in enumerate(seeds)
    ]
    found = {balance: _partitions_at(edges, starts, n_clusters, balance) for balance in balances}
    mutual = csr_array((edges.data > 1, edges.indices, edges.indptr), shape=edges.shape)
    cuts = {
        balance: cut(edge_shares(mutual, labels[0], n_clusters))
        for balance, labels in found.items()
    }
    taken = min(b for b in balances if cuts[b] <= _TOLERATED * min(cuts.values()))
    order = sorted(balances, key=lambda balance: (balance != taken, cuts[balance]))
    return np.concatenate([found[balance] for balance in order])


def _partitions_at(
    edges: csr_array,
    starts: Sequence[tuple[tuple[np.ndarray, int], int]],
    n_clusters: int,
    balance: float,
) -> np.ndarray:
    """Search partitions (m, n) from some starts; the first one has the highest value."""
    found = []
    for (small, n_small), seed in starts:
        merged = merge(edge_shares(edges, small, n_small), n_clusters, balance)[small]
        found.append(refined(edges, merged, n_clusters, balance, seed))
    values = [value(edge_shares(edges, labels, n_clusters), balance) for labels in found]
    return np.stack(found)[np.argsort(values, kind="stable")[::-1]]


def cut(shares: np.ndarray) -> float:
    """Return the mean share of the edges of a cluster that leave it, over the evenness cubed.

    The first is the normalised cut per cluster; an empty cluster counts 1. The second is the
    entropy of the sizes, by ends of edges, as a share of that of equal sizes.

    Parameters
    ----------
    shares : ndarray of shape (K, K), float64
        Symmetric shares of edges between K clusters.

    Returns
    -------
    cut : float
        Not negative; infinite for several clusters of which one is in use.
    """
    ends = shares.sum(axis=1)
    if len(ends) == 1:
        return 0.0
    leaving = 1 - float(np.mean(np.diag(shares) / np.where(ends > 0, ends, 1.0)))
    evenness = -float(_xlogx(ends).sum()) / math.log(len(ends))
    return (leaving + _LEAST_CUT) / evenness**_EVENNESS_POWER if evenness > 0 else math.inf


def refined(
    edges: csr_array,
    labels: np.ndarray,
    n_clusters: int,
    balance: float,
    seed: int,
    n_rounds: int = _ROUNDS,
) -> np.ndarray:
    """Move rows to clusters that their neighbours speak for, as long as the value rises.

    In each round a random half of the rows that would move does: neighbours that all move at once
    would only change places.

    Parameters
    ----------
    edges : sparse array of shape (n, n)
        Symmetric weights.
    labels : ndarray of shape (n,), int64
    n_clusters : int
    balance : float
    seed : int
    n_rounds : int

    Returns
    -------
    labels : ndarray of shape (n,), int64
        Those of the highest value of all rounds.
    """
    rng = np.random.default_rng(seed)
    first_of_row = np.repeat(np.arange(len(labels)) * n_clusters, np.diff(edges.indptr))
    best, best_value, stale = labels, -np.inf, 0
    with blas_in_one_thread():  # the same bits with any number of threads
        for _ in range(n_rounds):
            # the weight of the edges from each row to each cluster
            to = first_of_row + labels[edges.indices]
            around = np.bincount(to, weights=edges.data, minlength=len(labels) * n_clusters)
            around = around.reshape(-1, n_clusters)
            shares = _summed_by_cluster(around, labels) / max(around.sum(), 1)
            current = value(shares, balance)
            if current > best_value + 1e-9:
                best, best_value, stale = labels, current, 0
            else:
                stale += 1
            wish = _wishes(around, shares, balance)
            moves = wish != labels
            if stale > _PATIENCE or not moves.any():
                break
            half = moves & (rng.random(len(labels)) < 0.5)
            labels = np.where(half if half.any() else moves, wish, labels)
    return best


def value(shares: np.ndarray, balance: float) -> float:
    """Return the value of a partition by its shares of edges (K, K), in nats."""
    return float(_xlogx(shares).sum() - 2 * balance * _xlogx(shares.sum(axis=1)).sum())


def edge_shares(edges: csr_array, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return the share of the weight of all edges between each two clusters: (K, K)."""
    here = np.repeat(labels, np.diff(edges.indptr))
    pairs = here * n_clusters + labels[edges.indices]
    weights = np.bincount(pairs, weights=edges.data, minlength=n_clusters**2)
    shares: np.ndarray = weights.reshape(n_clusters, n_clusters) / max(weights.sum(), 1)
    return shares


def _small_clusters(
    edges: csr_array, rows: np.ndarray, n_clusters: int, seed: int
) -> tuple[np.ndarray, int]:
    """Return many small clusters, as labels (n,), and their number."""
    wanted = min(_SMALL_CLUSTERS * n_clusters, _MOST_SMALL, len(rows) // _SMALL_SIZE)
    n_small = max(n_clusters, wanted)
    with libraries_in_one_thread():
        small = KMeans(n_small, n_init=1, random_state=seed).fit(rows).labels_.astype(np.int64)
    # evenly sized small clusters cover every class, whatever its size
    return refined(edges, small, n_small, 1.0, seed, n_rounds=_FEW_ROUNDS), n_small


def _summed_by_cluster(around: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum the rows (n, K) of each cluster: (K, K)."""
    starts = np.arange(len(labels) + 1)
    one_hot = csr_array((np.ones(len(labels)), labels, starts), shape=around.shape)
    summed: np.ndarray = one_hot.T @ around
    return summed


def _wishes(around: np.ndarray, shares: np.ndarray, balance: float) -> np.ndarray:
    """Return the cluster of each row that is likeliest given its neighbours' clusters."""
    smooth = (shares + _SMOOTHING / shares.size) / (1 + _SMOOTHING)
    size = balance * np.log(smooth.sum(axis=1))
    evidence = np.log(smooth) - size[:, None] - size
    wish: np.ndarray = (around @ evidence).argmax(axis=1)
    return wish


def merge(shares: np.ndarray, n_clusters: int, balance: float) -> np.ndarray:
    """Merge pairs of clusters until `n_clusters` are left, each time the pair that costs least.

    Parameters
    ----------
    shares : ndarray of shape (m, m), float64
        Symmetric shares of edges between m clusters.
    n_clusters : int
    balance : float

    Returns
    -------
    new : ndarray of shape (m,), int64
        The new number of each cluster.
    """
    members = [[cluster] for cluster in range(len(shares))]
    for a, b, _ in islice(merges(shares, balance), max(len(shares) - n_clusters, 0)):
        members[a] += members.pop(b)
    new = np.empty(len(shares), dtype=np.int64)
    for number, merged in enumerate(members):
        new[merged] = number
    return new


def merges(shares: np.ndarray, balance: float) -> Iterator[tuple[int, int, np.ndarray]]:
    """Merge pairs of clusters, each time the pair that costs least, until one is left.

    Yields
    ------
    a, b : int
        The places of the two among the clusters that are left, a < b: b is dropped from these.
    shares : ndarray of shape (k, k), float64
        Those between the k clusters that are left then.
    """
    # changes[a, b]: what summing columns a and b changes in the first term, over all rows
    changes = np.zeros_like(shares)
    for column in shares.T:
        _add_joining_pairs(changes, [column], [1])
    direct = _direct_gains(shares, slice(None), balance)
    while len(shares) > 1:
        a, b = _best_pair(2 * changes + direct)
        x, y = shares[:, a], shares[:, b]
        _add_joining_pairs(changes, [x + y, x, y], [1, -1, -1])
        shares = _without(_summed(shares, a, b), b)
        changes, direct = _without(changes, b), _without(direct, b)
        near = shares[a] > 0
        changes[a] = changes[:, a] = _joining(shares[a, near], shares[:, near]).sum(axis=1)
        direct[a] = direct[:, a] = _direct_gains(shares, [a], balance)
        yield a, b, shares


def _add_joining_pairs(to: np.ndarray, columns: list[np.ndarray], signs: list[int]) -> None:
    """Add :func:`_joining_pairs` of some columns (m,) with signs to (m, m), where they are not 0.

    The zeros are those of the first column; most clusters have no edge to a given one.
    """
    near = np.flatnonzero(columns[0])
    pairs = [sign * _joining_pairs(x[near]) for x, sign in zip(columns, signs, strict=True)]
    to[np.ix_(near, near)] += sum(pairs)


def _best_pair(gains: np.ndarray) -> tuple[int, int]:
    """Return the two clusters whose merging gains most (m, m), the smaller number first."""
    np.fill_diagonal(gains, -np.inf)
    a, b = np.unravel_index(gains.argmax(), gains.shape)
    return int(min(a, b)), int(max(a, b))


def _direct_gains(shares: np.ndarray, some: slice | list[int], balance: float) -> np.ndarray:
    """Return what merging some of m clusters with each changes in the value: (k, m).

    Added to twice the changes over all rows, which are wrong for the rows of the two.
    """
    own, size, between = np.diag(shares), shares.sum(axis=1), shares[some]
    its_own, its_size = own[some, None], size[some, None]
    block = _xlogx(its_own + own + 2 * between) - 2 * _xlogx(between)
    block -= _xlogx(its_own) + _xlogx(own)
    wrong = _joining(its_own, between) + _joining(between, own)
    gains: np.ndarray = block - 2 * wrong - 2 * balance * _joining(its_size, size)
    return gains


def _summed(shares: np.ndarray, a: int, b: int) -> np.ndarray:
    """Let cluster a contain b."""
    shares = shares.copy()
    shares[a] += shares[b]
    shares[:, a] += shares[:, b]
    return shares


def _without(x: np.ndarray, number: int) -> np.ndarray:
    """Return a matrix without a row and a column; several times faster than ``np.delete``."""
    rest = np.empty((len(x) - 1, len(x) - 1))
    for rows, rows_before in _parts(number):
        for columns, columns_before in _parts(number):
            rest[rows, columns] = x[rows_before, columns_before]
    return rest


def _parts(number: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where numbers below and above one are when it is dropped, and where they were."""
    return (slice(number), slice(number)), (slice(number, None), slice(number + 1, None))


def _joining(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``f(x + y) - f(x) - f(y)`` of ``f(x) = x log x``."""
    joined: np.ndarray = _xlogx(x + y) - _xlogx(x) - _xlogx(y)
    return joined


def _joining_pairs(x: np.ndarray) -> np.ndarray:
    """Return the same for all pairs of the numbers (m,): (m, m)."""
    return _joining(x[:, None], x)


def _xlogx(x: np.ndarray) -> np.ndarray:
    """Return ``x log x``, and 0 for 0."""
    product: np.ndarray = x * np.log(np.maximum(x, np.finfo(np.float64).tiny))
    return product
