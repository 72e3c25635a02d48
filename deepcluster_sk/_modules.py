"""Small modules that several objectives are made of."""

import torch
from torch import Tensor, nn


def projection_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """Return ``Linear -> ReLU -> Linear``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden_features),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_features, out_features),
    )


class ParallelHeads(nn.Module):
    """Independent heads ``Linear -> ReLU -> Linear`` on the same features, computed together.

    Parameters
    ----------
    in_features, hidden_features, out_features : int
        Widths of one head.
    n_heads : int
        Number of heads.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int, n_heads: int
    ) -> None:
        super().__init__()
        heads = [projection_head(in_features, hidden_features, out_features) for _ in range(n_heads)]
        # one wide first layer, one batched product as the second: two kernels for all heads
        self.hidden_weight = nn.Parameter(torch.cat([head[0].weight.data for head in heads]))
        self.hidden_bias = nn.Parameter(torch.cat([head[0].bias.data for head in heads]))
        self.weight = nn.Parameter(torch.stack([head[2].weight.data.T for head in heads]))
        self.bias = nn.Parameter(torch.stack([head[2].bias.data for head in heads]))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, in_features) to outputs (n_heads, n, out_features)."""
        n_heads = len(self.weight)
        hidden = nn.functional.linear(x, self.hidden_weight, self.hidden_bias).relu()
        hidden = hidden.view(len(x), n_heads, -1).transpose(0, 1)
        return hidden @ self.weight + self.bias[:, None]

    def keep(self, head: int) -> None:
        """Drop all heads but one."""
        rows = slice(head * self.weight.shape[1], (head + 1) * self.weight.shape[1])
        self.hidden_weight = nn.Parameter(self.hidden_weight.data[rows].clone())
        self.hidden_bias = nn.Parameter(self.hidden_bias.data[rows].clone())
        self.weight = nn.Parameter(self.weight.data[head : head + 1].clone())
        self.bias = nn.Parameter(self.bias.data[head : head + 1].clone())

    def permute_outputs(self, order: Tensor) -> None:
        """Reorder the outputs of all heads: the new output k is the old output ``order[k]``."""
        with torch.no_grad():
            self.weight.copy_(self.weight[:, :, order])
            self.bias.copy_(self.bias[:, order])
