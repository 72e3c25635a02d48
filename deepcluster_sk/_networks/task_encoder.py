"""Linear layers that give soft labels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cluster_heads import imitation

_SURENESS = 0.5  # of the regression's logits: sure labels would hardly move


class TaskEncoder(nn.Module):
    """From the features of one space to soft labels of several tasks: weight-normalised layers.

    Parameters
    ----------
    in_features, n_heads, n_clusters : int
        Widths.
    """

    def __init__(self, in_features: int, n_heads: int, n_clusters: int) -> None:
        super().__init__()
        bound = in_features**-0.5
        weight = torch.empty(in_features, n_heads, n_clusters).uniform_(-bound, bound)
        self.directions = nn.Parameter(weight)
        self.lengths = nn.Parameter(weight.norm(dim=0))
        self.bias = nn.Parameter(torch.empty(n_heads, n_clusters).uniform_(-bound, bound))

    def forward(self, z: Tensor) -> Tensor:
        """Map features (n, in_features) to soft labels (n, n_heads, n_clusters), float32."""
        weight = F.normalize(self.directions, dim=0) * self.lengths
        # in this order in memory, the product rounds a row in the same way wherever it is
        flat = weight.flatten(1).mT.contiguous()
        logits = torch.unflatten(F.linear(z, flat), 1, self.lengths.shape) + self.bias
        return logits.float().softmax(dim=-1)

    def imitate(self, head: int, z: Tensor, labels: Tensor) -> None:
        """Set one task to a logistic regression of labels (n,) on features (n, in_features)."""
        weight, bias = imitation(z, labels, self.lengths.shape[1])
        weight, bias = weight * _SURENESS, bias * _SURENESS
        self.directions[:, head] = weight.mT.to(z.device)
        self.lengths[head] = weight.norm(dim=1).to(z.device)
        self.bias[head] = bias.to(z.device)

    def repeat(self, head: int) -> None:
        """Let all tasks be equal to one of them; the parameters stay."""
        for x in (self.directions, self.lengths, self.bias):
            x.copy_(x.select(-2, head).unsqueeze(-2).clone().expand_as(x))

    def select(self, heads: Tensor) -> None:
        """Keep some of the tasks."""
        self.directions = nn.Parameter(self.directions.detach()[:, heads].clone())
        self.lengths = nn.Parameter(self.lengths.detach()[heads].clone())
        self.bias = nn.Parameter(self.bias.detach()[heads].clone())
