"""scikit-learn's callbacks, and ours, on our estimators."""

import gc
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from estimators import each_kind, two
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from torch import nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.callbacks import ClusterMonitor
from deepcluster_sk.exceptions import DivergenceError

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9 has no callbacks")

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")

FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def classes(digits):
    return digits[1][:60]


class Recorder:
    """Note the calls; stop after some epochs."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context):
        self.calls.append(f"end {context.task_name} {context.task_id}")
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


@two
def test_a_callback_sees_the_fit_and_its_epochs(estimator, few_images):
    recorder = Recorder()
    estimator(2, **FAST).set_callbacks(recorder).fit(few_images)
    epochs = [f"{what} epoch {number}" for number in range(3) for what in ("begin", "end")]
    assert recorder.calls == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]


@each_kind
def test_a_callback_may_end_the_training(estimator, few_images):
    model = estimator(2, **FAST).set_callbacks(Recorder(stop_after=2)).fit(few_images)
    assert model.n_iter_ == 2
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


def test_the_monitor_refuses_an_estimator_without_probabilities(few_images):
    scaling = StandardScaler().set_callbacks(ClusterMonitor())
    with pytest.raises(TypeError, match="StandardScaler has no method predict_proba"):
        scaling.fit(few_images.reshape(60, -1))


def test_a_fit_that_a_callback_ended_stays_ended(few_images, tmp_path):
    model = ContrastiveClustering(2, checkpoint=tmp_path / "run", **FAST)
    model.set_callbacks(Recorder(stop_after=2)).fit(few_images)
    again = clone(model).set_callbacks().fit(few_images)
    assert again.n_iter_ == 2
    np.testing.assert_array_equal(again.labels_, model.labels_)


def test_a_callback_hears_of_the_end_of_a_failed_fit(few_images):
    def broken(x):
        if len(x) > 4:  # not when it is tried out
            raise RuntimeError("no views today")
        return x

    recorder = Recorder()
    model = ContrastiveClustering(2, augmentation=broken, **FAST).set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="no views today"):
        model.fit(few_images)
    assert recorder.calls == ["setup", "begin fit 0", "begin epoch 0", "teardown"]
    assert not [name for name in vars(model) if "ctx" in name or "teardown" in name]
    model.set_params(augmentation="auto").fit(few_images)
    assert recorder.calls[-1] == "teardown"


@each_kind
def test_scores_of_each_epoch_are_those_of_the_fit_that_ends_there(estimator, few_images, classes):
    monitor = callback.ScoringMonitor(scoring="adjusted_rand_score")
    model = estimator(3, schedule="constant", n_neighbors=0, warmup=0.0, cluster_start=0.0, **FAST)
    model.set_callbacks(monitor).fit(few_images, classes)
    scores = {r["task_id_path"]: r["adjusted_rand_score"] for r in monitor.get_logs().data}
    assert set(scores) == {(0,), (0, 0), (0, 1), (0, 2)}
    expected = adjusted_rand_score(classes, model.labels_)
    assert scores[0,] == scores[0, 2] == pytest.approx(expected)


@each_kind
def test_monitors_do_not_change_the_training(estimator, few_images, classes):
    plain = estimator(3, **FAST).fit(few_images)
    monitor = callback.ScoringMonitor(scoring="adjusted_rand_score")
    model = estimator(3, **FAST).set_callbacks(monitor, ClusterMonitor()).fit(few_images, classes)
    assert model.history_ == plain.history_
    np.testing.assert_array_equal(model.predict_proba(few_images), plain.predict_proba(few_images))


@two
def test_the_cluster_monitor_needs_no_labels(estimator, few_images):
    monitor = ClusterMonitor()
    model = estimator(3, **FAST).set_callbacks(monitor).fit(few_images)
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows] == ["fit", "epoch", "epoch", "epoch"]
    assert rows[0]["cluster_sizes"] == rows[-1]["cluster_sizes"] == model.cluster_sizes_.tolist()
    assignments = model.predict_proba(few_images)
    assert rows[-1]["confidence"] == pytest.approx(assignments.max(axis=1).mean(), rel=1e-5)
    entropies = [-sum(p * np.log(p) for p in row if p > 0) for row in assignments]
    assert rows[-1]["assignment_entropy"] == pytest.approx(np.mean(entropies), rel=1e-4)
    for row in rows:
        assert sum(row["cluster_sizes"]) == 60
        assert row["n_empty"] == row["cluster_sizes"].count(0)


def test_the_cluster_monitor_may_end_the_training_of_those_who_derive_from_it(few_images):
    class Confident(ClusterMonitor):
        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
            super().on_fit_task_end(estimator, context, X=X, fitted_estimator=fitted_estimator)
            return fitted_estimator.predict_proba(X).max(axis=1).mean() > 0

    assert ContrastiveClustering(2, **FAST).set_callbacks(Confident()).fit(few_images).n_iter_ == 1


def test_fits_of_other_processes_are_monitored(few_images, classes):
    ours, score = ClusterMonitor(), callback.ScoringMonitor(scoring="adjusted_rand_score")
    model = ContrastiveClustering(2, **FAST).set_callbacks(ours, score)
    grid = {"learning_rate": [1e-3, 3e-3]}
    GridSearchCV(model, grid, scoring="adjusted_rand_score", cv=2, n_jobs=2).fit(
        few_images, classes
    )
    for monitor in (ours, score):
        names = [row["task_name"] for log in monitor.get_logs("all") for row in log.data]
        assert names.count("fit") == 4 + 1
        assert names.count("epoch") == 3 * (4 + 1)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_nested_progress_bars_under_a_grid_search(few_images, capfd, n_jobs):
    pytest.importorskip("rich")
    bars = callback.ProgressBar(max_propagation_depth=None)
    search = GridSearchCV(
        ContrastiveClustering(2, **FAST), {"learning_rate": [1e-3, 3e-3]}, cv=2, n_jobs=n_jobs
    )
    search.set_callbacks(bars).fit(few_images)
    shown = capfd.readouterr().out
    assert shown.count("GridSearchCV - candidate-split-evaluation | ContrastiveClust") >= 4
    assert "GridSearchCV - refit" in shown


def test_a_progress_bar_closes_after_an_error(few_images, capfd):
    pytest.importorskip("rich")
    model = ContrastiveClustering(2, **{**FAST, "learning_rate": 1e30, "max_epochs": 5})
    with pytest.raises(DivergenceError):
        model.set_callbacks(callback.ProgressBar()).fit(few_images)
    assert "RichProgressMonitor" not in {type(t).__name__ for t in threading.enumerate()}


@two
def test_an_estimator_with_callbacks_pickles_and_clones(estimator, few_images):
    monitor = ClusterMonitor()
    model = estimator(2, **FAST).set_callbacks(monitor).fit(few_images)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict(few_images), model.labels_)
    clone(model).fit(few_images)
    assert len(monitor.get_logs("all")) == 2


def test_an_unpickled_monitor_is_on_its_own(few_images):
    monitor = ClusterMonitor()
    model = ContrastiveClustering(2, **FAST).set_callbacks(monitor).fit(few_images)
    other = pickle.loads(pickle.dumps(monitor))
    model.set_callbacks(other).fit(few_images)
    assert len(monitor.get_logs("all")) == 1
    assert len(other.get_logs("all")) == 2
    assert other.get_logs("all")[0].data == monitor.get_logs().data
    with pytest.raises(ValueError, match="select='last', expected one of"):
        monitor.get_logs("last")
    with pytest.raises(
        ValueError, match=r"Nothing was logged yet\. Pass the monitor to set_callbac"
    ):
        ClusterMonitor().get_logs()


def held():
    """How many threads there are, and open descriptors where the system tells."""
    gc.collect()
    descriptors = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    return len(threading.enumerate()), len(descriptors)


def test_fits_leave_nothing_behind(few_images, tmp_path):
    np.save(tmp_path / "x.npy", few_images)
    (tmp_path / "images").mkdir()
    for i, image in enumerate(few_images[:20]):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    fast = {**FAST, "max_epochs": 1}

    def monitored():
        model = ContrastiveClustering(2, **fast).set_callbacks(ClusterMonitor()).fit(few_images)
        pickle.dumps(model)

    def streamed():
        ContrastiveClustering(2, **fast).fit(np.load(tmp_path / "x.npy", mmap_mode="r"))

    for fit in (
        lambda: ContrastiveClustering(2, **fast).fit(few_images),
        lambda: ContrastiveClustering(2, **fast).fit(tmp_path / "images"),
        streamed,
        monitored,
    ):
        fit()
        before = held()
        for _ in range(3):
            fit()
        assert held() == before


def test_ctrl_c_leaves_a_usable_estimator_and_closes_callbacks(few_images):
    class Interrupting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.steps = nn.Linear(64, 8), 0

        def forward(self, x):
            self.steps += self.training
            if self.training and self.steps == 3:
                raise KeyboardInterrupt
            return self.layer(x.flatten(1))

    recorder = Recorder()
    model = ContrastiveClustering(2, encoder=Interrupting, **FAST).set_callbacks(recorder)
    with pytest.warns(match="interrupted"):
        model.fit(few_images)
    assert model.n_iter_ == 2
    assert recorder.calls[-3:] == ["begin epoch 2", "end fit 0", "teardown"]


def test_without_callbacks_of_scikit_learn_everything_else_works(tmp_path):
    """A missing name stands for scikit-learn < 1.9, which lacks the whole module."""
    code = """
import sklearn.callback
del sklearn.callback.with_callbacks
from sklearn.datasets import make_blobs
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.callbacks import ClusterMonitor
X = make_blobs(60, n_features=4, centers=3, random_state=0)[0]
model = ContrastiveClustering(3, max_epochs=2, random_state=0, device="cpu").fit(X)
assert model.n_iter_ == 2
assert not hasattr(model, "set_callbacks")
try:
    ClusterMonitor()
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.startswith("ClusterMonitor needs the callbacks of scikit-learn >= 1.9")


class Failing(Recorder):
    """Fail at the end of the whole fit, when the estimator is fitted."""

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "fit":
            raise RuntimeError("no room for the log")


@pytest.mark.parametrize("fitted", [False, True])
def test_a_callback_that_fails_at_the_end_leaves_the_estimator_as_it_was(few_images, fitted):
    model = ContrastiveClustering(2, **FAST)
    if fitted:
        model.fit(few_images)
    model.set_callbacks(Failing())
    before = dict(vars(model))
    with pytest.raises(RuntimeError, match="no room for the log"):
        model.fit(few_images[:50])
    assert vars(model) == before


class Predicting(Recorder):
    """Predict after each epoch; warnings about names of columns are errors."""

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        fitted_estimator.predict(X)


def test_the_estimator_of_an_epoch_forgets_the_names_of_an_earlier_fit(blobs):
    X, _ = blobs
    model = ContrastiveClustering(2, **FAST).fit(pd.DataFrame(X, columns=list("abcde")))
    model.set_callbacks(Predicting()).fit(X)
    assert not hasattr(model, "feature_names_in_")
