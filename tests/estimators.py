"""All estimators, for tests of what they share."""

import pytest

from deepcluster_sk.methods import METHODS

ESTIMATORS = [method.load_class() for method in METHODS.values()]
each = pytest.mark.parametrize("estimator", ESTIMATORS)
