"""What holds on CUDA devices.

Where there is none, a device is pretended: torch's fake tensors have shapes, dtypes and a device,
and no values. They show where a step would mix devices or wait for one. Memory formats are the
same on the CPU.
"""

import pickle
import warnings
from typing import get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from estimators import ESTIMATORS, each, each_kind
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk._data.preprocessing import Layout, Preprocessor
from deepcluster_sk._estimator.networks import build_objective
from deepcluster_sk._estimator.parameters import resolved
from deepcluster_sk._runtime import device as device_module
from deepcluster_sk._runtime import distributed
from deepcluster_sk._runtime.batch_norm import global_batch_norm
from deepcluster_sk._runtime.device import move_to
from deepcluster_sk._training.epochs import Epochs
from deepcluster_sk._training.objective import Batch
from deepcluster_sk._training.self_labeling import SelfLabeling
from deepcluster_sk._training.views import vary
from deepcluster_sk.augmentations import images
from deepcluster_sk.augmentations._recipes import make_augmentation
from deepcluster_sk.encoders import build_encoder, input_size

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")

DEVICE = torch.device("cuda", 0)


def on_gpu(test):
    """Mark a test that needs a CUDA device."""
    present = torch.cuda.is_available()
    return pytest.mark.gpu(pytest.mark.skipif(not present, reason="needs a CUDA device")(test))


# ---- a step on a pretended device


class Pretended(FakeTensorMode):
    """Fake tensors; the copy of one belongs to the same mode."""

    def __deepcopy__(self, memo):
        return self


class Waiting(TorchDispatchMode):
    """Collect the operations for which a CUDA device and the host would wait for each other."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.name().removeprefix("aten::").split(".")[0]
        tensors = [x for x in (*args, result) if isinstance(x, torch.Tensor)]
        # lifting makes a tensor of Python's numbers, on the host
        moves = name.startswith("lift") or (len({x.device for x in tensors}) > 1 and "copy" in name)
        if moves or name.startswith(self.READS):
            self.found.append(name)
        return result


@pytest.fixture
def pretended(monkeypatch):
    """A mode with fake tensors on a CUDA device, where numbers are drawn without a generator."""
    try:
        with Pretended():
            torch.zeros(1, device=DEVICE).copy_(torch.ones(1, device=DEVICE))
    except RuntimeError as error:  # torch <= 2.8 without a driver
        pytest.skip(f"this torch copies no fake tensors: {str(error).splitlines()[0]}")

    def without_generator(draw):
        return lambda *size, generator=None, device=DEVICE: draw(*size, device=device)

    with torch.device("cpu"):
        torch.empty(0)  # torch lists its constructors at first use, and keeps the list
    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, without_generator(getattr(torch, name)))
    with (
        warnings.catch_warnings(),
        Pretended() as mode,
        torch.device(DEVICE),
    ):
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield mode


class Generator:
    """Stands for a generator on the device, which cannot be had."""

    device = DEVICE


GREY = (Layout((8, 8)), torch.float64, "auto")
OTHERS = {
    "colour": (Layout((16, 16, 3), "last"), torch.uint8, "auto"),
    "blurred": (Layout((4, 16, 16), "first"), torch.float32, images(blur=True)),
    "rows": (Layout((5,)), torch.float32, "auto"),
}
# all methods on images of one kind, and one of them on all others: losses see features alone
each_step = pytest.mark.parametrize(
    ("estimator", "layout", "dtype", "augmentation"),
    [
        *(pytest.param(estimator, *GREY, id=estimator.__name__) for estimator in ESTIMATORS),
        *(pytest.param(ContrastiveClustering, *case, id=kind) for kind, case in OTHERS.items()),
    ],
)


def build(model, layout, encoder, feature_dim):
    params = resolved(model, model.n_clusters, join=False)
    return build_objective(type(model), params, layout, encoder, feature_dim)


def kinds_of_views(objective):
    """Return how many views a step shows, and how many of them as they are."""
    return objective.view_rows(torch.zeros(1, 16), Generator).shape[1], objective.n_plain_views


class Wide(TorchDispatchMode):
    """Collect the operations that put numbers of 64 bits, other than integers, on the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        if any(
            isinstance(x, torch.Tensor) and x.dtype in (torch.float64, torch.complex128)
            for x in results
        ):
            self.found.append(function.name())
        return result


@each_step
def test_a_step_needs_no_float64_where_the_device_has_none(
    pretended, monkeypatch, estimator, layout, dtype, augmentation
):
    monkeypatch.setitem(device_module._LACKING, "cuda", frozenset(get_args(device_module.Feature)))
    zero = torch.zeros((), dtype=torch.float64)
    preprocess = move_to(Preprocessor(layout, zero, zero + 1), DEVICE)
    encoder = build_encoder("auto", layout.sample_shape)
    feature_dim = encoder(torch.zeros(2, *layout.sample_shape)).shape[1]
    objective = build(estimator(4), layout, encoder, feature_dim)
    augment = make_augmentation(augmentation, layout.sample_shape, input_size(encoder))
    n_views, n_plain = kinds_of_views(objective)
    stored = torch.zeros(16 * n_views, int(np.prod(layout.shape)), dtype=dtype)
    stored = move_to(stored, DEVICE)
    with Wide() as wide:
        x = preprocess(stored)
        views = vary(x, n_views, augment, augment.transform, Generator, n_plain=n_plain)
        noise = objective.sample_noise(16, Generator)
        output = objective(Batch(views, torch.zeros(16, dtype=torch.int64), noise))
        with torch.no_grad():
            objective.after_step(output.carry, 0.5)
            objective.probabilities(objective.encoder(views[0]))
    assert wide.found == []


@each_step
def test_a_step_stays_on_the_device_and_never_waits(
    pretended, estimator, layout, dtype, augmentation
):
    model = estimator(4)
    zero = torch.zeros((), dtype=torch.float64)
    preprocess = Preprocessor(layout, zero, zero + 1)
    encoder = build_encoder("auto", layout.sample_shape)
    feature_dim = encoder(torch.zeros(2, *layout.sample_shape)).shape[1]
    objective = build(model, layout, encoder, feature_dim)
    augment = make_augmentation(augmentation, layout.sample_shape, input_size(encoder))
    n_views, n_plain = kinds_of_views(objective)
    stored = torch.zeros(16 * n_views, int(np.prod(layout.shape)), dtype=dtype)
    with Waiting() as waiting:
        x = preprocess(stored)
        views = vary(x, n_views, augment, augment.transform, Generator, n_plain=n_plain)
        noise = objective.sample_noise(16, Generator)
        output = objective(Batch(views, torch.zeros(16, dtype=torch.int64), noise))
        with torch.no_grad():
            objective.after_step(output.carry, 0.5)
        losses = torch.stack([output.total.detach(), *output.terms.values()])
    assert waiting.found == []
    assert losses.device == DEVICE
    assert {p.device for p in objective.parameters()} == {DEVICE}


@each
def test_a_step_that_learns_labels_never_waits(pretended, estimator):
    layout = Layout((8, 8))
    encoder = build_encoder("auto", layout.sample_shape)
    feature_dim = encoder(torch.zeros(2, *layout.sample_shape)).shape[1]
    labelling = SelfLabeling(build(estimator(4), layout, encoder, feature_dim))
    views = (torch.zeros(16, *layout.sample_shape),)
    lesson = torch.zeros(16, dtype=torch.int64), torch.zeros(16)
    with Waiting() as waiting, Wide() as wide:
        output = labelling(Batch(views, torch.zeros(16, dtype=torch.int64), lesson))
        with torch.no_grad():
            labelling.after_step(output.carry, 0.5)
    assert waiting.found == wide.found == []
    assert output.total.device == DEVICE


@pytest.fixture
def two_ranks(monkeypatch):
    """A place in a job whose messages are not sent."""
    monkeypatch.setattr(dist, "all_gather", lambda parts, x: [part.copy_(x) for part in parts])
    monkeypatch.setattr(dist, "all_reduce", lambda x: x)
    with distributed.placed(distributed.Place(1, 2)):
        yield


@each_step
def test_a_step_of_many_stays_on_its_device_and_never_waits(
    pretended, two_ranks, estimator, layout, dtype, augmentation
):
    model = estimator(4)
    zero = torch.zeros((), dtype=torch.float64)
    preprocess = Preprocessor(layout, zero, zero + 1)
    encoder = build_encoder("auto", layout.sample_shape)
    feature_dim = encoder.eval()(torch.zeros(2, *layout.sample_shape)).shape[1]
    objective = build(model, layout, encoder.train(), feature_dim)
    augment = make_augmentation(augmentation, layout.sample_shape, input_size(encoder))
    n_views, n_plain = kinds_of_views(objective)
    n_read = n_views * (8 if augment.per_sample else 16)
    stored = torch.zeros(n_read, int(np.prod(layout.shape)), dtype=dtype)
    with Waiting() as waiting:
        views = vary(
            preprocess(stored), n_views, augment, augment.transform, Generator, n_plain=n_plain
        )
        noise = objective.sample_noise(16, Generator)
        with global_batch_norm():
            rows = torch.zeros(n_read // n_views, dtype=torch.int64)
            output = objective(Batch(views, rows, noise))
        for parameter in objective.parameters():  # there is no backward pass without a device
            parameter.grad = torch.zeros_like(parameter)
        distributed.average_gradients(objective.parameters())
        with torch.no_grad():
            objective.after_step(output.carry, 0.5)
    assert waiting.found == []
    assert [len(view) for view in views] == [8] * n_views
    assert output.total.device == DEVICE


def test_waiting_is_found(pretended):
    with Waiting() as waiting:
        ones = torch.ones(3)
        ones.new_tensor([1.0, 2.0, 3.0])
        ones + torch.ones(3, device="cpu").to(DEVICE)
    assert len(waiting.found) >= 2
    x = torch.ones(3)
    with Waiting() as waiting, pytest.raises(Exception, match=r"item|scalar"):
        x.sum().item()


# ---- memory format, on the CPU


class Net(nn.Module):
    """Two convolutions, one of them 1x1, that remember the format of their weights."""

    seen = None

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 1)
        )

    def forward(self, x):
        if self.training and Net.seen is not None:
            Net.seen.add(is_channels_last(self.layers[0].weight))
        return self.layers(x).flatten(1)


def is_channels_last(weight):
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


class Color(Net):
    def __init__(self):
        super().__init__()
        self.layers[0] = nn.Conv2d(3, 4, 3, stride=2)


@pytest.fixture
def seen(monkeypatch):
    """The formats of the weights in training."""
    monkeypatch.setattr(Net, "seen", set())
    return Net.seen


@pytest.fixture
def colors():
    return np.random.default_rng(0).integers(0, 256, size=(40, 9, 8, 3), dtype=np.uint8)


PARAMETERS = {
    "encoder": Color,
    "max_epochs": 3,
    "batch_size": 16,
    "random_state": 0,
    "device": "cpu",
}


class Viewing(Color):
    """Flattens by ``view``, which needs the usual format."""

    def forward(self, x):
        super().forward(x)
        maps = self.layers(x)
        return maps.view(len(maps), -1)


@each_kind
@pytest.mark.parametrize(("encoder", "expected"), [(Color, True), (Viewing, False)])
def test_networks_are_in_channels_last_if_they_work_in_it(
    estimator, encoder, expected, seen, colors, tmp_path
):
    model = estimator(2, **{**PARAMETERS, "encoder": encoder}).fit(colors)
    assert seen == {expected}
    assert is_channels_last(model.encoder_.layers[0].weight) == expected
    np.testing.assert_array_equal(model.predict(colors), model.labels_)
    model.save(tmp_path / "model")
    opened = load(tmp_path / "model", encoder=encoder)
    assert is_channels_last(opened.encoder_.layers[0].weight) == expected
    np.testing.assert_array_equal(opened.predict_proba(colors), model.predict_proba(colors))
    opened.partial_fit(colors)
    model.partial_fit(colors)
    assert seen == {expected}
    np.testing.assert_array_equal(opened.transform(colors), model.transform(colors))


@each_kind
def test_a_fit_in_channels_last_resumes(estimator, seen, colors, tmp_path):
    expected = estimator(2, **PARAMETERS).fit(colors)

    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            if (context.task_name, context.task_id) == ("epoch", 2):
                raise KeyboardInterrupt

    pytest.importorskip("sklearn.callback")
    parameters = {**PARAMETERS, "checkpoint": tmp_path / "run"}
    with pytest.warns(ConvergenceWarning, match="epoch 2 of 3"):
        estimator(2, **parameters).set_callbacks(Stop()).fit(colors)
    model = estimator(2, **parameters).fit(colors)
    assert seen == {True}
    assert model.history_ == expected.history_
    np.testing.assert_array_equal(model.predict_proba(colors), expected.predict_proba(colors))


# ---- on a device


@on_gpu
@each
def test_fit_opens_on_the_cpu_and_frees_its_memory(estimator, colors):
    def fitted():
        return estimator(2, max_epochs=2, device="cuda", random_state=0).fit(colors)

    fitted().predict(colors)  # libraries of the device keep memory from their first use on
    before = torch.cuda.memory_allocated()
    model = fitted()
    labels = model.predict(colors)
    assert torch.cuda.memory_allocated() == before
    assert model.device_.startswith("cuda")
    opened = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    assert np.mean(opened.predict(colors) == labels) > 0.95


@on_gpu
@each
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_epoch_never_waits_for_the_device(estimator, precision, optimizer, colors, monkeypatch):
    take_steps = Epochs._take_steps
    epochs = []

    def watched(self, plan, number):
        if number:  # libraries are loaded in the first epoch
            torch.cuda.set_sync_debug_mode("error")
        try:
            return take_steps(self, plan, number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            epochs.append(number)

    monkeypatch.setattr(Epochs, "_take_steps", watched)
    parameters = {"precision": precision, "optimizer": optimizer, "learning_rate": 1e-3}
    estimator(2, max_epochs=3, batch_size=16, device="cuda", random_state=0, **parameters).fit(
        colors
    )
    assert epochs == [0, 1, 2]


@on_gpu
@each
def test_a_compiled_fit_follows_the_eager_one(estimator, colors):
    early = {"neighbor_start": 0.9, "cluster_start": 0.0, "precision": "float32"}
    early = {name: value for name, value in early.items() if name in estimator().get_params()}
    curves = [
        estimator(2, compile=compiled, max_epochs=2, device="cuda", random_state=0, **early)
        .fit(colors)
        .loss_curve_
        for compiled in (False, True)
    ]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-2)


@on_gpu
@each
def test_half_precision_trains_in_channels_last_and_resumes(
    estimator, colors, tmp_path, monkeypatch
):
    monkeypatch.setattr(Net, "seen", set())
    parameters = {**PARAMETERS, "device": "cuda", "precision": "bfloat16"}
    model = estimator(2, checkpoint=tmp_path / "run", **parameters).fit(colors)
    assert Net.seen == {True}
    again = estimator(2, checkpoint=tmp_path / "run", **parameters).fit(colors)
    assert again.history_ == model.history_
    model.save(tmp_path / "model")
    opened = load(tmp_path / "model", encoder=Color, device="cpu")
    np.testing.assert_allclose(opened.transform(colors), model.transform(colors), atol=1e-3)


@on_gpu
def test_inference_is_exact_float32_and_restores_the_switches(colors):
    torch.set_float32_matmul_precision("high")
    try:
        model = ContrastiveClustering(2, max_epochs=1, device="cuda", random_state=0).fit(colors)
        features = model.transform(colors)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    expected = model.set_params(device="cpu").transform(colors)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
