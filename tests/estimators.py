"""All estimators, for tests of what they share.

Tests take `each` where a method's own code has a part in what is tested. Where only the class of
its objective has, one method of `each_kind` stands for the others. Where none has, as in the
reading of files, `two` methods that are unlike stand for all.
"""

import pytest

from deepcluster_sk import TEMI, TURTLE, ClusterContrast, ContrastiveClustering
from deepcluster_sk.methods import METHODS

ESTIMATORS = [method.load_class() for method in METHODS.values()]
each = pytest.mark.parametrize("estimator", ESTIMATORS)
# cluster heads; centroids, a momentum encoder and a queue; unit heads; tasks
KINDS = [ContrastiveClustering, ClusterContrast, TEMI, TURTLE]
each_kind = pytest.mark.parametrize("estimator", KINDS)
# one has heads and learns them alone; one has centroids, a momentum encoder and a queue
two = pytest.mark.parametrize("estimator", [ContrastiveClustering, ClusterContrast])
