"""Centroids of directions, and projections that gather around them."""

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from .._runtime.threads import libraries_in_one_thread

_GATHERED_ROWS = 10_000
_BATCH = 2_000
_STARTS = 5
_STEPS = 100  # at least: nearly all rows are then nearest to the centroid of their cluster
_LEARNING_RATE = 1e-3


def kmeans_centroids(vectors: Tensor, n_clusters: int) -> Tensor:
    """Return the centroids (n_clusters, d), of unit length, of k-means on directions."""
    return centroids_of(vectors, spherical_kmeans(vectors, n_clusters), n_clusters)


def centroids_of(vectors: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """Return the mean directions (n_clusters, d) of the clusters of some vectors (n, d)."""
    members = F.one_hot(labels.to(vectors.device), n_clusters).to(vectors.dtype)
    return F.normalize(members.mT @ F.normalize(vectors, dim=1), dim=1)


def gather_around_centroids(
    projector: nn.Module,
    features: Tensor,
    labels: Tensor,
    n_clusters: int,
    temperature: float,
) -> None:
    """Train a projector until the nearest centroid of a row is that of its cluster.

    The loss is the cross-entropy of the softmax over the products with the centroids of a batch.

    Parameters
    ----------
    projector : torch.nn.Module
        Maps features to projections, which are compared by their directions.
    features : Tensor of shape (n, d), float32
    labels : Tensor of shape (n,), int64
    n_clusters : int
    temperature : float
    """
    generator = torch.Generator().manual_seed(0)
    some = torch.randperm(len(features), generator=generator)[:_GATHERED_ROWS]
    features, labels = features[some], labels[some].to(features.device)
    optimizer = torch.optim.Adam(projector.parameters(), lr=_LEARNING_RATE)
    n_rows, n_passes = len(some), _STEPS // 2
    with torch.enable_grad():
        for _ in range(max(_STEPS, n_passes * n_rows // _BATCH)):
            drawn = torch.randperm(n_rows, generator=generator)[:_BATCH]
            rows = drawn if n_rows > _BATCH else slice(None)
            vectors = F.normalize(projector(features[rows]), dim=1)
            of_rows = labels[rows]
            logits = vectors @ centroids_of(vectors, of_rows, n_clusters).mT / temperature
            loss = F.cross_entropy(logits, of_rows)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()


def spherical_kmeans(features: Tensor, n_clusters: int, *, seed: int = 0) -> Tensor:
    """Cluster rows by k-means on their directions, the best of five starts.

    Parameters
    ----------
    features : Tensor of shape (n, d), float32
    n_clusters : int
    seed : int, default=0
        Of the starts.

    Returns
    -------
    labels : Tensor of shape (n,), int64
        On the CPU; deterministic.
    """
    rows = F.normalize(features, dim=1).cpu().numpy()
    with libraries_in_one_thread():
        # fewer distinct rows than clusters: some stay empty, which the caller reports
        model = KMeans(n_clusters, n_init=_STARTS, random_state=seed, copy_x=False)
        labels = model.fit(rows).labels_
    return torch.from_numpy(labels).long()
