"""Contrastive deep clustering behind the scikit-learn interface.

The estimators are loaded on first use, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._contrastive_clustering import ContrastiveClustering

__version__ = "0.1.0"

__all__ = ["ContrastiveClustering", "__version__"]

_MODULE_OF = {"ContrastiveClustering": "_contrastive_clustering"}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
