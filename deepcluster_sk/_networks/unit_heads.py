"""Heads that compare unit vectors with the directions of clusters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INITIAL_STD = 0.02
_START_STEPS, _START_BATCH, _START_RATE = 100, 256, 3e-3  # of heads that imitate labels


class UnitHeads(nn.Module):
    """Several heads at once: two layers, unit length, and products with unit directions.

    Parameters
    ----------
    in_features, hidden_features, projected_features, n_clusters : int
        Widths.
    n_heads : int
        Number of heads.
    """

    only_in_training: bool = False

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        projected_features: int,
        n_clusters: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        self.first = _drawn(n_heads, in_features, hidden_features)
        self.first_bias = nn.Parameter(torch.zeros(n_heads, 1, hidden_features))
        self.second = _drawn(n_heads, hidden_features, projected_features)
        self.second_bias = nn.Parameter(torch.zeros(n_heads, 1, projected_features))
        self.directions = _drawn(n_heads, projected_features, n_clusters)
        self.lengths = nn.Parameter(torch.ones(n_heads, 1, n_clusters))

    def forward(self, x: Tensor, last_moves: Tensor | None = None) -> Tensor:
        """Map features (n, in_features) to logits (n_heads, n, n_clusters).

        With `last_moves`, the gradient of the last layer is multiplied by it.
        """
        hidden = F.gelu(torch.matmul(x, self.first) + self.first_bias)
        projected = F.normalize(torch.baddbmm(self.second_bias, hidden, self.second), dim=-1)
        directions: Tensor = F.normalize(self.directions, dim=1)
        lengths: Tensor = self.lengths
        if last_moves is not None:
            directions = torch.lerp(directions.detach(), directions, last_moves)
            lengths = torch.lerp(lengths.detach(), lengths, last_moves)
        # in this order in memory, the product rounds a row in the same way wherever it is
        return torch.bmm(projected, directions.mT.contiguous().mT) * lengths

    def imitate(self, features: Tensor, labels: Tensor, *, temperature: float) -> None:
        """Train each head on given labels, by a few steps.

        Parameters
        ----------
        features : Tensor of shape (n, in_features)
        labels : Tensor of shape (n_heads, n), int64
            Clusters in ``[0, n_clusters)``.
        temperature : float
            Divides the logits.
        """
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(self.parameters(), lr=_START_RATE)
        with torch.enable_grad():
            for _ in range(_START_STEPS):
                rows = torch.randint(len(features), (_START_BATCH,), generator=generator)
                logits = self(features[rows.to(features.device)]) / temperature
                target = labels[:, rows].to(features.device)
                loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
        self.zero_grad(set_to_none=True)

    def repeat(self, head: int) -> None:
        """Let all heads be equal to one of them; the parameters stay."""
        for parameter in self.parameters():
            parameter.copy_(parameter[head].clone().expand_as(parameter))

    def select(self, heads: Tensor) -> None:
        """Keep some of the heads."""
        for name, parameter in list(self.named_parameters()):
            kept = parameter.detach()[heads].clone()
            setattr(self, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))


def _drawn(*shape: int) -> nn.Parameter:
    """Return normally distributed weights."""
    # the authors' distribution is cut off at 100 standard deviations
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=_INITIAL_STD))
