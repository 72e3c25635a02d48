"""Small modules that several objectives are made of."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn


def projection_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """Return ``Linear -> ReLU -> Linear``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden_features),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_features, out_features),
    )


class ParallelHeads(nn.Module):
    """Several linear heads on one hidden layer: ``Linear -> ReLU``, then ``Linear`` for each.

    With one head this is :func:`projection_head`.

    Parameters
    ----------
    in_features, hidden_features, out_features : int
        Widths.
    n_heads : int
        Number of heads.
    """

    def __init__(
        self, in_features: int, hidden_features: int, out_features: int, n_heads: int
    ) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(in_features, hidden_features), nn.ReLU(inplace=True))
        self.output = nn.Linear(hidden_features, n_heads * out_features)
        self.n_heads = n_heads

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, in_features) to outputs (n_heads, n, out_features)."""
        return self.output(self.hidden(x)).view(len(x), self.n_heads, -1).transpose(0, 1)

    def imitate(self, head: int, features: Tensor, labels: Tensor) -> None:
        """Set one head to a logistic regression of given labels on the hidden layer.

        Parameters
        ----------
        head : int
        features : Tensor of shape (n, in_features)
        labels : Tensor of shape (n,), int64
            Classes in ``[0, out_features)``, at least two of them.
        """
        n_classes = self.output.out_features // self.n_heads
        hidden = self.hidden(features).cpu().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a good start is all it has to be
            model = LogisticRegression(max_iter=50).fit(hidden, labels.cpu().numpy())
        weight, bias = torch.zeros(n_classes, hidden.shape[1]), torch.full((n_classes,), -10.0)
        coef, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # one row stands for the difference of both
            coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
        weight[model.classes_] = torch.from_numpy(coef).float()
        bias[model.classes_] = torch.from_numpy(intercept).float()
        outputs = slice(head * n_classes, (head + 1) * n_classes)
        with torch.no_grad():
            self.output.weight[outputs] = weight.to(features.device)
            self.output.bias[outputs] = bias.to(features.device)

    def select(self, outputs: Tensor) -> None:
        """Keep the given outputs, numbered over all heads, as one head in this order."""
        last = self.output
        last.weight = nn.Parameter(last.weight.detach()[outputs].clone())
        last.bias = nn.Parameter(last.bias.detach()[outputs].clone())
        last.out_features, self.n_heads = len(outputs), 1
