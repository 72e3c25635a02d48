"""All estimators, for tests of what they share."""

import pytest

from deepcluster_sk import (
    ClusterContrast,
    ContrastiveClustering,
    DeepRobustClustering,
    TwinContrastClustering,
)

ESTIMATORS = [
    ContrastiveClustering,
    TwinContrastClustering,
    DeepRobustClustering,
    ClusterContrast,
]
each = pytest.mark.parametrize("estimator", ESTIMATORS)
