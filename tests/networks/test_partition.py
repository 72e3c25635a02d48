from itertools import combinations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score, mutual_info_score
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_info, threadpool_limits

from deepcluster_sk._networks import partition
from deepcluster_sk._networks.partition import (
    cut,
    edge_shares,
    merge,
    partitions,
    refined,
    value,
)

pytestmark = pytest.mark.usefixtures("full_searches")


def graph(rows, n_neighbors=10):
    nearest = csr_array(kneighbors_graph(rows, n_neighbors))
    return csr_array(nearest + nearest.T)


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(400, noise=0.05, random_state=0)
    return X.astype(np.float32), y


def random_shares(m, seed=0):
    shares = np.random.default_rng(seed).random((m, m)) ** 4
    shares += 5 * np.diag(np.random.default_rng(seed + 1).random(m))
    shares += shares.T
    return shares / shares.sum()


def by_definition(shares, balance):
    ends = shares.sum(axis=1)
    pairs = sum(p * np.log(p) for p in shares.ravel() if p > 0)
    return pairs - 2 * balance * sum(p * np.log(p) for p in ends if p > 0)


def test_value_at_full_balance_is_the_mutual_information_of_both_ends(moons):
    X, _ = moons
    edges = graph(X)
    labels = KMeans(5, n_init=1, random_state=0).fit(X).labels_.astype(np.int64)
    here, there = (edges > 0).nonzero()
    weights = edges[here, there].astype(int)
    expected = mutual_info_score(
        np.repeat(labels[here], weights), np.repeat(labels[there], weights)
    )
    assert value(edge_shares(edges, labels, 5), 1.0) == pytest.approx(expected)


@pytest.mark.parametrize("balance", [0.0, 0.8, 1.0])
def test_value_follows_its_definition(balance):
    shares = random_shares(6)
    shares[2] = shares[:, 2] = 0  # an empty cluster
    assert value(shares, balance) == pytest.approx(by_definition(shares, balance))


@pytest.mark.parametrize("balance", [0.5, 1.0])
@pytest.mark.parametrize("share_of_zeros", [0.0, 0.6])
def test_merging_takes_the_cheapest_pair_each_time(balance, share_of_zeros):
    shares = random_shares(9)
    apart = np.triu(np.random.default_rng(1).random((9, 9)) < share_of_zeros, 1)
    shares[apart | apart.T] = 0  # most clusters have no edge between them
    shares /= shares.sum()

    def summed(groups):
        members = np.zeros((9, len(groups)))
        for k, group in enumerate(groups):
            members[list(group), k] = 1
        return members.T @ shares @ members

    def joined(groups, pair):
        rest = [group for k, group in enumerate(groups) if k not in pair]
        return [*rest, groups[pair[0]] | groups[pair[1]]]

    groups = [{k} for k in range(9)]
    while len(groups) > 3:
        merged = [joined(groups, pair) for pair in combinations(range(len(groups)), 2)]
        groups = max(merged, key=lambda some: by_definition(summed(some), balance))

    new = merge(shares, 3, balance)
    assert sorted(map(sorted, groups)) == sorted(
        np.flatnonzero(new == k).tolist() for k in range(3)
    )


def test_merging_to_as_many_clusters_changes_nothing():
    np.testing.assert_array_equal(merge(random_shares(4), 4, 0.8), range(4))


def test_refinement_finds_planted_clusters_from_labels_that_are_half_wrong():
    X, y = make_blobs(600, centers=6, cluster_std=0.5, random_state=0)
    rng = np.random.default_rng(0)
    start = np.where(rng.random(600) < 0.5, rng.integers(6, size=600), y)
    labels = refined(graph(X), start, 6, 0.8, seed=0)
    assert adjusted_rand_score(y, labels) > 0.95
    assert adjusted_rand_score(y, start) < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_refinement_never_lowers_the_value(seed, moons):
    edges = graph(moons[0])
    start = np.random.default_rng(seed).integers(4, size=400)
    labels = refined(edges, start, 4, 0.8, seed=seed)
    reached, before = (value(edge_shares(edges, of, 4), 0.8) for of in (labels, start))
    assert reached > before


def test_refinement_computes_products_in_one_thread(monkeypatch, moons):
    threads = []

    def wishes(around, shares, balance):
        info = threadpool_info()
        threads.extend(lib["num_threads"] for lib in info if lib["user_api"] == "blas")
        return (around @ shares).argmax(axis=1)

    monkeypatch.setattr("deepcluster_sk._networks.partition._wishes", wishes)
    with threadpool_limits(2, user_api="blas"):
        refined(graph(moons[0]), np.arange(400) % 4, 4, 0.8, seed=0)
    assert set(threads) == {1}


def test_clusters_may_have_any_shape(moons):
    X, y = moons
    labels = partitions(graph(X), X, 2, seed=0)[0]
    assert adjusted_rand_score(y, labels) == 1
    assert adjusted_rand_score(y, KMeans(2, n_init=5, random_state=0).fit_predict(X)) < 0.6


def cut_by_hand(edges, labels, n_clusters):
    mutual = np.where(edges.toarray() == 2, 1.0, 0.0)
    members = np.eye(n_clusters)[labels]
    ends = members.T @ mutual.sum(axis=1)
    inside = np.einsum("ik,ij,jk->k", members, mutual, members)
    normalised_cut = np.mean([1 - inside[k] / ends[k] for k in range(n_clusters)])
    return (normalised_cut + 1e-3) / (entropy(ends) / np.log(n_clusters)) ** 3


def test_the_first_partitions_are_those_of_the_lowest_balance_with_a_tolerable_cut(moons):
    edges = graph(moons[0])
    found = partitions(edges, moons[0], 6, seed=0)
    assert found.shape == (30, 400)  # six starts at each of five balances
    assert found.dtype == np.int64
    cuts = [cut_by_hand(edges, labels, 6) for labels in found[::6]]
    assert cuts[0] <= 1.5 * min(cuts)
    np.testing.assert_array_less(np.array(cuts[1:-1]), np.array(cuts[2:]) + 1e-9)
    balances = (1.0, 0.9, 0.8, 0.7, 0.6)
    of_start = [value(edge_shares(edges, labels, 6), b) for b in balances for labels in found[:6]]
    orders = np.array(of_start).reshape(5, 6)
    assert (np.diff(orders, axis=1) <= 1e-12).all(axis=1).any()  # sorted by one of them


def test_the_lowest_balance_is_taken_whose_cut_is_tolerable(moons, monkeypatch):
    cuts = {10: 1.0, 9: 1.1, 8: 1.49, 7: 1.51, 6: 5.0}  # by ten times the balance

    def of_one_cluster(edges, starts, n_clusters, balance):
        return np.full((len(starts), 400), round(10 * balance))

    monkeypatch.setattr(partition, "_partitions_at", of_one_cluster)
    monkeypatch.setattr(partition, "cut", lambda shares: cuts[int(np.diag(shares).argmax())])
    found = partitions(graph(moons[0]), moons[0], 11, seed=0)
    assert found[::6, 0].tolist() == [8, 10, 9, 7, 6]


def test_balances_at_which_clusters_stay_empty_are_not_taken():
    X, y = make_blobs(300, centers=[[0, 0], [7, 0], [0, 7]], random_state=0)
    X = X.astype(np.float32)
    found = partitions(graph(X), X, 3, seed=0)
    assert adjusted_rand_score(y, found[0]) > 0.97
    assert all(len(np.unique(labels)) == 3 for labels in found[:6])


@pytest.mark.parametrize("sizes", [(300, 300, 300), (300, 60, 60), (300, 100, 50)])
def test_clusters_of_equal_and_of_unequal_sizes_are_found(sizes):
    X, y = make_blobs(sizes, centers=[[0, 0], [7, 0], [0, 7]], random_state=0)
    X = X.astype(np.float32)
    assert adjusted_rand_score(y, partitions(graph(X), X, 3, seed=0)[0]) > 0.97


def test_empty_clusters_count_as_cut_off():
    shares = np.array([[0.4, 0.1, 0], [0.1, 0.4, 0], [0, 0, 0]])
    evenness = np.log(2) / np.log(3)
    assert cut(shares) == pytest.approx(((0.2 + 0.2 + 1) / 3 + 1e-3) / evenness**3)
    assert cut(np.diag([1.0, 0.0])) == np.inf
    assert cut(np.ones((1, 1))) == 0


def test_partitions_follow_the_seed(moons):
    X, _ = moons
    first, again, other = (partitions(graph(X), X, 6, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("n_rows", "n_clusters"), [(4, 4), (5, 1), (30, 10)])
def test_few_rows_have_partitions(n_rows, n_clusters):
    X = np.random.default_rng(0).random((n_rows, 2)).astype(np.float32)
    found = partitions(graph(X, min(10, n_rows - 1)), X, n_clusters, seed=0)
    assert ((found >= 0) & (found < n_clusters)).all()


def test_rows_that_are_all_alike_have_partitions():
    X = np.zeros((50, 3), dtype=np.float32)
    found = partitions(graph(X), X, 3, seed=0)
    assert ((found >= 0) & (found < 3)).all()
