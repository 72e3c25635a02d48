"""A model of which everything is the user's own comes out of each way of handing it over."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from estimators import ESTIMATORS
from torch import nn

from deepcluster_sk import load
from deepcluster_sk.augmentations import Augmentation

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class OwnEncoder(nn.Module):
    """Buffers, a parameter of its own, two branches, and the number of samples in its code."""

    def __init__(self, width=24):
        super().__init__()
        self.convolution = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.linear = nn.Linear(64, width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.share = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("shift", torch.linspace(-1, 1, width))

    def forward(self, x):
        seen = self.norm(self.convolution(x)).relu().mean(dim=(2, 3))
        read = self.batch_norm(self.linear(x.view(len(x), -1)))
        return torch.cat([self.share * seen + self.shift, read.relu()], dim=1)


class OwnAugmentation(Augmentation):
    """Darkens each image by a random factor."""

    def sample(self, shape, generator):
        return (torch.rand(shape[0], 1, 1, 1, generator=generator, device=generator.device),)

    def transform(self, x, draw):
        return x * (0.5 + draw[0] / 2)


class OwnCallback:
    """Counts the epochs."""

    def __init__(self):
        self.n_epochs = 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"


def predict_proba(model, X):
    """What a process of its own does with a model that was sent to it."""
    torch.set_num_threads(1)
    return model.predict_proba(X)


@pytest.fixture(scope="module")
def spawned():
    """A process that inherited nothing."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def with_joblib(model, X, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib").predict_proba(X)


def with_save_and_load(model, X, folder):
    model.save(folder / "model.dcsk")
    return load(folder / "model.dcsk", encoder=OwnEncoder).predict_proba(X)


def with_onnx(model, X, folder):
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra onnx")
    if torch.__version__ < "2.8":
        pytest.skip("the extra onnx needs torch >= 2.8")
    model.to_onnx(folder / "model.onnx", dtype="float64")
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"X": X.to_numpy()})[0]


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request, few_images):
    """A model, what it is fitted on, and what it says."""
    columns = [f"pixel {number}" for number in range(64)]
    X = pd.DataFrame(few_images.reshape(60, 64) / 255.0 - 0.3, columns=columns)
    model = request.param(
        3,
        encoder=OwnEncoder(),
        augmentation=OwnAugmentation(),
        image_shape=(8, 8),
        max_epochs=2,
        device=torch.device("cpu"),
        random_state=np.random.RandomState(0),
    )
    if hasattr(model, "set_callbacks"):  # scikit-learn >= 1.9
        model.set_callbacks(OwnCallback())
    model.fit(X)
    return model, X, model.predict_proba(X)


def assert_equal(found, expected):
    assert expected.std(axis=0).max() > 1e-3  # samples differ: there is something to get
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("way", [with_joblib, with_save_and_load])
def test_a_model_with_everything_custom_predicts_the_same_after(way, fitted, tmp_path):
    model, X, expected = fitted
    assert_equal(way(model, X, tmp_path), expected)


def test_a_model_with_everything_custom_predicts_the_same_in_another_process(fitted, spawned):
    model, X, expected = fitted
    assert_equal(spawned.submit(predict_proba, model, X).result(timeout=600), expected)


@pytest.mark.parametrize("fitted", ESTIMATORS[:1], indirect=True)  # test_onnx.py has all methods
def test_a_graph_of_a_model_with_everything_custom_predicts_the_same(fitted, tmp_path):
    model, X, expected = fitted
    assert_equal(with_onnx(model, X, tmp_path), expected)
