"""Small modules that several objectives are made of."""

from torch import nn


def projection_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """Return ``Linear -> ReLU -> Linear``."""
    return nn.Sequential(
        nn.Linear(in_features, hidden_features),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_features, out_features),
    )
