"""Small modules that several objectives are made of."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._training.frozen import FrozenEncoder


def projection_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """Return ``Linear -> ReLU -> Linear``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden_features),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_features, out_features),
    )


class MomentumCopy(nn.Module):
    """A slowly moving average of another module, which no gradient reaches.

    Parameters are averaged; buffers, such as the statistics of batch norm, are copied: the average
    of a variance would be that of no network.

    Parameters
    ----------
    module : torch.nn.Module
        The module that is followed; the copy starts equal to it.
    only_in_training : bool, default=True
        Whether predictions do without the copy.

    References
    ----------
    He et al., "Momentum contrast for unsupervised visual representation learning", CVPR 2020,
    Eq. (2).
    """

    def __init__(self, module: nn.Module, *, only_in_training: bool = True) -> None:
        super().__init__()
        self.only_in_training = only_in_training
        # what does not move needs no second copy
        frozen = isinstance(module, FrozenEncoder)
        self.module = module if frozen else copy.deepcopy(module).requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the copy, without gradients."""
        with torch.no_grad():
            outputs: Tensor = self.module(*inputs)
        return outputs

    @torch.no_grad()
    def update(self, module: nn.Module, momentum: float) -> None:
        """Move every parameter to ``momentum * own + (1 - momentum) * module's``, in place."""
        if self.module is module:  # a frozen encoder
            return
        own: list[Tensor] = list(self.module.parameters())
        target: list[Tensor] = list(module.parameters())
        if own:
            torch._foreach_lerp_(own, target, 1 - momentum)
        for buffer, source in zip(self.module.buffers(), module.buffers(), strict=True):
            buffer.copy_(source)


class FeatureQueue(nn.Module):
    """The last vectors that were pushed, first in, first out; all state is in buffers.

    Parameters
    ----------
    size : int
        Number of vectors that are kept.
    dim : int
        Their dimension. The queue starts with random unit vectors, drawn as the
        weights of networks are.
    """

    only_in_training = True
    features: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("features", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, vectors: Tensor) -> None:
        """Overwrite the oldest vectors by those of shape (n, dim); only the last `size` count."""
        size = len(self.features)
        if not size:
            return
        start = self.cursor + max(len(vectors) - size, 0)
        vectors = vectors[-size:].to(self.features.dtype)
        slots = (start + torch.arange(len(vectors), device=vectors.device)) % size
        self.features[slots] = vectors  # index_copy_ is missing or slow on MPS
        self.cursor.copy_((start + len(vectors)) % size)


class Prototypes(nn.Module):
    """A trainable vector for each cluster.

    Parameters
    ----------
    n_clusters, dim : int
        Number and dimension of the vectors.
    normalize : bool
        Whether they have unit length.
    """

    def __init__(self, n_clusters: int, dim: int, *, normalize: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_clusters, dim))
        nn.init.xavier_uniform_(self.weight)
        self.normalize = normalize

    def forward(self) -> Tensor:
        """Return mu (n_clusters, dim), float32."""
        mu = self.weight.float()
        return F.normalize(mu, dim=1) if self.normalize else mu
