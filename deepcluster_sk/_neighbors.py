"""What the features of a whole data set tell: neighbours and k-means clusters."""

import warnings

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from torch import Tensor


def nearest_neighbors(features: Tensor, n_neighbors: int) -> Tensor:
    """Return the rows most similar to each row by the cosine, itself left out.

    Parameters
    ----------
    features : Tensor of shape (n, d), float32
    n_neighbors : int
        Capped at ``n - 1``.

    Returns
    -------
    neighbors : Tensor of shape (n, n_neighbors), int64
        On the CPU, nearest first.
    """
    rows = F.normalize(features, dim=1).cpu().numpy()
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(rows) - 1), algorithm="brute")
    return torch.from_numpy(search.fit(rows).kneighbors(return_distance=False))


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
    with warnings.catch_warnings():
        # fewer distinct rows than clusters: some stay empty, which the caller reports
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(n_clusters, n_init=5, random_state=0).fit(rows).labels_
    return torch.from_numpy(labels).long()
