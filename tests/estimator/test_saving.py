"""Saved estimators: what comes back, and what is refused."""

import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from estimators import each, each_kind
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError
from torch import nn

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk._runtime.file_format import read_file, write_file
from deepcluster_sk.exceptions import EncoderError, SavedModelError

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def saved(few_images, tmp_path_factory):
    """A fitted estimator and its file."""
    path = tmp_path_factory.mktemp("saved") / "model.dcsk"
    model = ContrastiveClustering(3, **FAST).fit(few_images)
    model.save(path)
    return model, path


def changed(saved, tmp_path, header=None, tensors=None):
    """A copy of the file with another header or other tensors, and a digest that fits them."""
    old_header, old_tensors = read_file(saved[1])
    path = tmp_path / "changed.dcsk"
    write_file(path, {**old_header, **(header or {})}, {**old_tensors, **(tensors or {})})
    return path


@each
def test_a_loaded_estimator_equals_the_saved_one(estimator, few_images, tmp_path):
    model = estimator(3, **FAST).fit(few_images)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert type(other) is estimator
    assert other.get_params() == model.get_params()
    np.testing.assert_array_equal(other.predict_proba(few_images), model.predict_proba(few_images))
    np.testing.assert_array_equal(other.transform(few_images), model.transform(few_images))
    assert set(vars(other)) == set(vars(model))
    for name in ("labels_", "cluster_sizes_", "history_", "loss_curve_", "n_iter_", "input_shape_"):
        np.testing.assert_equal(getattr(other, name), getattr(model, name))
    assert not other.encoder_.training
    assert {p.device.type for p in other._objective.parameters()} == {"cpu"}


@each_kind
def test_a_loaded_estimator_can_be_fitted_and_saved_again(estimator, few_images, tmp_path):
    model = estimator(3, **FAST).fit(few_images)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    other.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
    assert other.fit(few_images).loss_curve_ == model.loss_curve_


def test_names_of_columns_come_back(blobs, tmp_path):
    frame = pd.DataFrame(blobs[0], columns=list("abcde"))
    model = ContrastiveClustering(3, **FAST).fit(frame)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    np.testing.assert_array_equal(other.feature_names_in_, model.feature_names_in_)
    np.testing.assert_array_equal(other.predict(frame), model.labels_)
    with pytest.raises(ValueError, match="feature names"):
        other.predict(frame[list("edcba")])


def test_flattened_images_come_back(few_images, tmp_path):
    flat = few_images.reshape(60, -1)
    model = ContrastiveClustering(3, image_shape=(8, 8), **FAST).fit(flat)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert other.image_shape == other.input_shape_ == (8, 8)
    np.testing.assert_array_equal(other.predict(flat), model.labels_)


def network():
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU())


@pytest.mark.parametrize("encoder", [network, network()], ids=["callable", "module"])
def test_a_custom_encoder_is_asked_for(encoder, blobs, tmp_path):
    model = ContrastiveClustering(3, encoder=encoder, augmentation=lambda x: x + 1, **FAST)
    labels = model.fit_predict(blobs[0])
    model.save(tmp_path / "model")
    with pytest.raises(SavedModelError, match="Pass the module"):
        load(tmp_path / "model")
    other = load(tmp_path / "model", encoder=encoder)
    np.testing.assert_array_equal(other.predict(blobs[0]), labels)
    assert other.encoder is encoder
    assert other.encoder_ is not encoder
    assert other.augmentation == "auto"
    with pytest.raises(SavedModelError, match=r"(?s)does not fit together.*same architecture"):
        load(tmp_path / "model", encoder=lambda: nn.Linear(5, 16))


class Unusual(nn.Module):
    """Reads its weights when it is made, and keeps tensors that no state has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 16)
        self.register_buffer("scale", torch.full((5,), 2.0), persistent=False)
        self.shift = torch.ones(5)
        self.norm = float(self.linear.weight.detach().norm())

    def forward(self, x):
        return self.linear(x * self.scale + self.shift).relu()


def test_an_encoder_with_tensors_beside_its_state_comes_back(blobs, tmp_path):
    model = ContrastiveClustering(3, encoder=Unusual, **FAST).fit(blobs[0])
    model.save(tmp_path / "model")
    before = torch.get_rng_state()
    other = load(tmp_path / "model", encoder=Unusual)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(other.predict_proba(blobs[0]), model.predict_proba(blobs[0]))


def own_net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8))


@pytest.fixture(scope="module")
def saved_own(few_images, tmp_path_factory):
    """The file of an estimator with an encoder of its own."""
    path = tmp_path_factory.mktemp("own") / "model.dcsk"
    ContrastiveClustering(3, encoder=own_net, **FAST).fit(few_images).save(path)
    return path


def test_opened_estimators_share_no_module_with_each_other(saved_own):
    module = own_net()
    before = module[1].weight.clone()
    models = [load(saved_own, encoder=encoder) for encoder in (lambda: module, module)]
    assert torch.equal(module[1].weight, before)
    assert not {id(m) for m in models[0].encoder_.modules()} & {id(m) for m in module.modules()}
    assert torch.equal(models[0].encoder_[1].weight, models[1].encoder_[1].weight)


class Locked(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 8))
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Locked, "encoder Locked cannot be copied: cannot pickle"),
        (Locked(), "encoder Locked cannot be copied: cannot pickle"),
        (lambda: None, "returned NoneType, expected a torch.nn.Module"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_not_blamed_on_the_file(saved_own, encoder, message):
    with pytest.raises(EncoderError, match=message):
        load(saved_own, encoder=encoder)


def test_an_encoder_whose_constructor_computes_comes_back(tmp_path):
    images = np.random.default_rng(0).random((12, 32, 32, 3), np.float32)
    parameters = {**FAST, "max_epochs": 1, "n_heads": 1, "n_neighbors": 0}
    model = ContrastiveClustering(2, encoder="regnet_x_400mf", **parameters).fit(images)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    np.testing.assert_array_equal(other.predict_proba(images), model.predict_proba(images))


def test_integers_of_numpy_inside_of_parameters_are_written(few_images, tmp_path):
    shape = (np.int64(8), np.int64(8))
    model = ContrastiveClustering(
        3, image_shape=shape, image_size=shape, checkpoint=tmp_path / "checkpoint", **FAST
    ).fit(few_images.reshape(60, -1))
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert other.image_shape == other.image_size == (8, 8)


def test_the_path_of_a_checkpoint_stays_behind(saved, few_images, tmp_path):
    model = ContrastiveClustering(3, checkpoint=tmp_path / "checkpoint", **FAST).fit(few_images)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").checkpoint is None
    hostile = changed(saved, tmp_path, altered(saved, "params", checkpoint="/etc/passwd"))
    assert load(hostile).checkpoint is None


def test_of_a_job_without_a_group_rank_0_alone_writes(saved, few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("1", []), ("0", ["model"])):
        monkeypatch.setenv("RANK", rank)
        saved[0].save(tmp_path / "model")
        assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_device_can_be_replaced(saved):
    assert load(saved[1], device="auto").device == "auto"
    assert load(saved[1]).device == "cpu"


def test_random_state_instances_and_devices_are_written_as_plain_values(few_images, tmp_path):
    model = ContrastiveClustering(
        np.int64(3),
        max_epochs=1,
        device=torch.device("cpu"),
        random_state=np.random.RandomState(0),
    ).fit(few_images)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert (other.n_clusters, other.device, other.random_state) == (3, "cpu", None)


def test_an_estimator_that_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        ContrastiveClustering().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_save_leaves_the_old_file(saved, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved[0].save(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model", b"old")]


def test_a_missing_file_or_folder_is_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.dcsk' is not a file"):
        load(tmp_path / "nothing.dcsk")
    with pytest.raises(FileNotFoundError):
        saved[0].save(tmp_path / "no" / "folder")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "torch", "npz"])
def test_other_files_are_refused_and_not_executed(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("label,count\n" * 20, "utf-8")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save(Bomb(), path)
    else:
        with path.open("wb") as file:
            np.savez(file, x=np.zeros(3))
    with pytest.raises(SavedModelError, match="file' is damaged, or is not a saved estimator"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_tensors_of_another_program_are_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "file")
    with pytest.raises(SavedModelError, match="file' was not written by deepcluster_sk"):
        load(tmp_path / "file")


def test_a_flipped_bit_is_noticed(saved, tmp_path):
    raw = saved[1].read_bytes()
    (tmp_path / "file").write_bytes(flipped(raw, len(raw) - 1))
    with pytest.raises(SavedModelError, match="damaged: its content is not what was written"):
        load(tmp_path / "file")


@pytest.mark.parametrize("keep", [4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(saved, tmp_path, keep):
    raw = saved[1].read_bytes()
    path = tmp_path / "part"
    path.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    with pytest.raises(SavedModelError, match="is damaged"):
        load(path)


def test_an_oversized_header_is_refused(saved, tmp_path):
    path = tmp_path / "huge"
    path.write_bytes(struct.pack("<Q", 2**60) + saved[1].read_bytes()[8:])
    with pytest.raises(SavedModelError, match="is damaged"):
        load(path)


def test_a_newer_format_names_the_versions(saved, tmp_path):
    path = changed(saved, tmp_path, {"format": 9, "version": "7.1"})
    with pytest.raises(SavedModelError, match=r"format 9 .*'7.1'.*reads format 1"):
        load(path)


@pytest.mark.parametrize("name", ["KMeans", "BaseDeepClusterer", "os.system", None, ["list"]])
def test_an_unknown_class_is_refused(saved, tmp_path, name):
    with pytest.raises(SavedModelError, match="which this version does not know; expected one of"):
        load(changed(saved, tmp_path, {"class": name}))


def altered(saved, group, **changes):
    """The header with some values of a group changed."""
    return {group: {**read_file(saved[1])[0][group], **changes}}


@pytest.mark.parametrize(
    ("group", "changes"),
    [
        ("params", {"n_clusters": 10**12}),
        ("params", {"n_clusters": 4}),
        ("params", {"n_clusters": "many"}),
        ("params", {"hidden_dim": 10**9}),
        ("params", {"encoder": "no_such_network"}),
        ("params", {"no_such_parameter": 1}),
        ("fitted", {"_n_features_out": 10**12}),
        ("layout", {"shape": [10**6, 10**6]}),
        ("layout", {"shape": "ab"}),
    ],
)
def test_a_hostile_header_is_refused_before_memory_is_taken(saved, tmp_path, group, changes):
    path = changed(saved, tmp_path, altered(saved, group, **changes))
    with pytest.raises(SavedModelError):
        load(path)


def test_a_name_that_is_not_an_attribute_is_refused(saved, tmp_path):
    path = changed(saved, tmp_path, altered(saved, "fitted", predict=1))
    with pytest.raises(SavedModelError, match="predict is not an attribute of a fitted estimator"):
        load(path)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 2**60], r"labels_ are not all in \[0, 3\)"),
        ([0, -1], "labels_ are not -1 for the files in skipped_, and for no others"),
    ],
)
def test_labels_that_cannot_be_are_named(saved, tmp_path, labels, problem):
    path = changed(saved, tmp_path, {}, {"labels_": torch.tensor(labels)})
    with pytest.raises(SavedModelError, match=problem):
        load(path)


@pytest.mark.parametrize("numbers", [[0, 2, 2], [0, 1, 3], [2**60, 0, 1], [0.0, 1.0, 2.0]])
def test_numbers_that_leave_a_cluster_out_are_refused(saved, tmp_path, numbers):
    path = changed(saved, tmp_path, {}, {"objective.cluster_of": torch.tensor(numbers)})
    with pytest.raises(SavedModelError, match="expected all integers from 0 to the largest"):
        load(path)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"objective.cluster_of": torch.tensor([0, 1, 1])}, "there are 2 clusters, expected 3"),
        ({"objective.cluster_of": torch.tensor([0, 1, 2, 2])}, "damaged"),
        (
            {
                "objective.calibration.group_of": torch.tensor([0, 1, 7]),
                "objective.calibration.of_clusters": torch.zeros(2),
            },
            "damaged",
        ),
    ],
)
def test_numbers_of_other_clusters_are_refused(saved, tmp_path, tensors, problem):
    path = changed(saved, tmp_path, {}, tensors)
    with pytest.raises(SavedModelError, match=problem):
        load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"labels_": torch.tensor([2**60])},
        {"labels_": torch.tensor([-1])},
        {"labels_": torch.tensor([0.5])},
        {"objective.cluster_heads.output.bias": torch.zeros(9)},
        {"objective.no_such_layer.weight": torch.zeros(2)},
    ],
)
def test_hostile_tensors_are_refused(saved, tmp_path, tensors):
    with pytest.raises(SavedModelError, match="does not fit together"):
        load(changed(saved, tmp_path, tensors=tensors))


def flipped(raw, position):
    """The bytes with one bit of one byte changed."""
    return raw[:position] + bytes([raw[position] ^ (1 << position % 8)]) + raw[position + 1 :]


def with_sizes(raw, change):
    """The bytes with the types, shapes and offsets of all tensors changed by a function."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    for name, tensor in header.items():
        if name != "__metadata__":
            change(tensor)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]


def mutations(saved, tmp_path):
    """Damaged and hostile variants of a saved file, by name."""
    raw = saved[1].read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    data = 8 + length
    for position in [0, 3, 7, *range(8, data, length // 9), data - 1]:
        yield f"bit of the header at {position}", flipped(raw, position)
    for position in [*range(data, len(raw), (len(raw) - data) // 9), len(raw) - 1]:
        yield f"bit of a tensor at {position}", flipped(raw, position)
    for n in (0, 7, 8, data // 2, data, (data + len(raw)) // 2, len(raw) - 1):
        yield f"first {n} bytes", raw[:n]
    yield "bytes at the end", raw + bytes(1000)
    for n in (0, length - 1, length + 1, len(raw), 2**40, 2**63):
        yield f"header of {n} bytes", struct.pack("<Q", n) + raw[8:]
    huge, shifted = {"shape": [10**6, 10**6]}, {"data_offsets": [0, 2**50]}
    yield "huge shapes", with_sizes(raw, lambda tensor: tensor.update(huge))
    yield "huge offsets", with_sizes(raw, lambda tensor: tensor.update(shifted))
    yield "other type", with_sizes(raw, lambda tensor: tensor.update(dtype="I64"))
    yield "a pickle", pickle.dumps(saved[0])
    for group, changes in [
        ("params", {"n_clusters": 10**12}),
        ("params", {"hidden_dim": 10**9}),
        ("params", {"projection_dim": 10**9}),
        ("params", {"encoder": "vit_h_14"}),
        ("layout", {"shape": [10**6, 10**6]}),
    ]:
        yield (
            f"hostile {changes}",
            changed(saved, tmp_path, altered(saved, group, **changes)).read_bytes(),
        )


LOAD_IN_LITTLE_MEMORY = """
import gc, json, re, resource, sys
from pathlib import Path
import torchvision  # code for what a file may name is no memory for the file
from deepcluster_sk import load

def memory():
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(re.search(r"VmData:\\s+(\\d+)", status)[1])

def outcome(path):
    gc.collect()
    limit = memory() + path.stat().st_size + 2**21  # what Python itself may take on the way
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    try:
        load(path)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)
    return "loaded"

intact, *others = map(Path, sys.argv[1:])
load(intact)  # imports what is needed
gc.freeze()  # none of which has to be looked through before each file
print(json.dumps([outcome(path) for path in [intact, *others]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts on what Linux tells of memory")
def test_damaged_files_are_refused_in_the_memory_of_their_size(saved, tmp_path):
    """The kernel refuses the process any more memory than a file has bytes."""
    paths, names = [saved[1]], []
    for number, (name, content) in enumerate(mutations(saved, tmp_path)):
        paths.append(tmp_path / f"{number}.dcsk")
        paths[-1].write_bytes(content)
        names.append(name)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_IN_LITTLE_MEMORY, *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    intact, *outcomes = json.loads(done.stdout)
    assert intact == "loaded"
    assert len(names) >= 30
    for name, outcome in zip(names, outcomes, strict=True):
        assert outcome.startswith("SavedModelError: "), name


@pytest.mark.parametrize("scale", ["columns", "global", "unit", None])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_opened_estimator_scales_rows_as_before(scale, frozen, blobs, tmp_path):
    X, _ = blobs
    net = nn.Linear(5, 8)
    model = ContrastiveClustering(3, encoder=net, freeze_encoder=frozen, scale=scale, **FAST)
    model.fit(X).save(tmp_path / "model")
    other = load(tmp_path / "model", encoder=net)
    assert other.scale_ == model.scale_ == scale
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))


SAVED = Path(__file__).parents[1] / "files" / "saved_by_0.1.0"


@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED.glob("*.dcsk")))
def test_files_of_version_0_1_0_open_and_predict_the_same(name, blobs):
    model = load(SAVED / f"{name}.dcsk", encoder=lambda: nn.Linear(5, 4))
    assert type(model).__name__ == name
    expected = json.loads((SAVED / "probabilities.json").read_text("utf-8"))[name]
    X, _ = blobs
    np.testing.assert_allclose(model.predict_proba(X[:5]), expected, atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    assert model.partial_fit(X).n_iter_ == 9


@each_kind
def test_an_encoder_that_is_passed_in_without_gradients_gets_its_own_weights(
    estimator, blobs, tmp_path
):
    X, _ = blobs
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    model = estimator(3, encoder=net, **FAST).fit(X)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model", encoder=net.requires_grad_(False))
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
