"""scikit-learn's own checks, on every estimator, with no expected failure."""

import pytest
from estimators import ESTIMATORS
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_clustering, parametrize_with_checks

EPOCHS = 3  # in each of which another stage of the training begins
EPOCHS_TO_FIND_CLUSTERS = 10

# the checks train on 10 to 150 rows; on so few, some clusters may stay empty
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([estimator(device="cpu", max_epochs=EPOCHS) for estimator in ESTIMATORS])
def test_scikit_learn_checks_pass(estimator, check):
    if check.func is check_clustering:
        estimator = clone(estimator).set_params(max_epochs=EPOCHS_TO_FIND_CLUSTERS)
    check(estimator)
