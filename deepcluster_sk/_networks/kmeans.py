"""k-means on directions, and the choice between its centroids and those in use."""

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor

from .._runtime.threads import libraries_in_one_thread
from .neighbors import NeighborGraph


def better_centroids(vectors: Tensor, centroids: Tensor, graph: NeighborGraph) -> Tensor:
    """Return the centroids or those of k-means, whichever neighbours agree on more.

    Parameters
    ----------
    vectors : Tensor of shape (n, d), float32
        Of unit length.
    centroids : Tensor of shape (K, d), float32
        Each vector belongs to the one of the largest product.
    graph : NeighborGraph
        Neighbours among the same n rows.

    Returns
    -------
    centroids : Tensor of shape (K, d), float32
        Those of k-means are of unit length.
    """
    fresh = kmeans_centroids(vectors, len(centroids))
    own, other = ((vectors @ c.mT).argmax(dim=1) for c in (centroids, fresh))
    return fresh if graph.agreement(other) > graph.agreement(own) else centroids


def kmeans_centroids(vectors: Tensor, n_clusters: int) -> Tensor:
    """Return the centroids (n_clusters, d), of unit length, of k-means on directions."""
    labels = spherical_kmeans(vectors, n_clusters).to(vectors.device)
    members = F.one_hot(labels, n_clusters).to(vectors.dtype)
    return F.normalize(members.mT @ F.normalize(vectors, dim=1), dim=1)


def spherical_kmeans(features: Tensor, n_clusters: int) -> Tensor:
    """Cluster rows by k-means on their directions.

    Parameters
    ----------
    features : Tensor of shape (n, d), float32
    n_clusters : int

    Returns
    -------
    labels : Tensor of shape (n,), int64
        On the CPU; deterministic.
    """
    rows = F.normalize(features, dim=1).cpu().numpy()
    with libraries_in_one_thread():
        # fewer distinct rows than clusters: some stay empty, which the caller reports
        labels = KMeans(n_clusters, n_init=5, random_state=0).fit(rows).labels_
    return torch.from_numpy(labels).long()
