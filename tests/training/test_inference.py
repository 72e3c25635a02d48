import threading

import numpy as np
import pytest
import torch
from estimators import each
from torch import nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._data.sources import ResidentSource
from deepcluster_sk._training.inference import (
    calibrate_batch_norm,
    collect,
    default_batch_size,
    map_batches,
)

ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def source():
    return ResidentSource(ROWS, torch.device("cpu"))


def limited(most, sizes):
    """Doubles its input, and runs out of memory above a number of rows."""

    def function(x):
        sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return 2 * x

    return function


def test_rows_come_back_in_their_order_whatever_the_batches():
    for batch_size, multiple in [(50, 1), (7, 1), (16, 8), (1, 4)]:
        batches = map_batches(lambda x: 2 * x, source(), batch_size=batch_size, multiple=multiple)
        np.testing.assert_array_equal(torch.cat(list(batches)), 2 * ROWS)


def test_short_batches_are_filled_up_to_the_multiple():
    sizes = []
    list(map_batches(limited(99, sizes), source(), batch_size=16, multiple=8))
    assert sizes == [16, 16, 16, 8]


def test_a_batch_that_does_not_fit_is_halved_with_one_warning():
    sizes = []
    with pytest.warns(RuntimeWarning, match="Out of memory on cpu with 32 samples") as caught:
        batches = list(map_batches(limited(10, sizes), source(), batch_size=32))
    assert len(caught) == 1
    assert sizes == [32, 16, 8, 8, 8, 8, 8, 8, 2]
    np.testing.assert_array_equal(torch.cat(batches), 2 * ROWS)


def test_one_row_that_does_not_fit_is_an_error():
    with (
        pytest.warns(RuntimeWarning, match="Out of memory"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        list(map_batches(limited(0, []), source(), batch_size=4))


def test_other_errors_pass():
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(map_batches(broken, source()))


@each
@pytest.mark.parametrize("kind", ["images", "rows"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_samples_one_by_one_get_what_they_get_together(estimator, kind, digits):
    X = digits[0][:150]
    X = X if kind == "images" else X.reshape(len(X), -1)
    model = estimator(10, max_epochs=2, random_state=0, device="cpu").fit(X)
    together = model.predict_proba(X)[:40]
    for size in (1, 7):
        parts = [model.predict_proba(X[i : i + size]) for i in range(0, 40, size)]
        apart = np.concatenate(parts)[:40]
        np.testing.assert_array_equal(apart.argmax(axis=1), together.argmax(axis=1))
        np.testing.assert_allclose(apart, together, rtol=0, atol=1e-6)
        if kind == "rows":
            np.testing.assert_array_equal(apart, together)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_predictions_survive_a_small_memory(few_images, monkeypatch):
    model = ContrastiveClustering(2, max_epochs=1, random_state=0, device="cpu").fit(few_images)
    expected = model.predict_proba(few_images)
    forward = type(model.encoder_).forward

    def scarce(self, x):
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, x)

    monkeypatch.setattr(type(model.encoder_), "forward", scarce)
    monkeypatch.setattr("deepcluster_sk._training.inference.BATCH_SIZE", 64)
    with pytest.warns(RuntimeWarning, match="Out of memory"):
        assignments = model.predict_proba(few_images)
    np.testing.assert_allclose(assignments, expected, rtol=1e-4, atol=1e-6)


def test_fewer_large_images_are_mapped_at_a_time():
    sizes = [default_batch_size(side * side * 3) for side in (8, 32, 64, 128, 224, 2000)]
    assert sizes == [1024, 1024, 1024, 320, 96, 32]


def test_collected_batches_are_one_tensor_in_their_order():
    parts = torch.arange(14.0).view(7, 2).split(3)
    assert torch.equal(collect(iter(parts), 7), torch.arange(14.0).view(7, 2))


class KeptInEvaluation(nn.Sequential):
    """A network whose batch norm keeps the statistics that it came with."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def test_batch_norm_that_stays_in_evaluation_mode_keeps_its_statistics():
    network = KeptInEvaluation(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    calibrate_batch_norm(network, [torch.randn(16, 3) + 5])
    assert not network[1].running_mean.any()
    assert network[2].running_mean.any()


class _KeepsItsInput(nn.Module):
    """Pauses between keeping its input and using it, so that another thread could come between."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, x):
        self.seen = x
        threading.Event().wait(0.01)
        return self.linear(self.seen)


def test_an_encoder_may_keep_what_it_sees():
    X = np.random.default_rng(0).normal(size=(4096, 4)).astype("float32")
    model = ContrastiveClustering(
        2, encoder=_KeepsItsInput, max_epochs=1, batch_size=32, n_neighbors=0, random_state=0
    ).fit(X[:64])
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        features = model.transform(X)
    finally:
        torch.set_num_threads(before)
    expected = [model.transform(part) for part in np.split(X, 4)]
    np.testing.assert_array_equal(features, np.concatenate(expected))


class _RefusesZeros(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, x):
        if not x.any():
            raise ValueError("nothing but zeros")
        return self.linear(x)


def test_a_network_whose_work_cannot_be_counted_predicts():
    X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model = ContrastiveClustering(
        2, encoder=_RefusesZeros, max_epochs=1, batch_size=32, n_neighbors=0
    )
    assert model.fit(X).transform(X).shape == (64, 8)
