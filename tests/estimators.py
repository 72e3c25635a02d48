"""All estimators, for tests of what they share.

Tests take `each` where a method's own code has a part in what is tested. Where only the class of
its objective has, one method of `each_kind` stands for the others. Where none has, as in the
reading of files, `two` methods that are unlike stand for all.
`each_in_time` is `each` for tests that take long: those of methods beyond `CORE` are slow tests.
"""

from contextlib import contextmanager

import pytest

from deepcluster_sk import (
    TEMI,
    TURTLE,
    ClusterContrast,
    ContrastiveClustering,
    DeepRobustClustering,
    TwinContrastClustering,
)
from deepcluster_sk._networks.cluster_heads import ClusterHeads, imitation
from deepcluster_sk._networks.neighbor_embedding import embedded
from deepcluster_sk._networks.partition import partitions
from deepcluster_sk.methods import METHODS

ESTIMATORS = [method.load_class() for method in METHODS.values()]
each = pytest.mark.parametrize("estimator", ESTIMATORS)
# cluster heads; centroids, a momentum encoder and a queue; unit heads; tasks
KINDS = [ContrastiveClustering, ClusterContrast, TEMI, TURTLE]
each_kind = pytest.mark.parametrize("estimator", KINDS)
CORE = [*KINDS, TwinContrastClustering, DeepRobustClustering]
OTHERS = [estimator for estimator in ESTIMATORS if estimator not in CORE]
each_in_time = pytest.mark.parametrize(
    "estimator", [*CORE, *(pytest.param(method, marks=pytest.mark.slow) for method in OTHERS)]
)
# one has heads and learns them alone; one has centroids, a momentum encoder and a queue
two = pytest.mark.parametrize("estimator", [ContrastiveClustering, ClusterContrast])


def _from_one_start(edges, rows, n_clusters, seed, *, n_starts=1, balances=(1.0,)):
    """Search partitions from one start in place of `n_starts`."""
    return partitions(edges, rows, n_clusters, seed, n_starts=1, balances=balances)


@contextmanager
def few_search_steps():
    """Let clusters be searched in few steps: a patch that can be undone."""
    networks = "deepcluster_sk._networks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{networks}.centroids._STEPS", 5)
        patch.setattr(f"{networks}.cluster_heads._START_ITERATIONS", 5)
        patch.setattr(ClusterHeads.imitate, "__defaults__", (5,))
        patch.setattr(imitation, "__defaults__", (5,))
        patch.setitem(embedded.__kwdefaults__, "n_steps", 5)
        patch.setattr(f"{networks}.neighbor_stage.partitions", _from_one_start)
        patch.setattr(f"{networks}.neighbor_stage.BALANCES", (1.0,))
        patch.setattr(f"{networks}.unit_heads._START_STEPS", 10)
        yield patch
