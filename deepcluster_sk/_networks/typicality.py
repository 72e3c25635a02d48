"""How typical samples are, by their place among those of the training set."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._training.objective import take_shapes

_LEAST_VARIANCE = 1e-8  # of vectors that are all alike


class Typicality(nn.Module):
    """Log-density of vectors.

    The model is a mixture of Gaussians with one component for each cluster, whose weights are the
    sizes, and one spherical covariance for all of them: with one each, a wide cluster would make
    everything around it typical.
    """

    means: Tensor
    """Of the components (n_groups, d); of shape (0, 0) until :meth:`fit`."""
    log_weights: Tensor
    """Logarithms of the shares of rows (n_groups,)."""
    variance: Tensor
    """Of each column, shape ()."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(0, 0))
        self.register_buffer("log_weights", torch.zeros(0))
        self.register_buffer("variance", torch.ones(()))

    @property
    def is_fitted(self) -> bool:
        """Whether anything is known."""
        return len(self.means) > 0

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors (n, d) to log-densities (n,), float32."""
        # not by a matrix product, whose rounding depends on the number of rows
        distances = torch.cdist(
            vectors.float(), self.means, compute_mode="donot_use_mm_for_euclid_dist"
        )
        exponents = self.log_weights - distances.square() / (2 * self.variance)
        constant = 0.5 * vectors.shape[1] * (2 * torch.pi * self.variance).log()
        return exponents.logsumexp(dim=1) - constant

    @staticmethod
    def moments(vectors: Tensor, labels: Tensor, n_groups: int) -> Tensor:
        """Return what a fit needs of some vectors (n, d) with labels (n,); these may be added up.

        Returns
        -------
        moments : Tensor of shape (n_groups, d + 2), float64, on the CPU
            Sums of vectors, numbers of vectors, and sums of their squared lengths.
        """
        rows = vectors.cpu().double()
        of_rows = torch.cat([rows, rows.new_ones(len(rows), 1), rows.square().sum(1, True)], dim=1)
        return F.one_hot(labels.cpu(), n_groups).double().mT @ of_rows

    def fit(self, moments: Tensor) -> None:
        """Fit the mixture by the moments of all vectors."""
        sums, sizes, squares = moments[:, :-2], moments[:, -2], moments[:, -1]
        means = sums / sizes.clamp_min(1)[:, None]
        spread = squares.sum() - (sizes * means.square().sum(dim=1)).sum()
        variance = float(spread / (sizes.sum() * sums.shape[1]))
        device = self.variance.device
        self.means = means.float().to(device)
        self.log_weights = (sizes / sizes.sum()).log().float().to(device)
        self.variance.fill_(max(variance, _LEAST_VARIANCE))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have none
        for name, empty in Typicality().named_buffers():
            state_dict.setdefault(f"{prefix}{name}", empty.cpu())
        take_shapes(self, state_dict, prefix, "means", "log_weights")
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)
