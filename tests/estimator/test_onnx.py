"""ONNX graphs of fitted estimators give what ``predict_proba`` gives."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, each
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from torch import nn

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk.exceptions import OnnxExportError

onnxruntime = pytest.importorskip("onnxruntime", reason="extra onnx")
if torch.__version__ < "2.8":
    pytest.skip("the extra onnx needs torch >= 2.8", allow_module_level=True)
# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# one method for each way of assigning samples to clusters
UNLIKE = {method._objective_class.assign: method for method in reversed(ESTIMATORS)}.values()
FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_equal_to_predict_proba(model, X, path, dtype="float32"):
    """Compare batches of one and of others, of samples cast to a dtype."""
    model.to_onnx(path, dtype=dtype)
    run = session(path).run
    X = X.astype(dtype)
    expected = model.predict_proba(X)
    assert (
        expected.std(axis=0).max() > 1e-3
    )  # the samples differ, so that there is something to get
    for rows in (slice(0, 1), slice(1, 3), slice(None)):
        (outputs,) = run(["predict_proba"], {"X": X[rows]})
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, expected[rows], atol=2e-5)


def images_of(shape, dtype=np.uint8):
    """48 images in three groups: a brighter part on the left, in the middle or on the right."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (48, *shape))
    for group in range(3):
        images[group::3, :, group * 4 : group * 4 + 4] += 150
    return images.astype(dtype)


@pytest.fixture(scope="module")
def model(few_images):
    """Fitted on grey images, with the encoder that images have by default."""
    return ContrastiveClustering(3, **FAST).fit(few_images)


@pytest.mark.parametrize("estimator", UNLIKE)
def test_graph_of_rows(estimator, blobs, tmp_path):
    model = estimator(3, **FAST).fit(blobs[0])
    assert_equal_to_predict_proba(model, blobs[0], tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((12, 16), "float32"),
        ((12, 16, 1), "uint8"),
        ((12, 16, 3), "uint8"),
        ((12, 16, 3), "float64"),
        ((3, 12, 16), "float32"),
    ],
    ids=str,
)
def test_graph_of_images_of_any_layout_and_dtype(shape, dtype, tmp_path):
    X = images_of(shape) if shape != (3, 12, 16) else images_of((12, 16, 3)).transpose(0, 3, 1, 2)
    small = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 8))  # the layout is what matters
    model = ContrastiveClustering(3, encoder=small, **FAST).fit(X)
    assert_equal_to_predict_proba(model, X, tmp_path / "model.onnx", dtype=dtype)


def test_graph_scales_float_images_as_fit_learned(tmp_path):
    X = images_of((12, 16), np.float64) / 7 - 3
    model = ContrastiveClustering(3, **FAST).fit(X)
    assert_equal_to_predict_proba(model, X, tmp_path / "model.onnx", dtype="float64")


def test_graph_resizes_images_as_the_encoder_does(tmp_path):
    X = images_of((28, 24))
    model = ContrastiveClustering(3, **FAST).fit(X)
    assert model.encoder_.input_size == (20, 20)
    assert_equal_to_predict_proba(model, X, tmp_path / "model.onnx", dtype="uint8")


def test_graph_takes_flattened_images_where_fit_did(few_images, tmp_path):
    X = few_images.reshape(60, -1)
    model = ContrastiveClustering(3, image_shape=(8, 8), **FAST).fit(X)
    assert_equal_to_predict_proba(model, X, tmp_path / "model.onnx", dtype="uint8")


def test_graph_keeps_the_digits_of_columns_far_from_zero(tmp_path):
    X = make_blobs(60, n_features=4, centers=3, random_state=0)[0] + 1e6
    model = ContrastiveClustering(3, **FAST).fit(X)
    assert_equal_to_predict_proba(model, X, tmp_path / "model.onnx", dtype="float64")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])  # of the training
def test_graph_of_a_frozen_encoder(precision, few_images, tmp_path):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh())
    model = ContrastiveClustering(3, encoder=encoder, freeze_encoder=True, **FAST)
    model.set_params(precision=precision).fit(few_images).set_params(precision="float32")
    assert_equal_to_predict_proba(model, few_images, tmp_path / "model.onnx", dtype="uint8")


class ByLength(nn.Module):
    """Asks for the number of samples, as many networks do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 16)

    def forward(self, x):
        return self.linear(x.view(len(x), -1)).relu()


def test_graph_of_a_loaded_module_that_asks_for_the_number_of_samples(few_images, tmp_path):
    model = ContrastiveClustering(3, encoder=ByLength, **FAST).fit(few_images)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", encoder=ByLength)
    np.testing.assert_array_equal(loaded.predict_proba(few_images), model.predict_proba(few_images))
    assert_equal_to_predict_proba(loaded, few_images, tmp_path / "model.onnx", dtype="uint8")


def test_export_says_what_it_is_and_leaves_nothing_else(model, few_images, tmp_path, capfd):
    before, states = model.predict_proba(few_images), (torch.get_rng_state(), np.random.get_state())
    assert_equal_to_predict_proba(model, few_images, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(model.predict_proba(few_images), before)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_equal(np.random.get_state(), states[1])
    assert all(not m.training for m in model.encoder_.modules())
    graph = session(tmp_path / "model.onnx")
    (taken,), (returned,) = graph.get_inputs(), graph.get_outputs()
    assert (taken.name, taken.type, taken.shape[1:]) == ("X", "tensor(float)", [8, 8])
    assert (returned.name, returned.shape[1:]) == ("predict_proba", [3])
    assert taken.shape[0] == returned.shape[0] == "batch"  # a name: any number of samples
    metadata = graph.get_modelmeta().custom_metadata_map
    assert metadata["class"] == "ContrastiveClustering"
    assert metadata["n_clusters"] == "3"
    assert metadata["deepcluster_sk"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    content = (tmp_path / "model.onnx").read_bytes()
    assert str(Path(deepcluster_sk.__file__).parent).encode() not in content


@each
def test_an_estimator_that_is_not_fitted_is_not_exported(estimator, tmp_path):
    with pytest.raises(NotFittedError):
        estimator().to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_dtype_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"dtype='int64', expected one of \['float32'"):
        model.to_onnx(tmp_path / "model.onnx", dtype="int64")


class Branching(nn.Module):
    """Decides by a value, which no graph can."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 16)

    def forward(self, x):
        x = self.linear(x.flatten(1))
        return x.relu() if x.detach().sum() > 0 else x.sin()


def test_a_module_without_a_graph_is_an_error_that_says_what_to_do(few_images, tmp_path):
    model = ContrastiveClustering(3, encoder=Branching, **FAST).fit(few_images)
    with pytest.raises(OnnxExportError, match=r"(?s)cannot be exported to ONNX: .*your own"):
        model.to_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_named(few_images, tmp_path):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    model = ContrastiveClustering(3, encoder=flat, **FAST).fit(few_images)
    with pytest.raises(FileNotFoundError):
        model.to_onnx(tmp_path / "no" / "model.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(package, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"deepcluster_sk\[onnx\]"):
        model.to_onnx(tmp_path / "model.onnx")


def test_an_old_torch_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.4.1"))
    with pytest.raises(ImportError, match=r"Exporting needs torch >= 2.8, found 2.4.1"):
        model.to_onnx(tmp_path / "model.onnx")


class ReturningFloat64(nn.Sequential):
    def forward(self, x):
        return super().forward(x).double()


def test_graph_of_an_encoder_that_returns_float64(few_images, tmp_path):
    encoder = ReturningFloat64(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16))
    model = ContrastiveClustering(3, encoder=encoder, **FAST).fit(few_images)
    assert_equal_to_predict_proba(model, few_images, tmp_path / "model.onnx")
