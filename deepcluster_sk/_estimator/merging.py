"""Fitted estimators with fewer clusters, made without training."""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from . import errors


def merged(estimator: Any, groups: Iterable[Iterable[int]]) -> Any:
    """Return a fitted copy in which the clusters of each group are one."""
    check_is_fitted(estimator)
    numbers = _numbers_of_groups(groups, estimator.n_clusters_)
    return _regrouped(estimator, numbers)


def cut(estimator: Any, n_clusters: int) -> Any:
    """Return a fitted copy whose clusters are the branches of the tree at a number of them."""
    check_is_fitted(estimator)
    n_now = estimator.n_clusters_
    if isinstance(n_clusters, bool) or not isinstance(n_clusters, int | np.integer):
        raise errors.number_is_no_integer(n_clusters)
    if not 1 <= n_clusters <= n_now:
        raise errors.bad_cut(int(n_clusters), n_now)
    return _regrouped(estimator, numbers_at(estimator.linkage_, int(n_clusters)))


def numbers_at(linkage: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return a new number in [0, n_clusters) for each leaf of a tree in SciPy's format."""
    n_leaves = len(linkage) + 1
    node_of_leaf = np.arange(n_leaves)
    for step, (first, second) in enumerate(linkage[: n_leaves - n_clusters, :2]):
        node_of_leaf[np.isin(node_of_leaf, (first, second))] = n_leaves + step
    numbers: np.ndarray = np.unique(node_of_leaf, return_inverse=True)[1]
    return numbers


def _numbers_of_groups(groups: Iterable[Iterable[int]], n_clusters: int) -> np.ndarray:
    """Return a new number for each cluster; what is in no group stays as it is."""
    try:
        chosen = [list(group) for group in groups]
    except TypeError as error:
        raise errors.no_groups(groups) from error
    members = [cluster for group in chosen for cluster in group]
    if not all(_is_integer(cluster) for cluster in members):
        raise errors.no_groups(chosen)
    if not all(chosen):
        raise errors.empty_group(chosen)
    unknown = sorted({int(c) for c in members if not 0 <= c < n_clusters})
    if unknown:
        raise errors.unknown_clusters(unknown, n_clusters)
    if len(set(members)) < len(members):
        twice = sorted({int(c) for c in members if members.count(c) > 1})
        raise errors.cluster_in_two_groups(twice)
    first = np.arange(n_clusters)
    for group in chosen:
        first[group] = min(group)
    numbers: np.ndarray = np.unique(first, return_inverse=True)[1]
    return numbers


def _is_integer(cluster: Any) -> bool:
    return isinstance(cluster, int | np.integer) and not isinstance(cluster, bool)


def _regrouped(estimator: Any, numbers: np.ndarray) -> Any:
    """Return a fitted copy whose clusters are joined by number, and ordered by decreasing size."""
    sizes = np.bincount(numbers, weights=estimator.cluster_sizes_).astype(np.int64)
    order = np.argsort(-sizes, kind="stable")
    new = np.argsort(order)[numbers]
    copied = copy.deepcopy(estimator)
    copied._objective.regroup(torch.from_numpy(new))
    copied.n_clusters = copied.n_clusters_ = len(sizes)
    copied.labels_ = np.where(estimator.labels_ < 0, -1, new[estimator.labels_])
    copied.cluster_sizes_ = sizes[order]
    return copied
