"""scikit-learn's own checks, on every estimator, with no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepcluster_sk import (
    ClusterContrast,
    ContrastiveClustering,
    DeepRobustClustering,
    TwinContrastClustering,
)

# the checks train on 10 to 150 rows; on so few, some clusters may stay empty
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [
        ContrastiveClustering(device="cpu", max_epochs=10),
        TwinContrastClustering(device="cpu", max_epochs=10),
        DeepRobustClustering(device="cpu", max_epochs=10),
        ClusterContrast(device="cpu", max_epochs=10),
    ]
)
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)
