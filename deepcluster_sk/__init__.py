"""Contrastive deep clustering behind the scikit-learn interface.

Estimators and submodules are loaded on first use, so that importing the package imports neither
torch nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .methods import METHODS

if TYPE_CHECKING:
    from . import (
        augmentations,
        callbacks,
        datasets,
        display,
        encoders,
        exceptions,
        losses,
        methods,
        metrics,
        model_selection,
    )
    from ._inspection.report import report
    from ._loading import load
    from .methods.cluster_contrast import ClusterContrast
    from .methods.contrastive_clustering import ContrastiveClustering
    from .methods.deep_robust_clustering import DeepRobustClustering
    from .methods.twin_contrast_clustering import TwinContrastClustering

__all__ = [
    "ClusterContrast",
    "ContrastiveClustering",
    "DeepRobustClustering",
    "TwinContrastClustering",
    "__version__",
    "augmentations",
    "callbacks",
    "datasets",
    "display",
    "encoders",
    "exceptions",
    "load",
    "losses",
    "methods",
    "metrics",
    "model_selection",
    "report",
]

_FUNCTIONS = {"load": "_loading", "report": "_inspection.report"}


def __getattr__(name: str) -> Any:
    if name in METHODS:
        return METHODS[name].load_class()
    if name in _FUNCTIONS:
        return getattr(import_module(f".{_FUNCTIONS[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
