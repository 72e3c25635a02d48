"""Pictures of clusterings, in scikit-learn's convention.

Each display keeps its data in attributes, draws by ``plot(ax=...)``, and is made from a fitted
estimator or from the predictions of any other. Drawing needs matplotlib.
"""

from ._cluster_number import ClusterNumberDisplay
from ._embedding import EmbeddingDisplay
from ._gallery import ClusterGalleryDisplay
from ._loss_curve import LossCurveDisplay
from ._match import ClusterMatchDisplay
from ._sizes import ClusterSizeDisplay
from ._tree import ClusterTreeDisplay

__all__ = [
    "ClusterGalleryDisplay",
    "ClusterMatchDisplay",
    "ClusterNumberDisplay",
    "ClusterSizeDisplay",
    "ClusterTreeDisplay",
    "EmbeddingDisplay",
    "LossCurveDisplay",
]
