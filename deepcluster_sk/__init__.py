"""Contrastive deep clustering behind the scikit-learn interface.

Estimators and submodules are loaded on first use, so that importing the package imports neither
torch nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__
from .methods import METHODS

if TYPE_CHECKING:  # what type checkers cannot know of __getattr__
    from . import augmentations as augmentations
    from . import callbacks as callbacks
    from . import datasets as datasets
    from . import display as display
    from . import encoders as encoders
    from . import exceptions as exceptions
    from . import inspection as inspection
    from . import losses as losses
    from . import metrics as metrics
    from . import model_selection as model_selection
    from ._inspection.report import report as report
    from ._loading import load as load
    from .methods.cluster_contrast import ClusterContrast as ClusterContrast
    from .methods.clustering_across_views import ClusteringAcrossViews as ClusteringAcrossViews
    from .methods.consensus_clustering import ConsensusClustering as ConsensusClustering
    from .methods.contrastive_clustering import ContrastiveClustering as ContrastiveClustering
    from .methods.contrastive_embedded_clustering import (
        ContrastiveEmbeddedClustering as ContrastiveEmbeddedClustering,
    )
    from .methods.cross_instance_clustering import (
        CrossInstanceClustering as CrossInstanceClustering,
    )
    from .methods.deep_robust_clustering import DeepRobustClustering as DeepRobustClustering
    from .methods.graph_contrastive_clustering import (
        GraphContrastiveClustering as GraphContrastiveClustering,
    )
    from .methods.information_maximization_clustering import (
        InformationMaximizationClustering as InformationMaximizationClustering,
    )
    from .methods.temi import TEMI as TEMI
    from .methods.turtle import TURTLE as TURTLE
    from .methods.twin_contrast_clustering import TwinContrastClustering as TwinContrastClustering

_FUNCTIONS = {"load": "_loading", "report": "_inspection.report"}
_SUBMODULES = (
    *("augmentations", "callbacks", "datasets", "display", "encoders", "exceptions"),
    *("inspection", "losses", "methods", "metrics", "model_selection"),
)

__all__ = sorted(["__version__", *METHODS, *_FUNCTIONS])


def __getattr__(name: str) -> Any:
    if name in METHODS:
        return METHODS[name].load_class()
    if name in _FUNCTIONS:
        return getattr(import_module(f".{_FUNCTIONS[name]}", __name__), name)
    if name in _SUBMODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])
