import pytest
import torch
from torch import nn

from deepcluster_sk._runtime.device import _LACKING
from deepcluster_sk.encoders import MLP, SmallCNN, input_size, make_encoder, resnet
from deepcluster_sk.exceptions import EncoderError


def scaled_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


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


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("resnet7", (3, 8, 8), "encoder='resnet7' is unknown. Expected 'auto', 'mlp', 'cnn'"),
        ("maskrcnn_resnet50_fpn", (3, 8, 8), "is unknown. Expected"),  # would download a backbone
        ("cnn", (9,), "encoder='cnn' needs images, but X holds rows of 9 features"),
        (lambda: "net", (9,), "returned str, expected a torch.nn.Module"),
        (nn.Identity(), (3, 8, 8), r"returned \(2, 3, 8, 8\) for a batch of shape \(2, 3, 8, 8\)"),
        (nn.Linear(4, 2), (9,), r"failed on a float32 batch of shape \(2, 9\)"),
        (nn.LSTM(9, 2), (9,), "returned tuple for a batch"),
        (
            nn.BatchNorm1d(9, eps=float("nan")),
            (9,),
            "NaN or infinity for a batch of zeros",
        ),
    ],
)
def test_unusable_encoders_are_refused(spec, shape, message):
    with pytest.raises(EncoderError, match=message):
        make_encoder(spec, shape)
