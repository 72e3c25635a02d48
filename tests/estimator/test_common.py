"""scikit-learn's own checks, on every estimator, with no expected failure."""

import pytest
from estimators import ESTIMATORS
from sklearn.utils.estimator_checks import parametrize_with_checks

EPOCHS = 3  # in each of which another stage of the training begins

# the checks train on 10 to 150 rows; on so few, some clusters may stay empty
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([estimator(device="cpu", max_epochs=EPOCHS) for estimator in ESTIMATORS])
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)
