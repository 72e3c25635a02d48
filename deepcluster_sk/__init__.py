"""Contrastive deep clustering behind the scikit-learn interface.

The estimators are loaded on first use, so that importing the package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._cluster_contrast import ClusterContrast
    from ._contrastive_clustering import ContrastiveClustering
    from ._deep_robust_clustering import DeepRobustClustering
    from ._loading import load
    from ._report import report
    from ._twin_contrast_clustering import TwinContrastClustering

__version__ = "0.1.0"

__all__ = [
    "ClusterContrast",
    "ContrastiveClustering",
    "DeepRobustClustering",
    "TwinContrastClustering",
    "__version__",
    "load",
    "report",
]

_MODULE_OF = {
    "ClusterContrast": "_cluster_contrast",
    "ContrastiveClustering": "_contrastive_clustering",
    "DeepRobustClustering": "_deep_robust_clustering",
    "TwinContrastClustering": "_twin_contrast_clustering",
    "load": "_loading",
    "report": "_report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
