"""Confidence that is as high as clusters are stable, found without labels.

The softmax of a trained head is near one for nearly all samples, whether a third of them or nearly
all belong together: the head was trained to be sure. Temperature scaling (Guo et al., ICML 2017)
mends that where labels are at hand. Here the measure is what the data themselves say: the share of
a row's neighbours that are in its cluster, times the overlap of its cluster with those that other
partitions of the same graph put the row in. One temperature per cluster is chosen, so that the mean
confidence of its members is their mean agreement.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.special import softmax
from torch import Tensor, nn

from .._training.objective import take_shapes

_LOWEST, _HIGHEST = np.log(0.1), np.log(1000.0)  # logarithms of the common temperature
_HALVINGS = 40  # to 1e-11: coarser, the last one turns rounding of the features into a step
_ROUNDS = 3  # temperatures of clusters act on each other's members
_MEMBERS = 20.0  # smaller clusters stay near the common temperature
_FARTHEST = 2.0  # logarithm of the ratio to it, at the most
_TINY = 1e-38


class Calibration(nn.Module):
    """Temperatures of soft assignments; at first, they leave these as they are.

    With logits z, a common temperature t and those of clusters t_k, a sample gets

        softmax(z / T(z)),  log T(z) = sum_k softmax(z / t)_k log t_k.

    A sample is divided by one positive number: no label changes, but for ties by rounding. Before
    that, the assignments of clusters that were joined are summed.

    Parameters
    ----------
    n_clusters : int
    """

    common: Tensor
    of_clusters: Tensor
    group_of: Tensor
    """Numbers of the clusters, equal for those that are joined to one, int64."""

    def __init__(self, n_clusters: int) -> None:
        super().__init__()
        self.register_buffer("common", torch.zeros(()))
        self.register_buffer("of_clusters", torch.zeros(n_clusters))
        self.register_buffer("group_of", torch.arange(n_clusters))
        self.changes = False

    def forward(self, assignments: Tensor) -> Tensor:
        """Map soft assignments (n, n_clusters) to calibrated ones (n, n_groups)."""
        assignments = self.summed(assignments)
        if not self.changes:
            return assignments
        logits = assignments.clamp_min(_TINY).log()
        weights = (logits / self.common.exp()).softmax(dim=1)
        # not a matrix product, whose rounding depends on the number of rows
        temperatures = (weights * self.of_clusters).sum(dim=1, keepdim=True).exp()
        return (logits / temperatures).softmax(dim=1)

    def summed(self, assignments: Tensor) -> Tensor:
        """Map soft assignments (n, n_clusters) to those of joined clusters (n, n_groups)."""
        n_groups = len(self.of_clusters)
        if n_groups == len(self.group_of):
            return assignments
        return assignments.new_zeros(len(assignments), n_groups).scatter_reduce(
            1, self.group_of.expand_as(assignments), assignments, "sum"
        )

    def join(self, numbers: Tensor) -> None:
        """Join the clusters (n_clusters,) that have equal numbers."""
        self.group_of = numbers
        self.of_clusters = self.of_clusters.new_zeros(int(numbers.max()) + 1)

    def fit(self, assignments: Tensor, agreed: np.ndarray) -> None:
        """Choose the temperatures.

        Parameters
        ----------
        assignments : Tensor of shape (n, n_groups)
            Not calibrated.
        agreed : ndarray of shape (n,)
            What the confidence is to be in the mean, in (0, 1].
        """
        logits = np.log(np.maximum(assignments.cpu().double().numpy(), _TINY))
        labels = logits.argmax(axis=1)
        n_rows, n_clusters = logits.shape
        none, together = np.zeros(n_rows), np.zeros(n_rows, dtype=np.int64)
        common = _steps(logits, none, together, agreed, 1, (_LOWEST, _HIGHEST))[0]
        weights = softmax(logits / np.exp(common), axis=1)
        sizes = np.bincount(labels, minlength=n_clusters)
        of_clusters = np.full(n_clusters, common)
        for _ in range(_ROUNDS):
            base = weights @ of_clusters
            steps = _steps(logits, base, labels, agreed, n_clusters, (-1.0, 1.0))
            of_clusters += steps * sizes / (sizes + _MEMBERS)
            of_clusters = of_clusters.clip(common - _FARTHEST, common + _FARTHEST)
        self.common.fill_(float(common))
        self.of_clusters.copy_(torch.from_numpy(of_clusters))
        self.changes = True

    def reset(self) -> None:
        """Leave soft assignments as they are, and no clusters joined."""
        self.common.zero_()
        self.join(torch.arange(len(self.group_of), device=self.group_of.device))
        self.changes = False

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have no temperatures
        state_dict.setdefault(f"{prefix}common", torch.zeros(()))
        n_clusters = len(self.group_of)
        of_clusters = state_dict.setdefault(f"{prefix}of_clusters", torch.zeros(n_clusters))
        state_dict.setdefault(f"{prefix}group_of", torch.arange(n_clusters))
        take_shapes(self, state_dict, prefix, "of_clusters")
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)
        self.changes = bool(of_clusters.any())


def agreement(labels: np.ndarray, edges: csr_array, partitions: Sequence[np.ndarray]) -> np.ndarray:
    """Return how far rows belong to their clusters by what a graph tells.

    Parameters
    ----------
    labels : ndarray of shape (n,), int64
    edges : sparse array of shape (n, n)
        Weights of edges between neighbours; each row has some.
    partitions : sequence of ndarray of shape (n,), int64
        Other labels. Their numbers need not be those of the same clusters in `labels`.

    Returns
    -------
    agreed : ndarray of shape (n,)
        The share of a row's edges that stay in its cluster, times the mean overlap of its cluster A
        with its cluster B in a partition, ``|A and B| / sqrt(|A| |B|)``.
    """
    ends = np.repeat(np.arange(len(labels)), np.diff(edges.indptr))
    inside = edges.data * (labels[ends] == labels[edges.indices])
    near = np.bincount(ends, inside, len(labels)) / np.bincount(ends, edges.data, len(labels))
    overlap = np.zeros(len(labels))
    for other in partitions:
        shape = int(labels.max()) + 1, int(other.max()) + 1
        common = np.bincount(labels * shape[1] + other, minlength=shape[0] * shape[1])
        common = common.reshape(shape)
        sizes = common.sum(axis=1, keepdims=True) * common.sum(axis=0)
        overlap += (common / np.sqrt(np.maximum(sizes, 1)))[labels, other]
    agreed: np.ndarray = near * overlap / len(partitions)
    return agreed


def _steps(
    logits: np.ndarray,
    base: np.ndarray,
    groups: np.ndarray,
    agreed: np.ndarray,
    n_groups: int,
    within: tuple[float, float],
) -> np.ndarray:
    """Return what to add to the logarithm of the temperature of each group of rows, by bisection.

    Parameters
    ----------
    logits : ndarray of shape (n, n_clusters)
    base : ndarray of shape (n,)
        Logarithms of the temperatures.
    groups : ndarray of shape (n,), int64
    agreed : ndarray of shape (n,)
        The mean confidence of a group is to be the mean of these.
    n_groups : int
    within : (float, float)
        Smallest and largest value.
    """
    below = logits - logits.max(axis=1, keepdims=True)
    goal = np.bincount(groups, agreed, n_groups)
    low, high = (np.full(n_groups, end) for end in within)
    for _ in range(_HALVINGS):  # the confidence falls as the temperature rises
        middle = (low + high) / 2
        confidence = 1 / np.exp(below / np.exp(base + middle[groups])[:, None]).sum(axis=1)
        is_above = np.bincount(groups, confidence, n_groups) > goal
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    steps: np.ndarray = (low + high) / 2
    return steps
