"""scikit-learn's own checks, on every estimator, with no expected failure."""

import pytest
from estimators import CORE, OTHERS
from sklearn.utils.estimator_checks import parametrize_with_checks

EPOCHS = 3  # in each of which another stage of the training begins

# the checks train on 10 to 150 rows; on so few, some clusters may stay empty
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def made(methods):
    return [estimator(device="cpu", max_epochs=EPOCHS) for estimator in methods]


@parametrize_with_checks(made(CORE))
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(made(OTHERS))
def test_scikit_learn_checks_pass_for_further_methods(estimator, check):
    check(estimator)
