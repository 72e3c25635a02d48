"""Pictures of clusterings, in scikit-learn's convention.

Each display keeps its data in attributes, draws by ``plot(ax=...)``, and is made from a fitted
estimator or from the predictions of any other. Drawing needs matplotlib. A map of the samples for
notebooks is a page for the browser and needs nothing.
"""

from ._cluster_number import ClusterNumberDisplay
from ._embedding import EmbeddingDisplay
from ._gallery import ClusterGalleryDisplay
from ._loss_curve import LossCurveDisplay
from ._map import ClusterMap, cluster_map
from ._match import ClusterMatchDisplay
from ._sizes import ClusterSizeDisplay
from ._tree import ClusterTreeDisplay

__all__ = [
    "ClusterGalleryDisplay",
    "ClusterMap",
    "ClusterMatchDisplay",
    "ClusterNumberDisplay",
    "ClusterSizeDisplay",
    "ClusterTreeDisplay",
    "EmbeddingDisplay",
    "LossCurveDisplay",
    "cluster_map",
]
