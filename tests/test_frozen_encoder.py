"""Encoders that are not trained: they stay as they are, and the heads learn on their features."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk import (
    ClusterContrast,
    ContrastiveClustering,
    DeepRobustClustering,
    TwinContrastClustering,
    load,
)
from deepcluster_sk.augmentations import RandomHorizontalFlip
from deepcluster_sk.exceptions import EncoderError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

each = pytest.mark.parametrize(
    "estimator",
    [ContrastiveClustering, TwinContrastClustering, DeepRobustClustering, ClusterContrast],
)
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


@each
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


@each
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


@each
@both
def test_transform_returns_the_features_of_the_encoder(
    estimator, augmentation, encoder, few_images
):
    model = estimator(3, encoder=encoder, augmentation=augmentation, **FAST).fit(few_images)
    expected = features_of(encoder, few_images)
    np.testing.assert_allclose(model.transform(few_images), expected, rtol=1e-5, atol=1e-6)


def test_features_are_computed_once(encoder, few_images):
    model = ContrastiveClustering(3, encoder=encoder, **FAST).fit(few_images)
    probe = 2
    assert model.encoder_.n_rows == probe + len(few_images)


def test_with_an_augmentation_of_images_features_are_computed_in_every_step(encoder, few_images):
    calls = []

    def flip(x):
        calls.append(x.shape)
        return x.flip(-1)

    ContrastiveClustering(3, encoder=encoder, augmentation=flip, **FAST).fit(few_images)
    assert calls == [(120, 1, 8, 8)] * 3


@each
def test_features_computed_once_equal_features_passed_as_rows(estimator, encoder, few_images):
    model = estimator(3, encoder=encoder, **FAST).fit(few_images)
    rows = model.transform(few_images)
    of_rows = estimator(3, encoder=nn.Identity(), **{**FAST, "freeze_encoder": False}).fit(rows)
    assert of_rows.history_ == model.history_
    np.testing.assert_array_equal(of_rows.labels_, model.labels_)


@each
def test_groups_in_the_features_are_found(estimator, blobs):
    X, y = blobs
    model = estimator(
        3, encoder=nn.Linear(5, 16), freeze_encoder=True, random_state=0, max_epochs=60
    )
    assert adjusted_rand_score(y, model.fit_predict(X)) > 0.9


@each
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


@each
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
