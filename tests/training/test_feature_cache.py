"""Features of frozen encoders that are kept in a folder."""

import errno
import os

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._data.sources import ResidentSource
from deepcluster_sk._training import feature_cache
from deepcluster_sk._training.feature_cache import FeatureCache
from deepcluster_sk.exceptions import EncoderError

FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu", "freeze_encoder": True}


class Counting(nn.Module):
    """An encoder that counts the samples that it encodes, in all of its copies."""

    seen = 0

    def __init__(self, seed=0):
        super().__init__()
        self.layer = nn.Linear(64, 16, bias=False)
        generator = torch.Generator().manual_seed(seed)
        self.layer.weight.data.normal_(generator=generator)

    def forward(self, x):
        Counting.seen += len(x)
        return self.layer(x.flatten(1)).relu()


@pytest.fixture
def images():
    return np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)


@pytest.fixture
def encoded():
    """The number of samples that a call encodes, without those that try an encoder out."""

    def count(function, *args):
        before = Counting.seen
        function(*args)
        return Counting.seen - before

    return count


def model(folder, **params):
    params = {"n_clusters": 3, "encoder": Counting(), **FAST, **params}
    return ContrastiveClustering(cache=folder, **params)


def source(X):
    return ResidentSource(X.reshape(len(X), -1), torch.device("cpu"))


def test_the_second_fit_encodes_nothing(images, tmp_path, encoded):
    probe = encoded(ContrastiveClustering(3, encoder=Counting(), **FAST).fit, images) - len(images)
    assert encoded(model(tmp_path).fit, images) == probe + len(images)
    assert encoded(model(tmp_path, n_clusters=4).fit, images) == probe


def test_labels_are_those_of_a_fit_without_a_cache(images, tmp_path):
    plain = ContrastiveClustering(3, encoder=Counting(), **FAST).fit(images)
    for _ in range(2):
        cached = model(tmp_path / "new" / "folder").fit(images)
        np.testing.assert_array_equal(cached.labels_, plain.labels_)
        np.testing.assert_allclose(
            cached.predict_proba(images), plain.predict_proba(images), atol=1e-6
        )
        np.testing.assert_array_equal(cached.transform(images), plain.transform(images))
        assert cached.score(images) == pytest.approx(plain.score(images), abs=1e-6)


def test_predictions_use_and_extend_the_cache(images, tmp_path, encoded):
    fitted = model(tmp_path).fit(images[:30])
    assert encoded(fitted.predict, images[:30]) == 0
    assert encoded(fitted.predict, images) == 10
    assert encoded(fitted.transform, images[::-1]) == 0


def test_a_grid_search_encodes_each_sample_once(images, tmp_path, encoded):
    images = (255 * images).astype(np.uint8)  # whose range does not depend on the fold
    search = GridSearchCV(model(tmp_path), {"n_clusters": [2, 3]}, cv=2)
    probe = encoded(ContrastiveClustering(3, encoder=Counting(), **FAST).fit, images) - len(images)
    n_fits = 2 * 2 + 1
    assert encoded(search.fit, images) == n_fits * probe + len(images)


@pytest.mark.parametrize("other", ["weights", "range of pixels", "precision"])
def test_encoders_and_inputs_are_told_apart(images, tmp_path, encoded, other):
    fitted = model(tmp_path).fit(images)
    again = clone(fitted)
    if other == "weights":
        again.set_params(encoder=Counting(seed=1))
    elif other == "precision":
        again.set_params(precision="bfloat16")
    X = np.concatenate([images, images[:1] + 1]) if other == "range of pixels" else images
    assert encoded(again.fit, X) >= len(images)
    assert len(list(tmp_path.iterdir())) == 2


def test_equal_samples_are_encoded_once(images, tmp_path):
    calls = []

    def compute(rows):
        calls.append(rows.tolist())
        return rows[:, None].float()

    X = np.concatenate([images[:3], images[:2], images[2:5]])
    found = FeatureCache(tmp_path, "key").features(source(X), compute)
    assert calls == [[0, 1, 2, 6, 7]]
    assert found[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 6, 7]
    again = FeatureCache(tmp_path, "key").features(source(X[::-1]), compute)
    assert again[:, 0].tolist() == [7, 6, 2, 1, 0, 2, 1, 0]


def test_a_trained_encoder_leaves_the_cache_alone(images, tmp_path):
    model(tmp_path, freeze_encoder=False).fit(images).predict(images)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_computed_again_with_a_warning(images, tmp_path):
    labels = model(tmp_path).fit_predict(images)
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"cannot be read and is left out: .* delete the file"):
        again = model(tmp_path).fit_predict(images)
    np.testing.assert_array_equal(again, labels)


def test_a_full_disk_loses_nothing(images, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache, "write_file", full)
    with pytest.warns(UserWarning, match=r"cannot be kept in cache=.*No space left.* MB free"):
        labels = model(tmp_path).fit_predict(images)
    expected = ContrastiveClustering(3, encoder=Counting(), **FAST).fit_predict(images)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to every folder"
)
def test_a_folder_that_is_read_only_loses_nothing(images, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.warns(UserWarning, match="Permission denied"):
        model(tmp_path).fit(images)


def test_a_file_in_place_of_the_folder_is_refused_before_features_are_computed(images, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    before = Counting.seen
    with pytest.raises(NotADirectoryError, match=r"cache=.* is not a folder"):
        model(tmp_path / "file").fit(images)
    assert Counting.seen - before < len(images)


def test_features_that_are_not_finite_are_not_kept(images, tmp_path, monkeypatch):
    broken = Counting()
    forward = Counting.forward

    def with_nan(self, x):
        return forward(self, x) / (x.flatten(1).amin(dim=1, keepdim=True) > images.min())

    monkeypatch.setattr(Counting, "forward", with_nan)
    with pytest.raises(EncoderError, match="returned NaN or infinity for sample"):
        model(tmp_path, encoder=broken).fit(images)
    monkeypatch.setattr(Counting, "forward", forward)
    model(tmp_path).fit(images)


def test_buffers_that_are_not_saved_tell_encoders_apart(images, tmp_path):
    class Shifted(Counting):
        def __init__(self, shift):
            super().__init__()
            self.register_buffer("shift", torch.tensor(shift), persistent=False)

        def forward(self, x):
            return super().forward(x) + self.shift

    zero, one = (model(tmp_path, encoder=Shifted(s)).fit(images) for s in (0.0, 1.0))
    np.testing.assert_allclose(one.transform(images), zero.transform(images) + 1, rtol=1e-5)


def test_features_are_written_in_pieces(images, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_WRITTEN_AT_ONCE", 16)
    expected = ContrastiveClustering(3, encoder=Counting(), **FAST).fit(images)
    fitted = model(tmp_path).fit(images)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    np.testing.assert_array_equal(fitted.transform(images), expected.transform(images))


def test_progress_is_shown_while_features_are_computed(images, tmp_path, capsys):
    ContrastiveClustering(3, encoder=Counting(), **{**FAST, "verbose": 1}).fit(images)
    assert "Computing features" in capsys.readouterr().err
