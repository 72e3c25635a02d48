"""How typical samples are, by their place among the features of the training set."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._training.objective import take_shapes

_LEAST_SPREAD = 1e-6  # 1 - the mean resultant length: features that are all alike


class Typicality(nn.Module):
    """Log-density of the directions of features, up to a constant.

    The model is a mixture of von Mises-Fisher distributions, one for each cluster (Banerjee et al.,
    JMLR 2005), with the sizes of the clusters as weights. All of them have one concentration:
    with one each, a wide cluster would make everything around it typical.

    Parameters
    ----------
    n_clusters, feature_dim : int
    """

    directions: Tensor
    """Mean directions (n_groups, feature_dim)."""
    log_weights: Tensor
    """Logarithms of the shares of rows (n_groups,)."""
    concentration: Tensor
    """Shape (); 0 until :meth:`fit`."""

    def __init__(self, n_clusters: int, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(n_clusters, feature_dim))
        self.register_buffer("log_weights", torch.zeros(n_clusters))
        self.register_buffer("concentration", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, feature_dim) to log-densities (n,), float32."""
        cosines = F.normalize(features.float(), dim=1) @ self.directions.mT
        return (self.log_weights + self.concentration * cosines).logsumexp(dim=1)

    def fit(self, features: Tensor, labels: Tensor, n_groups: int) -> None:
        """Fit the mixture to features (n, feature_dim) with labels (n,) in [0, n_groups)."""
        units = F.normalize(features.float(), dim=1)
        sums = units.new_zeros(n_groups, units.shape[1]).index_add_(0, labels, units)
        sizes = torch.bincount(labels, minlength=n_groups)
        dim = units.shape[1]
        mean_length = float(torch.linalg.vector_norm(sums, dim=1).sum()) / len(units)
        length = min(mean_length, 1 - _LEAST_SPREAD)
        # Eq. (4.4) of the paper, for the mean over all clusters
        concentration = length * (dim - length**2) / (1 - length**2)
        self.directions = F.normalize(sums, dim=1)
        self.log_weights = (sizes / len(units)).log()
        self.concentration.fill_(concentration)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have none
        for name, buffer in self.named_buffers():
            state_dict.setdefault(f"{prefix}{name}", torch.zeros(buffer.shape))
        take_shapes(self, state_dict, prefix, "directions", "log_weights")
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)
