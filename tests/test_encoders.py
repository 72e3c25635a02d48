import copy
import random
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._runtime.device import _LACKING
from deepcluster_sk.encoders import (
    MLP,
    OrientedGradients,
    SmallCNN,
    _convolution,
    build_encoder,
    input_size,
    is_kept_contiguous,
    is_kept_float32,
    make_encoder,
    resnet,
)
from deepcluster_sk.exceptions import EncoderError


def scaled_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


class Returning(nn.Module):
    """A linear layer, and what a function makes of its features and of the module itself."""

    def __init__(self, change):
        super().__init__()
        self.layer = nn.Linear(9, 4)
        self.change = change

    def forward(self, x):
        return self.change(self, self.layer(x))


class InFloat64(nn.Module):
    """A module that converts its input to the type of its weights."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 4).double()

    def forward(self, x):
        return self.layer(x.double())


@pytest.mark.parametrize("sample_shape", [(7,), (1, 8, 8), (3, 5, 4)])
def test_identity_returns_the_numbers_of_a_sample_in_their_order(sample_shape):
    encoder, feature_dim = make_encoder("identity", sample_shape)
    x = torch.randn(3, *sample_shape)
    assert torch.equal(encoder(x), x.reshape(3, feature_dim))
    assert not list(encoder.parameters())


@pytest.mark.parametrize(
    ("sample_shape", "kind"),
    [((7,), "MLP"), ((1, 8, 8), "SmallCNN"), ((3, 32, 32), "SmallCNN"), ((3, 33, 20), "ResNet")],
)
def test_auto_chooses_by_the_shape_of_the_samples(sample_shape, kind):
    encoder, feature_dim = make_encoder("auto", sample_shape)
    names = {type(module).__name__ for module in encoder.modules()}
    assert kind in names
    assert encoder(torch.zeros(3, *sample_shape)).shape == (3, feature_dim)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "resnet34", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_named_encoders_take_any_number_of_channels(name, channels):
    encoder, feature_dim = make_encoder(name, (channels, 32, 32))
    with torch.no_grad():
        assert encoder.eval()(torch.rand(2, channels, 32, 32)).shape == (2, feature_dim)


@pytest.mark.parametrize("size", [(32, 32), (17, 40), (8, 9)])
@pytest.mark.parametrize("widths", [(24, 48, 96), (8, 8)])
def test_pooling_is_the_same_on_a_device_without_uneven_windows(size, widths, monkeypatch):
    network = SmallCNN(3, widths=widths, strides=(2,) * len(widths)).eval()
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = network(x)
        monkeypatch.setitem(_LACKING, "cpu", frozenset({"uneven pooling"}))
        torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("resnet34", 512), ("vgg11", 4096)])
def test_classifier_layer_is_removed(name, dim):
    encoder, feature_dim = make_encoder(name, (3, 32, 32))
    assert feature_dim == dim
    assert not any(isinstance(m, nn.Linear) and m.out_features == 1000 for m in encoder.modules())


def test_small_stem_keeps_the_resolution_that_the_large_one_reduces():
    x = torch.zeros(2, 1, 32, 32)
    sizes = {}
    for small_stem in (True, False):
        network = resnet("resnet18", 1, small_stem=small_stem)
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        sizes[small_stem] = stem(x).shape[-1]
    assert sizes == {True: 32, False: 8}


@pytest.mark.parametrize(("side", "stride"), [(96, 1), (97, 2)])
def test_resnets_get_the_small_stem_up_to_96_pixels(side, stride):
    encoder, _ = make_encoder("resnet18", (3, side, side))
    assert encoder.conv1.stride == (stride, stride)


def test_own_networks_take_widths():
    assert MLP(3, (4, 5))(torch.zeros(6, 3)).shape == (6, 5)
    cnn = SmallCNN(2, (4, 5), strides=(1, 2), grid=2)
    assert cnn(torch.zeros(6, 2, 8, 8)).shape == (6, 20)


def test_files_with_two_convolutions_for_each_of_three_are_read():
    former = SmallCNN(1, (24, 24, 48, 48, 96, 96), strides=(2, 1, 2, 1, 2, 1)).eval()
    cnn = SmallCNN(1)
    before = torch.get_rng_state()
    cnn.load_state_dict(former.state_dict(), assign=True)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 1, 20, 20)
    assert torch.equal(cnn.eval()(x), former(x))


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ((1, 4, 5, 2), (8, 8)),
        ((3, 5, 3, 2), (5, 3)),
        ((5, 4, 3, 1), (2, 2)),
        ((3, 4, 3, 1), (1, 4)),
    ],
)
def test_convolutions_of_small_maps_are_products_with_the_same_result(sizes, shape, monkeypatch):
    n_in, n_out, kernel, stride = sizes
    own = _convolution(n_in, n_out, kernel=kernel, stride=stride)[0]
    usual = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    usual.load_state_dict(own.state_dict())
    x = torch.randn(7, n_in, *shape, requires_grad=True)

    def gradients(convolution):
        result = convolution(x)
        weights = torch.linspace(-1, 2, result.numel()).view(result.shape)
        return result, *torch.autograd.grad((weights * result).sum(), (x, convolution.weight))

    expected = gradients(usual)
    assert torch.equal(own.eval()(x), expected[0])
    monkeypatch.setattr(nn.Conv2d, "forward", None)  # products are no convolutions
    torch.testing.assert_close(gradients(own.train()), expected, rtol=1e-4, atol=1e-4)


def test_only_training_steps_on_small_maps_are_products(monkeypatch):
    calls = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: calls.append(x.shape[2]) or x)
    convolution = _convolution(2, 2, kernel=3, stride=1)[0]

    def convolved(*sides):
        calls.clear()
        for side in sides:
            convolution(torch.zeros(1, 2, side, side))
        return calls

    assert convolved(3, 4, 20) == [4, 20]
    with torch.autocast("cpu", torch.bfloat16):
        assert convolved(3, 4, 5, 20) == [5, 20]
        convolution.eval()
        assert convolved(3) == [3]
    assert convolved(3) == [3]


def test_products_of_small_maps_are_those_of_half_precision():
    convolution = _convolution(3, 4, kernel=3, stride=2)[0]
    x = torch.randn(2, 3, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        result = convolution(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), convolution.eval()(x), rtol=0.05, atol=0.05)


def test_cnn_resizes_to_its_input_size():
    cnn = SmallCNN(1, input_size=(20, 20)).eval()
    x = torch.rand(2, 1, 28, 28)
    resized = nn.functional.interpolate(x, size=(20, 20), mode="bilinear")
    assert torch.equal(cnn(x), cnn(resized))
    assert input_size(cnn) == (20, 20)
    assert input_size(nn.Identity()) is None


@pytest.mark.parametrize(
    ("sample_shape", "size"), [((1, 28, 28), (20, 20)), ((3, 32, 32), None), ((1, 8, 8), None)]
)
def test_only_larger_grey_images_are_resized(sample_shape, size):
    encoder, _ = make_encoder("cnn", sample_shape)
    assert input_size(encoder) == size


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_cnn_accepts_tiny_images(side):
    encoder, feature_dim = make_encoder("cnn", (1, side, side))
    assert encoder(torch.rand(2, 1, side, side)).shape == (2, feature_dim)


def test_module_is_copied():
    module = scaled_net()
    encoder, feature_dim = make_encoder(module, (1, 8, 8))
    assert feature_dim == 5
    assert encoder is not module
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in module.parameters()}
    torch.testing.assert_close(encoder[1].weight, module[1].weight)


def test_callable_is_called():
    encoder, feature_dim = make_encoder(scaled_net, (1, 8, 8))
    assert isinstance(encoder, nn.Sequential)
    assert feature_dim == 5


def test_probing_does_not_change_batch_norm_statistics():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    encoder, _ = make_encoder(module, (1, 2, 2))
    assert encoder.training
    assert encoder[1].num_batches_tracked == 0


@pytest.mark.parametrize("name", ["cnn", "resnet18", "mobilenet_v3_small"])
def test_probing_of_a_named_encoder_leaves_no_trace(name):
    encoder, _ = make_encoder(name, (3, 32, 32))
    assert all(module.training for module in encoder.modules())
    tracked = [x for key, x in encoder.named_buffers() if key.endswith("num_batches_tracked")]
    assert tracked
    assert not any(tracked)


def only_in_training(change):
    """Change the features in training mode alone."""
    return lambda module, features: change(features) if module.training else features


def batch_dependent_lstm():
    lstm = nn.LSTM(9, 4)  # reads a matrix as one sequence
    return Returning(lambda module, features: lstm(nn.functional.pad(features, (0, 5)))[0])


@pytest.mark.parametrize("weights", [True, False])
def test_what_a_callable_returns_is_copied(weights):
    module = scaled_net()
    encoder = build_encoder(lambda: module, (1, 8, 8), weights=weights)
    assert encoder is not module
    assert not {id(p) for p in encoder.parameters()} & {id(p) for p in module.parameters()}
    torch.testing.assert_close(encoder[1].weight, module[1].weight)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_modules_made_without_gradients_are_trained(mode):
    def make():
        with mode():
            return nn.Sequential(nn.Linear(9, 4), nn.BatchNorm1d(4))

    for spec in (make, make()):
        encoder, _ = make_encoder(spec, (9,))
        encoder(torch.rand(3, 9)).sum().backward()
        assert encoder[0].weight.grad is not None
        assert encoder[1].num_batches_tracked == 1


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(9, 4)
        self.lock = threading.Lock()


class Caching(nn.Linear):
    def __init__(self):
        super().__init__(9, 4)
        self.doubled = 2 * self.weight


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            Locked,
            r"encoder Locked cannot be copied: cannot pickle .*lock.*\. Every fit trains a copy",
        ),
        (Caching, "encoder Caching cannot be copied: .* use torch.nn.utils.parametrizations"),
        (lambda: nn.utils.weight_norm(nn.Linear(9, 4)), "encoder Linear cannot be copied: "),
        (
            lambda: torch.jit.trace(nn.Linear(9, 4), torch.rand(2, 9)),
            "cannot be trained as a copy: .* Pass the torch.nn.Module that it was scripted",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.(jit|nn.utils.weight_norm)")
@pytest.mark.parametrize("call", [True, False])
def test_modules_that_cannot_be_copied_are_refused(make, message, call):
    with pytest.raises(EncoderError, match=message):
        make_encoder(make if call else make(), (9,))


def test_weight_norm_as_a_parametrization_is_copied():
    module = nn.utils.parametrizations.weight_norm(nn.Linear(9, 4))
    encoder, _ = make_encoder(module, (9,))
    x = torch.rand(2, 9)
    assert torch.equal(encoder(x), module(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_features_of_another_floating_dtype_become_float32(dtype):
    encoder, _ = make_encoder(Returning(lambda module, features: features.to(dtype)), (9,))
    assert is_kept_float32(encoder)
    for module in (encoder, copy.deepcopy(encoder)):
        for training in (True, False):
            assert module.train(training)(torch.rand(2, 9)).dtype == torch.float32


def test_features_that_are_no_float32_in_training_mode_alone_become_float32():
    encoder, _ = make_encoder(Returning(only_in_training(Tensor.double)), (9,))
    assert encoder(torch.rand(2, 9)).dtype == torch.float32


def test_float32_features_need_no_conversion():
    assert not is_kept_float32(make_encoder(nn.Linear(9, 4), (9,))[0])


def test_lazy_layers_get_their_weights_from_the_callers_random_state():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        encoder, feature_dim = make_encoder(nn.LazyLinear(4), (9,))
        assert feature_dim == 4
        weights.append(encoder.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Drawing(nn.Module):
    """A module that draws from all global generators in training mode."""

    def forward(self, x):
        if self.training:
            x = nn.functional.dropout(x) * random.random() * np.random.random_sample()
        return x


@pytest.mark.parametrize(
    "spec",
    [
        nn.Sequential(nn.BatchNorm1d(9), Drawing()),
        nn.utils.parametrizations.spectral_norm(nn.Linear(9, 4)),
    ],
)
def test_probing_changes_neither_buffers_nor_random_states(spec):
    torch.manual_seed(0)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
    encoder, _ = make_encoder(spec, (9,))
    for name, value in spec.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[2]) == states[1:]
    assert encoder.training


class Flat(nn.Module):
    """Flattens by ``view``, which images with their channels last do not allow."""

    def __init__(self, in_training):
        super().__init__()
        self.in_training = in_training

    def forward(self, x):
        return x.view(len(x), -1) if self.training == self.in_training else x.flatten(1)


@pytest.mark.parametrize("in_training", [True, False])
def test_views_in_one_of_the_modes_keep_a_module_contiguous(in_training):
    encoder, _ = make_encoder(Flat(in_training), (3, 4, 4))
    assert is_kept_contiguous(encoder)
    x = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    assert encoder.train(in_training)(x).shape == (2, 48)


@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v3", "quantized_googlenet", "quantized_inception_v3"]
)
def test_classifiers_with_auxiliary_outputs_return_features_in_training(name):
    encoder, feature_dim = make_encoder(name, (1, 75, 75))
    assert encoder.train()(torch.rand(2, 1, 75, 75)).shape == (2, feature_dim)


def test_frozen_encoders_need_no_training_mode():
    module = Returning(only_in_training(lambda features: (features, features)))
    assert make_encoder(module, (9,), frozen=True)[1] == 4
    with pytest.raises(
        EncoderError, match=r"returned tuple for a float32 batch .* in training mode"
    ):
        make_encoder(module, (9,))


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("resnet7", (3, 8, 8), "encoder='resnet7' is unknown. Expected 'auto', 'mlp', 'cnn'"),
        ("maskrcnn_resnet50_fpn", (3, 8, 8), "is unknown. Expected"),  # would download a backbone
        ("cnn", (9,), "encoder='cnn' needs images, but X holds rows of 9 features"),
        (lambda: "net", (9,), "returned str, expected a torch.nn.Module"),
        (
            nn.Identity(),
            (3, 8, 8),
            r"float32 of shape \(3, 3, 8, 8\) for a float32 batch of shape \(3, 3, 8, 8\) in eval",
        ),
        (nn.Linear(4, 2), (9,), r"failed on a float32 batch of shape \(3, 9\) in evaluation mode"),
        (
            nn.Linear(9, 2).double(),
            (9,),
            r"failed on a float32 batch .* Its weights are float64: call \.float\(\) on it",
        ),
        (nn.Linear(9, 2).bfloat16(), (9,), r"Its weights are bfloat16: call \.float\(\) on it"),
        (nn.LSTM(9, 2), (9,), "returned tuple for a float32 batch"),
        (
            nn.BatchNorm1d(9, eps=float("nan")),
            (9,),
            r"NaN or infinity for random numbers of shape \(3, 9\) in evaluation mode",
        ),
        (
            nn.BatchNorm1d(9, track_running_stats=False),
            (9,),
            "features of a sample changed by up to",
        ),
        (batch_dependent_lstm(), (9,), "In evaluation mode, the features of a sample changed"),
    ],
)
def test_unusable_encoders_are_refused(spec, shape, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(spec, shape)


@pytest.mark.parametrize("in_training", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: {"features": f},
            "returned dict for .* a module that returns the features alone",
        ),
        (lambda f: f.to_sparse(), r"returned sparse_coo float32 of shape .* Call \.to_dense\(\)"),
        (
            Tensor.int,
            r"returned int32 of shape \(\d, 4\) for .*, expected a dense tensor of floating",
        ),
        (lambda f: f > 0, "returned bool of shape .* Convert the output to real numbers"),
        (lambda f: f.to(torch.complex64), "returned complex64 of shape"),
        (lambda f: f.sum(), r"returned float32 of shape \(\) for"),
        (lambda f: f[:1], r"returned float32 of shape \(1, 4\) for .* keep a row for each sample"),
        (lambda f: f[:, :0], r"returned float32 of shape \(\d, 0\) for"),
        (lambda f: f / 0, "NaN or infinity for random numbers of shape"),
        (lambda f: f.view(7), "failed on a float32 batch of shape"),
    ],
)
def test_unusable_outputs_in_one_of_the_modes_are_refused(change, message, in_training):
    spec = Returning(lambda m, f: change(f) if m.training == in_training else f)
    with pytest.raises(EncoderError, match=message):
        make_encoder(spec, (9,))


def test_another_width_for_other_batches_is_refused():
    spec = Returning(lambda m, f: f.repeat(1, len(f)))
    with pytest.raises(EncoderError, match=r"12 features per sample for a batch of 3, and others"):
        make_encoder(spec, (9,))


def test_weights_of_another_dtype_are_fine_where_the_module_converts_its_input():
    encoder, _ = make_encoder(InFloat64(), (9,))
    assert encoder(torch.rand(2, 9)).dtype == torch.float32


def histograms_by_loops(image, n_cells):
    """The histograms of the cells of an image (C, H, W), pixel by pixel: (cells, cells, 9)."""
    channels, height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float64)
    found = np.zeros((n_cells, n_cells, 9))
    for row in range(height):
        for column in range(width):
            across = padded[:, row + 1, column + 2] - padded[:, row + 1, column]
            down = padded[:, row + 2, column + 1] - padded[:, row, column + 1]
            strongest = max(range(channels), key=lambda c: np.hypot(across[c], down[c]))
            length = np.hypot(across[strongest], down[strongest])
            angle = np.degrees(np.arctan2(down[strongest], across[strongest])) % 180
            position = angle / 20 - 0.5
            lower = int(np.floor(position))
            cell = found[row * n_cells // height, column * n_cells // width]
            cell[lower % 9] += length * (lower + 1 - position)
            cell[(lower + 1) % 9] += length * (position - lower)
    return found * n_cells**2 / (height * width)


def scaled_by_loops(cells):
    """Each cell by the four blocks of 2 x 2 cells that it lies in: (4, 9, cells, cells)."""
    n = len(cells)
    found = np.zeros((4, 9, n, n))
    for row in range(n):
        for column in range(n):
            for corner, (dy, dx) in enumerate([(-1, -1), (-1, 0), (0, -1), (0, 0)]):
                block = [
                    cells[min(max(row + dy + i, 0), n - 1), min(max(column + dx + j, 0), n - 1)]
                    for i in (0, 1)
                    for j in (0, 1)
                ]
                norm = np.sqrt(np.square(block).sum() + 1e-4)
                found[corner, :, row, column] = np.minimum(cells[row, column] / norm, 0.2)
    return found


def test_oriented_gradients_are_those_of_loops_over_pixels():
    image = np.random.default_rng(0).random((3, 16, 24)).astype(np.float32)
    features = OrientedGradients()(torch.from_numpy(image)[None])[0].numpy()
    small, large = (scaled_by_loops(histograms_by_loops(image, n)).ravel() for n in (8, 4))
    np.testing.assert_allclose(features, np.concatenate([small, 2 * large]), atol=1e-5)


def test_oriented_gradients_tell_shapes_and_not_colors():
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    images = np.empty((90, 24, 24, 3), dtype=np.uint8)
    for image, kind in zip(images, kinds, strict=True):
        ground, color = rng.integers(0, 256, (2, 3))
        color[0] = (ground[0] + 128) % 256
        image[:] = ground
        top, left = rng.integers(3, 6, 2)
        band = [np.s_[top : top + 16, left : left + 4], np.s_[top : top + 4, left : left + 16]]
        for part in [band[:1], band[1:], band][kind]:
            image[part] = color
    model = ContrastiveClustering(3, encoder="hog", max_epochs=2, random_state=0)
    assert adjusted_rand_score(kinds, model.fit_predict(images)) > 0.9
    assert model.transform(images).shape == (90, 2880)
    colors = KMeans(3, n_init=3, random_state=0).fit_predict(images.reshape(90, -1))
    assert adjusted_rand_score(kinds, colors) < 0.5


def test_oriented_gradients_of_files_are_those_of_the_square_in_the_middle(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 24, 40, 3), dtype=np.uint8)
    files = [tmp_path / f"{number:02}.png" for number in range(12)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    model = ContrastiveClustering(3, encoder="hog", image_size=24, max_epochs=2, random_state=0)
    features = model.fit(files).transform(files)
    np.testing.assert_allclose(features, model.transform(images[:, :, 8:32]), atol=1e-6)


@pytest.mark.parametrize("sample_shape", [(1, 8, 8), (3, 5, 7), (4, 40, 33)])
def test_oriented_gradients_take_images_of_any_size(sample_shape):
    assert make_encoder("hog", sample_shape, frozen=True)[1] == 2880
