"""Samples that are read piece by piece: the same results, and never a whole copy."""

import re
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators import each_kind, two
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._data.readers import ArrayReader, DatasetReader, memory_map
from deepcluster_sk._data.sources import ResidentSource, StreamedSource, open_source
from deepcluster_sk._training.inference import collect
from deepcluster_sk.exceptions import ResumeError
from deepcluster_sk.metrics import embedding_silhouette_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CPU = torch.device("cpu")
FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


def model(**params):
    return ContrastiveClustering(2, **{**FAST, **params})


@pytest.fixture(scope="module")
def colors():
    """40 images in colour, channels last, uint8."""
    return np.random.default_rng(0).integers(0, 256, size=(40, 9, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(3, 7, size=(60, 5)).astype(np.float32)


def mapped(X, folder, mode="r"):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode=mode)


class Images(Dataset):
    """Items made from an array by a function."""

    def __init__(self, images, make=lambda image: image):
        self.images, self.make = images, make

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.make(self.images[i])


class Endless(IterableDataset):
    """A dataset without numbers."""

    def __iter__(self):
        yield torch.zeros(3)


class InFile:
    """What an HDF5 or zarr array looks like; remembers how much was read at once."""

    def __init__(self, X):
        self._X, self.shape, self.dtype, self.chunks = X, X.shape, X.dtype, (1, *X.shape[1:])
        self.most, self.read = 0, 0

    def __len__(self):
        return len(self._X)

    def __getitem__(self, rows):
        if isinstance(rows, np.ndarray):
            assert (np.diff(rows) > 0).all(), "HDF5 wants ascending numbers"
        values = self._X[rows]
        self.most, self.read = max(self.most, len(values)), self.read + len(values)
        return values

    def __array__(self, *args, **kwargs):
        raise AssertionError("read as a whole")


# ---- the same images, whatever they come in


@two
def test_memory_maps_and_datasets_give_the_fit_of_the_array(estimator, colors, tmp_path):
    expected = estimator(2, **FAST).fit(colors)
    for X in (
        mapped(colors, tmp_path),
        TensorDataset(torch.from_numpy(colors)),
        Images(colors, lambda image: (Image.fromarray(image), 7)),
        InFile(colors),
    ):
        fitted = estimator(2, **FAST).fit(X)
        assert fitted.history_ == expected.history_
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)
        np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(colors))
        np.testing.assert_array_equal(fitted.transform(X), expected.transform(colors))
        assert fitted.score(X) == expected.score(colors)
        assert fitted.input_shape_ == (9, 8, 3)


@each_kind
def test_streamed_rows_give_the_fit_of_the_array(estimator, rows, tmp_path):
    expected = estimator(2, **FAST).fit(rows)
    for X in (mapped(rows, tmp_path), TensorDataset(torch.from_numpy(rows)), InFile(rows)):
        fitted = estimator(2, **FAST).fit(X)
        assert fitted.history_ == expected.history_
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)


@two
def test_passes_over_streams_equal_passes_over_the_array(estimator, colors, rows, tmp_path):
    for whole in (colors, rows):
        expected = estimator(2, **FAST).partial_fit(whole).partial_fit(whole[:20])
        for open_part in (
            lambda X: mapped(X, tmp_path),
            lambda X: TensorDataset(torch.from_numpy(X)),
            InFile,
        ):
            fitted = estimator(2, **FAST).partial_fit(open_part(whole))
            part = open_part(whole[:20])
            fitted.partial_fit(part)
            assert fitted.history_ == expected.history_
            np.testing.assert_array_equal(fitted.labels_, expected.labels_)
            np.testing.assert_array_equal(fitted.predict(part), fitted.labels_)


def test_frozen_features_of_streams_equal_those_of_the_array(colors, tmp_path):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(216, 7))
    expected = model(encoder=encoder, freeze_encoder=True).fit(colors)
    for X in (mapped(colors, tmp_path), TensorDataset(torch.from_numpy(colors)), InFile(colors)):
        fitted = model(encoder=encoder, freeze_encoder=True).fit(X)
        assert fitted.history_ == expected.history_
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)
        fitted.partial_fit(X)
        np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)


def test_a_fit_is_resumed_from_any_form_of_the_same_data(colors, tmp_path):
    params = {"max_epochs": 3, "checkpoint": tmp_path / "run"}
    expected = model(**params).fit(mapped(colors, tmp_path))
    for X in (colors, InFile(colors)):  # no epoch is left to run
        np.testing.assert_array_equal(model(**params).fit(X).labels_, expected.labels_)
    other = colors.copy()
    other[-1] = 255 - other[-1]
    with pytest.raises(ResumeError, match=r"X\.content"):
        model(**params).fit(mapped(other, tmp_path))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float16, ">f4", np.float64, bool])
def test_memory_maps_of_any_number_type_equal_the_array(dtype, tmp_path):
    X = np.random.default_rng(0).integers(0, 200, size=(40, 6, 6)).astype(dtype)
    assert model().fit(mapped(X, tmp_path)).history_ == model().fit(X).history_


@pytest.mark.parametrize(
    "view",
    [
        lambda X: X[4:30],
        lambda X: X[::-2],
        lambda X: X.transpose(0, 2, 1, 3),
        lambda X: X.transpose(0, 3, 1, 2),
        np.asarray,
        lambda X: X[[3, 5, 7, 9]],
    ],
)
def test_views_of_memory_maps_equal_views_of_the_array(view, colors, tmp_path):
    assert (
        model().fit(view(mapped(colors, tmp_path))).history_ == model().fit(view(colors)).history_
    )


def test_flattened_memory_maps_are_read_as_images(colors, tmp_path):
    flat = mapped(colors.reshape(40, -1), tmp_path)
    fitted = model(image_shape=(9, 8, 3)).fit(flat)
    assert fitted.history_ == model().fit(colors).history_


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_maps_of_every_mode_are_read_and_stay_as_they_are(mode, colors, tmp_path):
    X = mapped(colors, tmp_path, mode)
    if mode != "r":
        X[0] = 255 - X[0]  # in memory only, for "c"
    inside = np.array(X)
    assert model().fit(X).history_ == model().fit(inside).history_
    np.testing.assert_array_equal(X, inside)
    assert (memory_map(X) is None) == (mode == "c")


def test_hdf5_and_zarr_arrays_equal_the_array(colors, tmp_path):
    h5py = pytest.importorskip("h5py")
    expected = model().fit(colors)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        X = file.create_dataset("x", data=colors, chunks=(7, 9, 8, 3))
        fitted = model().fit(X)
        np.testing.assert_array_equal(fitted.predict(X), expected.labels_)
    assert fitted.history_ == expected.history_
    zarr = pytest.importorskip("zarr")
    X = zarr.create_array(str(tmp_path / "x.zarr"), data=colors, chunks=(7, 9, 8, 3))
    assert model().fit(X).history_ == expected.history_


def test_channels_of_tensors_are_first_where_both_ends_fit():
    images = np.random.default_rng(0).integers(0, 256, size=(30, 3, 8, 3), dtype=np.uint8)
    expected = model().fit(torch.from_numpy(images)).history_
    assert model().fit(TensorDataset(torch.from_numpy(images))).history_ == expected
    assert model().fit(Images(images)).history_ == model().fit(images).history_ != expected


def test_items_of_datasets_may_be_images_of_every_mode(few_images):
    expected = model().fit(few_images).history_
    assert model().fit(Images(few_images, Image.fromarray)).history_ == expected
    assert model().fit(Subset(Images(few_images, lambda x: [x, 1]), range(60))).history_ == expected
    colour = model().fit(np.repeat(few_images[..., None], 3, axis=3)).history_
    rgb = Images(few_images, lambda x: Image.fromarray(x).convert("RGBA"))
    assert model().fit(rgb).history_ == colour


# ---- never whole


@pytest.mark.parametrize("shape", [(4500, 5), (4500, 6, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_no_part_of_a_fit_reads_the_whole_array(shape, dtype, monkeypatch):
    few = partial(embedding_silhouette_score, max_samples=50)
    monkeypatch.setattr("deepcluster_sk._estimator.base.embedding_silhouette_score", few)
    X = InFile(np.random.default_rng(0).integers(0, 9, size=shape).astype(dtype))
    small = {"encoder": lambda: nn.Sequential(nn.Flatten(), nn.Linear(X[:1].size, 4))}
    fitted = model(max_epochs=1, n_neighbors=2, n_heads=1, **small).fit(X)
    fitted.predict(X), fitted.transform(X), fitted.score(X)
    assert 0 < X.most <= 4096


def test_wide_rows_are_never_together_in_memory(tmp_path, monkeypatch):
    shapes = []

    def spied(batches, n_samples):
        values = collect(batches, n_samples)
        shapes.append(tuple(values.shape))
        return values

    monkeypatch.setattr("deepcluster_sk._training.row_map.collect", spied)
    monkeypatch.setattr("deepcluster_sk._training.row_map._MAX_SAMPLED", 200)
    X = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    small = {"encoder": lambda: nn.Linear(100, 8), "neighbor_space": "inputs"}
    fitted = model(n_neighbors=3, **small).fit(mapped(X, tmp_path))
    assert {(200, 64), (300, 3), (200, 8)} <= set(shapes)  # of inputs, neighbours, features
    assert max(shape[1] for shape in shapes) == 64
    assert fitted.loss_curve_ == model(n_neighbors=3, **small).fit(X).loss_curve_


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory's map from /proc")
def test_pages_of_a_memory_map_are_given_back(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(1000, 64, 64), dtype=np.uint8)
    X = mapped(images, tmp_path)

    def resident():
        """Kilobytes of the map that count as memory of this process."""
        entries = Path("/proc/self/smaps").read_text("utf-8")
        return int(re.search(r"x\.npy(?:.|\n)*?Rss:\s+(\d+) kB", entries)[1])

    assert X.max() == 255
    assert resident() > 3000
    small = {"encoder": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 4))}
    model(max_epochs=1, n_heads=1, n_neighbors=0, augmentation=lambda x: x, **small).fit(X)
    assert resident() < 500


# ---- refused


@pytest.mark.parametrize("method", ["fit", "predict", "transform", "score"])
def test_a_value_that_is_not_finite_is_named_by_its_row(method, rows, tmp_path):
    X = np.array(rows)
    X[37, 2] = np.nan
    X = mapped(X, tmp_path)
    estimator = model() if method == "fit" else model().fit(rows)
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match="contains NaN in row 37"):
        getattr(estimator, method)(X)
    assert vars(estimator) == before
    with pytest.raises(ValueError, match=r"contains infinity \(inf\) in row 11"):
        model().fit(InFile(np.where(np.arange(60) == 11, np.inf, 1.0)[:, None] * np.ones(3)))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (InFile(np.zeros((1, 4))), ValueError, r"1 sample\(s\).*minimum of 2"),
        (InFile(np.zeros((0, 4))), ValueError, r"Found array with 0 sample\(s\)"),
        (InFile(np.zeros(9)), ValueError, "Expected 2D array, got 1D array instead"),
        (InFile(np.zeros((4, 2, 2, 2, 2))), ValueError, "X has 5 dimensions"),
        (InFile(np.zeros((4, 3), dtype=complex)), ValueError, "Complex data not supported"),
        (InFile(np.zeros((4, 8, 8, 2))), ValueError, "No channel axis in images of shape"),
        (
            TensorDataset(torch.zeros(0, 3)),
            ValueError,
            "Dataset is empty, expected at least one",
        ),
        (
            Images(["a", "b"]),
            TypeError,
            r"Images cannot be read .*item 0 of the dataset is of type str.* map-",
        ),
        (Images([{"x": 1}] * 3), TypeError, "item 0 of the dataset is of type dict"),
        (Endless(), TypeError, "Endless cannot be read by number"),
        (Images([1.0, 2.0, 3.0]), ValueError, "Expected 2D array, got 1D array instead"),
        (
            Images([np.zeros((8, 8)), np.zeros((8, 8)), np.zeros((8, 9))]),
            ValueError,
            r"Item 2 of the dataset has shape \(8, 9\) and dtype float64, expected \(8, 8\)",
        ),
        (
            Images([torch.zeros(4), torch.zeros(4), torch.zeros(4, dtype=torch.uint8)]),
            ValueError,
            "Item 2 .* dtype uint8, expected .* float32 as item 0 has",
        ),
    ],
)
def test_bad_training_data_is_refused(X, error, message):
    estimator = model()
    with pytest.raises(error, match=message):
        estimator.fit(X)
    assert vars(estimator) == model().get_params(deep=False)


def test_new_samples_of_another_shape_are_refused(colors):
    fitted = model(max_epochs=1).fit(colors)
    with pytest.raises(ValueError, match=r"samples of shape \(8, 8, 3\), but .* \(9, 8, 3\)"):
        fitted.predict(InFile(colors[:, :8]))
    with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 216"):
        fitted.predict(TensorDataset(torch.zeros(9, 5)))


# ---- the source


def test_rows_arrive_in_the_order_of_the_plan_whatever_it_is(rows):
    plan = [torch.tensor([5, 2, 9]), torch.arange(20), torch.tensor([7, 7, 0, 7]), torch.arange(0)]
    resident = list(ResidentSource(rows, CPU).batches(plan))
    streamed = list(StreamedSource(InFile(rows), CPU).batches(plan))
    for (index, x), (same_index, same_x) in zip(resident, streamed, strict=True):
        assert torch.equal(index, same_index)
        assert torch.equal(x, same_x)


def test_a_row_that_several_views_show_is_read_once(rows):
    X = InFile(rows)
    list(StreamedSource(X, CPU).batches([torch.tensor([3, 8, 3, 8, 1])]))
    assert X.read == 3


def test_reading_runs_ahead_and_ends_with_its_consumer(rows):
    X = InFile(rows)
    before = threading.active_count()
    batches = StreamedSource(X, CPU).batches(torch.arange(60).split(1))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
    assert 1 <= X.read <= 4


def test_arrays_in_memory_are_not_streamed_on_the_cpu(rows):
    source = open_source(rows, device=CPU)
    assert isinstance(source, ResidentSource)
    (_, x), *_ = source.batches([torch.arange(60)])
    assert torch.equal(x, torch.from_numpy(rows))


def test_arrays_larger_than_the_device_are_streamed(rows, monkeypatch):
    device = torch.device("meta")
    assert isinstance(open_source(rows, device=device), ResidentSource)
    monkeypatch.setattr(
        "deepcluster_sk._data.sources.available_memory", lambda _: 2 * rows.nbytes - 1
    )
    assert isinstance(open_source(rows, device=device), StreamedSource)


def test_readers_return_copies(colors, tmp_path):
    X = mapped(colors, tmp_path, "r+")
    batch = ArrayReader(X).read(slice(0, 3))
    batch[:] = 0
    np.testing.assert_array_equal(X, colors)
    np.testing.assert_array_equal(DatasetReader(Images(colors)).read(np.array([4])), colors[4:5])
