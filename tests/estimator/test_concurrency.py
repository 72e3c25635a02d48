"""Fits and predictions beside others, and beside foreign code, are what each is alone."""

import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
import numpy as np
import pytest
import torch
from drawing import Drawing
from estimators import ESTIMATORS, KINDS, each_kind
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from deepcluster_sk import ContrastiveClustering

# some clusters are empty after so few epochs; filters are of all threads, so there is one for all
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def integers():
    """A table with so many ties that the order of equally near rows decides on neighbours."""
    return np.random.default_rng(0).integers(0, 3, (150, 6)).astype(np.float32)


DATA = {
    "images": load_digits().images[:150],
    "rows": load_digits().data[:150],
    "integers": integers(),
}
# heads, centroids and neighbours all begin within these epochs
SHORT = {"max_epochs": 4, "batch_size": 50, "random_state": 0, "device": "cpu"}


def outcome(estimator, kind, **parameters):
    """Everything that a fit leaves, as bits."""
    X = DATA[kind]
    model = estimator(5, **SHORT, **parameters).fit(X)
    return (
        model.history_,
        model.labels_.tolist(),
        model.predict_proba(X).tobytes(),
        model.transform(X).tobytes(),
    )


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)
        )

    def forward(self, x):
        return self.layers(x)


def noisy(x):
    """Draw from all three global generators."""
    return x + 0.1 * torch.rand_like(x) + float(np.random.rand()) + random.random()


FOREIGN = {"encoder": WithDropout, "augmentation": noisy}


@pytest.fixture(scope="module")
def alone():
    """What each fit leaves if nothing else runs; computed when it is asked for."""

    @cache
    def look_up(estimator, kind, foreign=False):
        return outcome(estimator, kind, **(FOREIGN if foreign else {}))

    return look_up


@pytest.mark.parametrize(
    "estimators", [KINDS, pytest.param(ESTIMATORS, marks=pytest.mark.slow)], ids=["kinds", "all"]
)
def test_fits_in_threads_equal_fits_alone(estimators, alone):
    jobs = [(estimator, kind) for estimator in estimators for kind in ("images", "rows")]
    expected = [alone(*job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: outcome(*job), jobs))
    assert found == expected


@each_kind
def test_fits_of_foreign_parts_in_threads_equal_fits_alone(estimator, alone):
    expected = alone(estimator, "images", foreign=True)
    with ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(outcome, estimator, "images", **FOREIGN) for _ in range(2)]
    assert [fit.result() for fit in fits] == [expected] * 2


def test_fits_under_the_threading_backend_equal_fits_alone(alone):
    jobs = [(estimator, "rows") for estimator in KINDS]
    expected = [alone(*job) for job in jobs]
    with joblib.parallel_backend("threading", n_jobs=4):
        found = joblib.Parallel()(joblib.delayed(outcome)(*job) for job in jobs)
    assert found == expected


def test_a_grid_search_in_threads_equals_a_serial_one():
    def scores(n_jobs):
        with joblib.parallel_backend("threading"):
            search = GridSearchCV(
                ContrastiveClustering(5, **SHORT),
                {"learning_rate": [1e-3, 3e-3], "hidden_dim": [32, 64]},
                cv=2,
                n_jobs=n_jobs,
            )
            return search.fit(DATA["rows"]).cv_results_["mean_test_score"].tolist()

    assert scores(4) == scores(1)


@each_kind
def test_a_fit_beside_a_thread_that_draws_disturbs_nobody(estimator, alone):
    expected = alone(estimator, "images")
    with Drawing() as drawing:
        assert outcome(estimator, "images") == expected
    assert drawing.has_drawn_what_it_draws_alone()


@each_kind
def test_predictions_in_threads_equal_predictions_alone(estimator):
    X = DATA["images"]
    model = estimator(5, **SHORT).fit(X)
    pieces = np.array_split(X, 12)
    expected = [model.predict_proba(piece) for piece in pieces]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model.predict_proba, pieces))
    for ours, alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, alone)


@pytest.fixture
def torch_threads():
    """Set torch's number of threads; restore it at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@each_kind
@pytest.mark.parametrize("kind", DATA)
def test_the_number_of_threads_changes_no_bit(estimator, kind, alone, torch_threads):
    expected = alone(estimator, kind)
    for n_threads in {1, 2, 3} - {torch.get_num_threads()}:
        torch_threads(n_threads)
        with threadpool_limits(n_threads):  # also of BLAS, and of OpenMP in scikit-learn
            assert outcome(estimator, kind) == expected


def test_many_rows_are_predicted_in_threads_with_the_same_bits(torch_threads):
    X = np.random.default_rng(0).normal(size=(5000, 8)).astype(np.float32)
    model = ContrastiveClustering(5, **SHORT).fit(X[:150])
    outcomes = []
    for n_threads in (1, 3):
        torch_threads(n_threads)
        outcomes.append((model.predict_proba(X).tobytes(), model.score(X[:2000])))
    assert outcomes[0] == outcomes[1]


def test_switches_and_numbers_of_threads_are_restored(torch_threads):
    torch_threads(2)
    filters = list(warnings.filters)
    numbers = [pool["num_threads"] for pool in threadpool_info()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda kind: outcome(ContrastiveClustering, kind), ["images", "rows"] * 2))
    assert warnings.filters == filters
    assert torch.get_num_threads() == 2
    assert [pool["num_threads"] for pool in threadpool_info()] == numbers
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


SCRIPT = """
import sys, warnings
import numpy as np
from deepcluster_sk import ContrastiveClustering
warnings.simplefilter("ignore")
X = np.random.default_rng(0).integers(0, 3, (150, 6)).astype(np.float32)
model = ContrastiveClustering(5, max_epochs=4, batch_size=50, random_state=0, device="cpu").fit(X)
sys.stdout.write(model.predict_proba(X).tobytes().hex())
"""


def test_the_environment_changes_no_bit(monkeypatch, full_searches):
    _, _, assignments, _ = outcome(ContrastiveClustering, "integers")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == assignments
