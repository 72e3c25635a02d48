"""Nearest neighbours among the features of a whole data set."""

import torch
import torch.nn.functional as F
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
