"""Encoders that are not trained: they stay as they are, and the heads learn on their features."""

import copy
import pickle

import numpy as np
import pytest
import torch
from estimators import each_kind, two
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk._training.epochs import Epochs
from deepcluster_sk._training.frozen import features_in
from deepcluster_sk.augmentations import RandomHorizontalFlip
from deepcluster_sk.exceptions import EncoderError, ResumeError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# features computed once, and in every step
both = pytest.mark.parametrize("augmentation", ["auto", RandomHorizontalFlip()])
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu", "freeze_encoder": True}


class Pretrained(nn.Module):
    """A network with statistics, dropout and a memory of how it was called."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)
        )
        self.modes, self.n_rows = [], 0

    def forward(self, x):
        self.modes.append((self.training, torch.is_grad_enabled()))
        self.n_rows += len(x)
        return self.layers(x)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(3)
    module = Pretrained()
    module.layers[1].running_mean.fill_(0.3)  # unlike those of any batch
    return module


def features_of(encoder, images):
    with torch.no_grad():
        x = torch.from_numpy(images)[:, None].float() / 255
        return copy.deepcopy(encoder).eval()(x).numpy()


@each_kind
@both
def test_the_encoder_stays_as_it_is(estimator, augmentation, encoder, few_images):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST).fit(few_images)
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.encoder_.state_dict()[name], value), name
    assert not model.encoder_.training
    assert (True, True) not in model.encoder_.modes
    assert not any(training for training, _ in model.encoder_.modes)
    assert encoder.training, "the module that was passed in was changed"
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@two
@both
def test_the_heads_learn(estimator, augmentation, encoder, few_images):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST)
    model.set_params(max_epochs=30).fit(few_images)
    assert np.isfinite(model.loss_curve_).all()
    assert model.loss_curve_[-1] != model.loss_curve_[0]
    np.testing.assert_array_equal(model.labels_, model.predict(few_images))
    np.testing.assert_array_equal(
        model.predict(few_images), model.predict_proba(few_images).argmax(axis=1)
    )


@each_kind
@both
def test_transform_returns_the_features_of_the_encoder(
    estimator, augmentation, encoder, few_images
):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST).fit(few_images)
    expected = features_of(encoder, few_images)
    np.testing.assert_allclose(model.transform(few_images), expected, rtol=1e-5, atol=1e-6)


def test_features_are_computed_once(encoder, few_images):
    model = ContrastiveClustering(3, encoder=encoder, **FAST).fit(few_images)
    assert model.encoder_.n_rows == len(few_images)


def test_with_an_augmentation_of_images_features_are_computed_in_every_step(encoder, few_images):
    calls = []

    def flip(x):
        calls.append(x.shape)
        return x.flip(-1)

    ContrastiveClustering(3, encoder=encoder, augmentation=flip, **FAST).fit(few_images)
    assert calls == [(4, 1, 8, 8), *[(120, 1, 8, 8)] * 3]


@each_kind
def test_features_computed_once_equal_features_passed_as_rows(estimator, encoder, few_images):
    model = estimator(3, encoder=encoder, **FAST).fit(few_images)
    rows = model.transform(few_images)
    of_rows = estimator(3, encoder=nn.Identity(), **{**FAST, "freeze_encoder": False}).fit(rows)
    assert of_rows.history_ == model.history_
    np.testing.assert_array_equal(of_rows.labels_, model.labels_)


@each_kind
def test_groups_in_the_features_are_found(estimator, blobs, full_searches):
    X, y = blobs
    model = estimator(
        3, encoder=nn.Linear(5, 16), freeze_encoder=True, random_state=0, max_epochs=60
    )
    assert adjusted_rand_score(y, model.fit_predict(X)) > 0.9


@each_kind
@both
def test_copies_and_files_predict_the_same(estimator, augmentation, encoder, few_images, tmp_path):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST).fit(few_images)
    expected = model.predict_proba(few_images)
    model.save(tmp_path / "model.dcsk")
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        clone(model).fit(few_images),
        load(tmp_path / "model.dcsk", encoder=encoder),
    ):
        np.testing.assert_array_equal(other.predict_proba(few_images), expected)
        np.testing.assert_array_equal(other.transform(few_images), model.transform(few_images))


@two
def test_predicting_leaves_the_estimator_as_it_was(estimator, few_images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    model = estimator(3, encoder=net, **FAST).fit(few_images)
    before = pickle.dumps(model)
    model.predict(few_images), model.transform(few_images), model.score(few_images)
    assert pickle.dumps(model) == before


def test_a_named_encoder_has_no_weights_worth_keeping(few_images):
    with pytest.raises(EncoderError, match=r"freeze_encoder=True .* encoder='auto', .* untrained"):
        ContrastiveClustering(3, **FAST).fit(few_images)


def test_features_that_are_not_finite_are_named(few_images):
    class Dividing(nn.Module):
        def forward(self, x):
            return (x.flatten(1) - 0.5) / (x.flatten(1).amax(1, keepdim=True) != 1)

    images = np.array(few_images)
    images[images == 255] = 254
    images[7, 0, 0] = 255
    with pytest.raises(EncoderError, match=r"NaN or infinity for sample 7 \(1 of 60 samples\)"):
        ContrastiveClustering(3, encoder=Dividing(), **FAST).fit(images)


# ---- trainings that are watched, stop and go on


def same(model, other):
    """Whether two estimators have the same networks, bit for bit."""
    a, b = model._objective.state_dict(), other._objective.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_encoder_is(encoder, model, images):
    """The encoder has its weights, and predictions start from images."""
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.encoder_.state_dict()[name], value), name
    np.testing.assert_allclose(
        model.transform(images), features_of(encoder, images), rtol=1e-5, atol=1e-6
    )


@each_kind
@both
def test_a_resumed_fit_equals_the_uninterrupted_one(
    estimator, augmentation, encoder, few_images, tmp_path, monkeypatch
):
    params = {"encoder": encoder, "augmentation": augmentation, **FAST, "max_epochs": 5}
    expected = estimator(3, **params).fit(few_images)
    params["checkpoint"] = tmp_path / "run"
    run = Epochs.run

    def interrupt(self, number, *, progress):
        if number == 3:
            raise KeyboardInterrupt
        return run(self, number, progress=progress)

    monkeypatch.setattr(Epochs, "run", interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        stopped = estimator(3, **params).fit(few_images)
    assert stopped.n_iter_ == 3
    assert_encoder_is(encoder, stopped, few_images)
    np.testing.assert_array_equal(stopped.predict(few_images), stopped.labels_)
    monkeypatch.undo()
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        other.layers[0].weight.add_(0.1)
    with pytest.raises(ResumeError, match="initial weights"):
        estimator(3, **{**params, "encoder": other}).fit(few_images)
    resumed = estimator(3, **params).fit(few_images)
    assert same(resumed, expected)
    assert resumed.history_ == expected.history_
    np.testing.assert_array_equal(resumed.labels_, expected.labels_)


@each_kind
@both
def test_a_warm_start_goes_on(estimator, augmentation, encoder, few_images, tmp_path):
    model = estimator(3, encoder=encoder, augmentation=augmentation, warm_start=True, **FAST)
    model.fit(few_images[:40])
    rescale = copy.deepcopy(model._objective.encoder.rescale.state_dict())
    model.save(tmp_path / "model.dcsk")
    other = load(tmp_path / "model.dcsk", encoder=encoder).set_params(augmentation=augmentation)
    model.fit(few_images)
    assert same(model, other.fit(few_images))
    cold = clone(model).set_params(warm_start=False).fit(few_images)
    assert cold.loss_curve_ != model.loss_curve_
    assert_encoder_is(encoder, model, few_images)
    for name, value in model._objective.encoder.rescale.state_dict().items():
        assert torch.equal(value, rescale[name])
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


@each_kind
@both
def test_passes_go_on(estimator, augmentation, encoder, few_images, tmp_path):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST)
    for X in (few_images[:40], few_images[40:], few_images[:30]):
        before = copy.deepcopy(model)
        model.partial_fit(X)
        assert_encoder_is(encoder, model, X)
        np.testing.assert_array_equal(model.predict(X), model.labels_)
        assert same(model, pickle.loads(pickle.dumps(before)).partial_fit(X))
    assert model.n_iter_ == 3
    del model._online  # as if it was saved
    model.save(tmp_path / "model.dcsk")
    other = load(tmp_path / "model.dcsk", encoder=encoder).set_params(augmentation=augmentation)
    assert same(model.partial_fit(few_images), other.partial_fit(few_images))


@each_kind
def test_passes_train_on_features_computed_once(estimator, encoder, few_images):
    # features of a new network are nearly parallel: as they are, k-means magnifies how they round
    fast = {**FAST, "scale": "auto"}
    model = estimator(3, encoder=encoder, **fast).fit(few_images)
    rows = features_of(encoder, few_images)
    of_rows = estimator(3, encoder=nn.Identity(), **{**fast, "freeze_encoder": False}).fit(rows)
    before = model.encoder_.n_rows
    model.partial_fit(few_images[:40])
    assert model.encoder_.n_rows == before + 40
    of_rows.partial_fit(rows[:40])
    assert model.loss_curve_ == pytest.approx(of_rows.loss_curve_, rel=1e-4)


@each_kind
def test_an_encoder_sees_views_or_images_from_pass_to_pass(
    estimator, encoder, few_images, tmp_path
):
    model = estimator(3, encoder=encoder, **FAST).fit(few_images)
    for augmentation in (RandomHorizontalFlip(), "auto", RandomHorizontalFlip()):
        model.set_params(augmentation=augmentation).partial_fit(few_images)
        assert_encoder_is(encoder, model, few_images)
        np.testing.assert_array_equal(model.predict(few_images), model.labels_)
    model.save(tmp_path / "model.dcsk")  # leaves out the augmentation
    other = load(tmp_path / "model.dcsk", encoder=encoder).partial_fit(few_images)
    np.testing.assert_array_equal(other.predict(few_images), other.labels_)


@each_kind
@both
def test_the_weights_are_kept_once(estimator, augmentation, encoder, few_images):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST).fit(few_images)
    names = [name for name in model._objective.state_dict() if name.endswith("layers.0.weight")]
    assert names == ["encoder.network.layers.0.weight"]


@two
def test_going_on_does_not_freeze_or_thaw(estimator, encoder, few_images):
    model = estimator(3, encoder=encoder, warm_start=True, **FAST).fit(few_images)
    model.set_params(freeze_encoder=False)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"freeze_encoder=False, but .* freeze_encoder=True"):
            method(few_images)


@two
@both
def test_a_stable_assignment_ends_the_training(estimator, augmentation, encoder, few_images):
    params = {"encoder": encoder, "augmentation": augmentation, **FAST, "max_epochs": 10}
    model = estimator(3, tol=1.0, n_iter_no_change=1, **params).fit(few_images)
    assert model.n_iter_ < 10
    assert model.loss_curve_ == estimator(3, **params).fit(few_images).loss_curve_[: model.n_iter_]
    assert_encoder_is(encoder, model, few_images)
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


@two
@both
def test_monitors_see_what_a_fit_of_that_length_predicts(
    estimator, augmentation, encoder, few_images, digits
):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="adjusted_rand_score")
    params = {"encoder": encoder, "augmentation": augmentation, **FAST}
    params |= {"schedule": "constant", "n_neighbors": 0, "warmup": 0.0, "cluster_start": 0.0}
    classes = digits[1][:60]
    model = estimator(3, **params).set_callbacks(monitor).fit(few_images, classes)
    scores = {r["task_id_path"]: r["adjusted_rand_score"] for r in monitor.get_logs().data}
    assert scores[0,] == scores[0, 2] == adjusted_rand_score(classes, model.labels_)
    assert same(model, estimator(3, **params).fit(few_images))
    short = estimator(3, **params).set_params(max_epochs=1).fit(few_images)
    assert len(scores) == 4
    if augmentation == "auto":  # batch norm is measured on other views after one epoch
        assert scores[0, 0] == adjusted_rand_score(classes, short.labels_)


def half(augmentation, encoder):
    parameters = {**FAST, "precision": "bfloat16", "augmentation": augmentation}
    return ContrastiveClustering(3, encoder=encoder, **parameters)


def test_features_in_half_precision_are_near_those_of_float32(encoder, few_images):
    model = half("auto", encoder).fit(few_images)
    expected = features_of(encoder, few_images)
    features = model.transform(few_images)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=0.02, atol=0.02)
    assert not np.array_equal(features, expected)


@both
def test_in_half_precision_labels_are_what_predict_returns(
    augmentation, encoder, few_images, tmp_path
):
    model = half(augmentation, encoder).fit(few_images)
    assert np.array_equal(model.labels_, model.predict(few_images))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model", encoder=encoder)
    assert np.array_equal(again.predict_proba(few_images), model.predict_proba(few_images))


def test_in_half_precision_a_row_has_the_same_bits_alone_and_among_others(encoder, few_images):
    model = half("auto", encoder).fit(few_images)
    together = model.transform(few_images)
    for rows in (slice(7, 8), slice(30, 50), slice(None, None, -1)):
        assert np.array_equal(model.transform(few_images[rows]), together[rows])


def test_in_half_precision_a_network_sees_batches_of_one_size():
    sizes = []

    def network(x):
        sizes.append(len(x))
        return x.flatten(1)

    x = torch.rand(70, 1, 4, 4)
    assert torch.equal(features_in("bfloat16", network, x), x.flatten(1))
    assert len(sizes) > 1
    assert len(set(sizes)) == 1


def test_gradients_of_images_are_computed_in_full_precision():
    photos = np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), dtype=np.uint8)
    model = ContrastiveClustering(3, encoder="hog", **FAST, precision="bfloat16").fit(photos)
    exact = clone(model).set_params(precision="float32").fit(photos)
    assert np.array_equal(model.transform(photos), exact.transform(photos))
