"""The tree of clusters and where it is cut, against computations without shortcuts."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, is_valid_linkage

from deepcluster_sk._networks.cluster_tree import joined, linkage


def random_shares(n_clusters, seed):
    """Symmetric shares of edges, most of them inside of clusters."""
    rng = np.random.default_rng(seed)
    shares = rng.random((n_clusters, n_clusters)) ** 4
    shares += shares.T + np.diag(rng.random(n_clusters) * n_clusters)
    return shares / shares.sum()


def summed(shares, groups):
    """Shares between groups of clusters."""
    return np.array([[shares[np.ix_(a, b)].sum() for b in groups] for a in groups])


def mutual_information(shares):
    ends = shares.sum(axis=1)
    chance = np.outer(ends, ends)
    return sum(p * np.log(p / q) for p, q in zip(shares.flat, chance.flat, strict=True) if p > 0)


def path_of(shares):
    """Groups of clusters at each number; of all pairs, the one is joined that loses least."""
    groups = [[cluster] for cluster in range(len(shares))]
    path = [groups]
    while len(groups) > 1:
        tried = []
        for a, b in combinations(range(len(groups)), 2):
            rest = [group for number, group in enumerate(groups) if number not in (a, b)]
            tried.append([*rest, groups[a] + groups[b]])
        groups = max(tried, key=lambda g: mutual_information(summed(shares, g)))
        path.append(groups)
    return path


def as_sets(groups):
    return {frozenset(group) for group in groups}


def groups_of(numbers):
    return {frozenset(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)}


@pytest.mark.parametrize("seed", range(5))
def test_each_step_of_the_tree_loses_least_information_of_all_pairs(seed):
    shares = random_shares(6, seed)
    tree = linkage(shares)
    assert is_valid_linkage(tree)
    whole = mutual_information(shares)
    for n_left, groups in zip(range(5, 0, -1), path_of(shares)[1:], strict=True):
        step = 6 - n_left - 1
        assert tree[step, 2] == pytest.approx(whole - mutual_information(summed(shares, groups)))
        # SciPy's own cut, between the heights of two steps
        assert groups_of(fcluster(tree, n_left, "maxclust")) == as_sets(groups)


def test_heights_rise_and_sizes_count_the_clusters():
    tree = linkage(random_shares(9, 0))
    assert all(low <= high for low, high in pairwise(tree[:, 2]))
    assert tree[-1, 3] == 9


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_joined_up_to_the_best_modularity_of_the_path(seed):
    shares = random_shares(7, seed)

    def modularity(groups):
        between = summed(shares, groups)
        return np.trace(between) - 0.5 * (between.sum(axis=1) ** 2).sum()

    best = max(path_of(shares), key=modularity)
    assert groups_of(joined(shares)) == as_sets(best)


def test_clusters_without_edges_between_them_stay_apart():
    shares = np.diag([0.4, 0.3, 0.2, 0.1])
    assert joined(shares).tolist() == [0, 1, 2, 3]


def test_halves_of_one_cluster_are_joined():
    shares = np.array([[0.2, 0.1, 0.0], [0.1, 0.2, 0.0], [0.0, 0.0, 0.4]])
    numbers = joined(shares)
    assert numbers[0] == numbers[1] != numbers[2]


def test_empty_clusters_are_joined_with_others():
    shares = np.zeros((5, 5))
    shares[1, 1] = shares[3, 3] = 0.5
    numbers = joined(shares)
    assert numbers.max() == 1
    assert numbers[1] != numbers[3]


def test_one_cluster_has_a_tree_without_steps():
    assert linkage(np.ones((1, 1))).shape == (0, 4)
    assert joined(np.ones((1, 1))).tolist() == [0]
