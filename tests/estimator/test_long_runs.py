"""Budgets of time, early ends, and trainings that go on."""

import pickle

import numpy as np
import pytest
import torch
from estimators import each, each_kind, two
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk import ClusterContrast, ContrastiveClustering, load
from deepcluster_sk.exceptions import DivergenceError

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")

FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}


def weights(model):
    """A copy of all tensors of the networks."""
    return {name: tensor.clone() for name, tensor in model._objective.state_dict().items()}


def same(model, other):
    """Whether two estimators have the same networks, bit for bit."""
    a, b = weights(model), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- max_time


class Clock:
    """Seconds that pass only in the encoder."""

    def __init__(self):
        self.now = 100.0

    def encoder(self, seconds):
        clock = self

        class Slow(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(64, 8)

            def forward(self, x):
                if self.training and torch.is_grad_enabled():
                    clock.now += seconds
                return self.layer(x.flatten(1))

        return Slow


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("deepcluster_sk._training.trainer.time.monotonic", lambda: clock.now)
    return clock


@two
@pytest.mark.parametrize(("max_time", "n_iter"), [(6.5, 6), (6.0, 6), (0.1, 1), (100.0, 20)])
def test_as_many_epochs_are_run_as_fit_into_the_time(
    estimator, max_time, n_iter, few_images, clock
):
    model = estimator(2, encoder=clock.encoder(1.0), max_epochs=20, max_time=max_time)
    model.fit(few_images)
    assert model.n_iter_ == len(model.loss_curve_) == n_iter
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


def test_a_generous_budget_changes_nothing(few_images):
    curves = [
        ContrastiveClustering(2, max_time=max_time, **FAST).fit(few_images).history_
        for max_time in (None, 1e6)
    ]
    assert curves[0] == curves[1]


def test_the_stages_of_the_training_come_in_time(few_images, clock):
    model = ContrastiveClustering(
        2, encoder=clock.encoder(1.0), max_epochs=1000, max_time=10.0, random_state=0
    ).fit(few_images)
    assert model.n_iter_ == 10
    assert [value > 0 for value in model.history_["cluster"]] == [False] * 3 + [True] * 7


# ---- tol


def separate_rows():
    return make_blobs(90, n_features=5, centers=3, cluster_std=0.3, random_state=0)[0]


@each_kind
def test_a_stable_assignment_ends_the_training(estimator):
    X = separate_rows()
    model = estimator(3, max_epochs=60, tol=0.0, n_iter_no_change=3, random_state=0).fit(X)
    # 60 % of the epochs come before the neighbour stage, and the first one is compared with none
    assert 36 + 4 <= model.n_iter_ < 60
    np.testing.assert_array_equal(model.predict(X), model.labels_)


def test_stability_is_not_measured_unless_asked_for(few_images, monkeypatch):
    monkeypatch.setattr("deepcluster_sk._estimator.fitting.StableAssignment", None)
    ContrastiveClustering(2, **FAST).fit(few_images)


def test_measuring_stability_does_not_change_the_training(few_images):
    plain = ContrastiveClustering(3, **{**FAST, "max_epochs": 5}).fit(few_images)
    watched = ContrastiveClustering(3, tol=0.0, n_iter_no_change=99, **{**FAST, "max_epochs": 5})
    assert same(watched.fit(few_images), plain)


def test_epochs_before_the_last_stage_do_not_count(few_images):
    parameters = {**FAST, "max_epochs": 10, "tol": 1.0, "n_iter_no_change": 2}
    model = ContrastiveClustering(2, cluster_start=0.5, n_neighbors=0, **parameters)
    assert model.fit(few_images).n_iter_ == 5 + 1 + 2
    model.set_params(n_neighbors=3, neighbor_start=0.7)
    assert model.fit(few_images).n_iter_ == 7 + 1 + 2


def test_an_early_end_is_the_same_when_resumed(few_images, tmp_path):
    parameters = {**FAST, "max_epochs": 10, "tol": 1.0, "n_iter_no_change": 3, "n_neighbors": 0}

    class Interrupting(nn.Module):
        at_step = None

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 8)
            self.steps = 0

        def forward(self, x):
            self.steps += self.training
            if self.training and self.steps == Interrupting.at_step:
                raise KeyboardInterrupt
            return self.layer(x.flatten(1))

    parameters["encoder"] = Interrupting
    whole = ContrastiveClustering(2, **parameters).fit(few_images)
    for step in (4, 5, 6, 7):
        checkpoint = tmp_path / str(step)
        Interrupting.at_step = step
        with pytest.warns(match="interrupted"):
            ContrastiveClustering(2, checkpoint=checkpoint, **parameters).fit(few_images)
        Interrupting.at_step = None
        model = ContrastiveClustering(2, checkpoint=checkpoint, **parameters).fit(few_images)
        assert model.n_iter_ == whole.n_iter_ == 3 + 1 + 3
        assert same(model, whole)


# ---- warm_start


@each_kind
def test_a_warm_start_goes_on_from_the_present_weights(estimator, few_images):
    model = estimator(3, warm_start=True, **FAST).fit(few_images)
    cold = estimator(3, **FAST).fit(few_images)
    assert same(model, cold)
    before = weights(model)
    model.set_params(max_epochs=1, learning_rate=1e-12).fit(few_images)
    assert model.n_iter_ == len(model.loss_curve_) == 1
    name, _ = next(model._objective.named_parameters())
    torch.testing.assert_close(weights(model)[name], before[name])
    assert same(
        cold.set_params(max_epochs=1).fit(few_images),
        estimator(3, **FAST).set_params(max_epochs=1).fit(few_images),
    )


@each_kind
def test_a_warm_start_is_reproducible_and_survives_saving(estimator, few_images, tmp_path):
    first = estimator(3, warm_start=True, **FAST).fit(few_images)
    first.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert same(first.fit(few_images), other.fit(few_images))
    np.testing.assert_array_equal(first.predict(few_images), first.labels_)


@each
def test_a_warm_start_takes_new_settings_of_the_loss(estimator, few_images):
    model = estimator(3, warm_start=True, **FAST).fit(few_images)
    other = pickle.loads(pickle.dumps(model)).set_params(cluster_start=0.0, n_neighbors=0)
    assert not same(model.fit(few_images), other.fit(few_images))


@each_kind
def test_a_warm_start_with_other_networks_names_the_parameter(estimator, few_images):
    model = estimator(3, warm_start=True, **FAST).fit(few_images)
    before = weights(model)
    with pytest.raises(ValueError, match=r"n_clusters=6, but the training goes on from 3"):
        model.set_params(n_clusters=6).fit(few_images)
    model.set_params(n_clusters=3)
    if hasattr(model, "hidden_dim"):
        width = model.hidden_dim
        model.set_params(hidden_dim=17)
        with pytest.raises(ValueError, match=r"(?s)warm_start=True goes on .* not fit.*size mism"):
            model.fit(few_images)
        model.set_params(hidden_dim=width)
    assert all(torch.equal(weights(model)[name], value) for name, value in before.items())
    with pytest.raises(ValueError, match="samples of shape"):
        model.fit(few_images[:, :6])


# ---- partial_fit


@each
def test_partial_fit_begins_and_goes_on(estimator, few_images):
    model = estimator(3, **FAST)
    assert model.partial_fit(few_images[:40]) is model
    assert model.n_iter_ == 1
    assert model.labels_.shape == (40,)
    model.partial_fit(few_images[40:])
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert all(len(values) == 2 for values in model.history_.values())
    np.testing.assert_array_equal(model.predict(few_images[40:]), model.labels_)
    np.testing.assert_array_equal(model.cluster_sizes_, np.bincount(model.labels_, minlength=3))


@each_kind
def test_passes_in_one_process_equal_those_after_a_pickle(estimator, few_images):
    one, two = estimator(3, **FAST), estimator(3, **FAST)
    for _ in range(3):
        one.partial_fit(few_images)
        two = pickle.loads(pickle.dumps(two)).partial_fit(few_images)
    assert same(one, two)
    assert one.history_ == two.history_


@each
def test_the_optimiser_goes_on_between_passes(estimator, few_images):
    model = estimator(3, **FAST).partial_fit(few_images)
    forgetful = pickle.loads(pickle.dumps(model))
    del forgetful._online
    assert not same(model.partial_fit(few_images), forgetful.partial_fit(few_images))


@each
def test_momentum_networks_and_queues_go_on_between_passes(estimator, few_images):
    model = estimator(3, **FAST).partial_fit(few_images)
    before = weights(model)
    model.partial_fit(few_images)
    after = weights(model)
    for name in before:
        if name.endswith(("queue.cursor", "queue.features")):
            continue
        if name.startswith("key_encoder") and name.endswith("weight"):
            assert not torch.equal(before[name], after[name])
    if "queue.cursor" in before:
        # 60 keys a pass in a ring of 256
        assert (int(before["queue.cursor"]), int(after["queue.cursor"])) == (60, 120)
        assert torch.equal(before["queue.features"][:60], after["queue.features"][:60])


@each_kind
def test_passes_find_clusters_and_do_not_renumber_them(estimator, blobs):
    X, y = blobs
    model = estimator(3, **FAST).partial_fit(X)
    for _ in range(30):
        last = model.labels_
        model.partial_fit(X)
    assert adjusted_rand_score(y, model.labels_) > 0.8
    # numbers that changed hands would leave a third of the samples alike
    assert np.mean(model.labels_ == last) > 0.8


@each_kind
def test_partial_fit_keeps_the_scaling_of_the_first_samples(estimator, few_images):
    images = few_images.astype(float)
    model = estimator(3, **FAST).partial_fit(images)
    scale = model._preprocessor.scale.clone()
    model.partial_fit(images * 3)
    assert torch.equal(model._preprocessor.scale, scale)


@each
def test_partial_fit_after_fit_goes_on_with_its_clusters(estimator, few_images):
    model = estimator(3, **FAST).fit(few_images)
    labels = model.labels_
    model.set_params(learning_rate=1e-9).partial_fit(few_images[::-1])
    assert model.n_iter_ == 4
    assert all(len(values) == 4 for values in model.history_.values())
    assert np.mean(model.labels_[::-1] == labels) > 0.8


@each_kind
def test_fit_after_partial_fit_starts_again(estimator, few_images):
    model = estimator(3, **FAST).partial_fit(few_images).fit(few_images)
    assert same(model, estimator(3, **FAST).fit(few_images))
    assert model.n_iter_ == 3
    assert model._online is None


@each_kind
def test_an_estimator_of_partial_fit_can_be_saved_and_cloned(estimator, few_images, tmp_path):
    model = estimator(3, **FAST).partial_fit(few_images).partial_fit(few_images)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert same(model, other)
    np.testing.assert_array_equal(other.predict(few_images), model.labels_)
    other.partial_fit(few_images)
    assert other.n_iter_ == 3
    assert not hasattr(clone(model), "labels_")


@each_kind
def test_partial_fit_refuses_what_it_cannot_train_on(estimator, few_images):
    model = estimator(3, **FAST)
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        model.partial_fit(few_images[:2])
    assert not hasattr(model, "labels_")
    model.partial_fit(few_images)
    before = weights(model)
    with pytest.raises(ValueError, match="n_samples=1 should be >= 2"):
        model.partial_fit(few_images[:1])
    with pytest.raises(ValueError, match="samples of shape"):
        model.partial_fit(few_images[:, :6])
    with pytest.raises(ValueError, match="n_clusters=4, but the training goes on from 3"):
        model.set_params(n_clusters=4).partial_fit(few_images)
    model.set_params(n_clusters=3)
    if estimator.__name__ != "TURTLE":  # whose layers have unit length, and soft labels as targets
        model.set_params(learning_rate=1e30)
        with pytest.raises(DivergenceError, match=r"NaN or infinite.*\(now 1e\+30\)"):
            model.partial_fit(few_images)
    assert model.n_iter_ == 1
    assert all(torch.equal(weights(model)[name], value) for name, value in before.items())


@each_kind
def test_a_few_new_samples_are_enough_for_a_pass(estimator, few_images):
    model = estimator(3, **FAST).partial_fit(few_images).partial_fit(few_images[:2])
    assert model.labels_.shape == (2,)
    assert np.isfinite(model.loss_curve_).all()


@each_kind
@pytest.mark.parametrize("smallest", range(3))
def test_partial_fit_after_a_short_fit_keeps_the_numbers_of_its_clusters(
    estimator, smallest, blobs
):
    X, y = blobs
    X = np.concatenate([X[y != smallest], X[y == smallest][:8]])
    # one epoch ends before clusters start
    model = estimator(3, **{**FAST, "max_epochs": 1}).fit(X)
    labels = model.labels_
    model.set_params(learning_rate=1e-9).partial_fit(X[::-1])
    assert np.mean(model.labels_[::-1] == labels) > 0.8


def test_kmeans_before_a_pass_does_not_renumber_clusters(blobs):
    X, _ = blobs
    model = ClusterContrast(3, centroid_update="k-means", **{**FAST, "max_epochs": 12}).fit(X)
    for rows in (slice(None, None, -1), slice(7, None), slice(None)):  # k-means starts elsewhere
        labels = model.predict(X)[rows]
        model.set_params(learning_rate=1e-9).partial_fit(X[rows])
        assert np.mean(model.labels_ == labels) > 0.8


def test_another_optimizer_starts_afresh(few_images):
    model = ContrastiveClustering(3, **FAST).partial_fit(few_images)
    model.set_params(optimizer="sgd").partial_fit(few_images)
    assert model.n_iter_ == 2


def test_passes_may_change_their_precision(few_images):
    model = ContrastiveClustering(3, **FAST).partial_fit(few_images)
    for precision in ("float16", "float32", "float16"):  # with a scaler of the loss, and without
        model.set_params(precision=precision).partial_fit(few_images)
    assert np.isfinite(model.loss_curve_).all()
