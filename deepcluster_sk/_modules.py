"""Small modules that several objectives are made of."""

from torch import nn


def projection_head(in_features: int, out_features: int) -> nn.Sequential:
    """Return ``Linear -> ReLU -> Linear`` with a hidden layer as wide as the input."""
    return nn.Sequential(
        nn.Linear(in_features, in_features),
        nn.ReLU(inplace=True),
        nn.Linear(in_features, out_features),
    )
