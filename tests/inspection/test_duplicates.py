"""Near-duplicates: equal samples, groups around their first member, and the automatic threshold."""

import io
import os
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import cosine_distances
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stand_ins import Given, Images

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._inspection import duplicates, equality
from deepcluster_sk._inspection.duplicates import usual_threshold
from deepcluster_sk._inspection.equality import first_equal
from deepcluster_sk._inspection.search import directions
from deepcluster_sk.inspection import near_duplicates

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def lists(groups):
    return [group.tolist() for group in groups]


def on_circle(*degrees):
    """Features at these angles."""
    angles = np.deg2rad(np.array(degrees, dtype=float))
    return np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def distance(degrees):
    """The cosine distance of two features at this angle."""
    return 1 - np.cos(np.deg2rad(degrees))


def groups_by_loops(X, threshold):
    """The groups of the definition, one sample after the other."""
    distances = cosine_distances(X.astype(np.float64))
    members = {}
    for row in range(len(X)):
        for leader in members:
            if distances[leader, row] < threshold:
                members[leader].append(row)
                break
        else:
            members[row] = [row]
    found = [group for group in members.values() if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), group[0]))


@pytest.mark.parametrize(("block", "tile"), [(1, 1), (7, 5), (16, 64), (1024, 8192)])
@pytest.mark.parametrize("threshold", [0.02, 0.2, 0.9])
def test_groups_are_those_of_the_definition(block, tile, threshold, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    monkeypatch.setattr(duplicates, "_TILE", tile)
    X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    found = near_duplicates(Given(), X, threshold)
    assert lists(found) == groups_by_loops(X, threshold)
    assert all(group.dtype == np.int64 for group in found)


def test_samples_that_differ_more_and_more_are_not_one_group():
    X = on_circle(0, 3, 6, 9, 12, 100)
    assert lists(near_duplicates(Given(), X, distance(4))) == [[0, 1], [2, 3]]


def test_first_members_are_apart():
    X = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    groups = near_duplicates(Given(), X, 0.1)
    dropped = np.concatenate([group[1:] for group in groups])
    kept = np.setdiff1d(np.arange(200), dropped)
    distances = cosine_distances(X[kept]) + 2 * np.eye(len(kept))
    assert len(dropped) > 50
    assert distances.min() > 0.1 - 1e-6


def test_the_largest_group_comes_first():
    X = on_circle(0, 50, 51, 100, 101, 102, 1)
    assert lists(near_duplicates(Given(), X, distance(3))) == [[3, 4, 5], [0, 6], [1, 2]]


@pytest.mark.parametrize("threshold", [0, "auto"])
def test_equal_rows_are_groups_at_any_threshold(threshold):
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    X[[7, 30]] = X[2]
    X[50] = X[49]
    assert lists(near_duplicates(Given(), X, threshold)) == [[2, 7, 30], [49, 50]]


def test_equal_files_are_found_whatever_they_are_called(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "x").mkdir()
    shutil.copy(tmp_path / "1.png", tmp_path / "x" / "other.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "x" / "third.png")
    (tmp_path / "bad_a.png").write_bytes(b"nothing")
    (tmp_path / "bad_b.png").write_bytes(b"nothing")
    model = ContrastiveClustering(2, max_epochs=1, on_error="skip", random_state=0)
    with pytest.warns(UserWarning, match="2 of 10 image files cannot be read"):
        model.fit(tmp_path)
    with pytest.warns(UserWarning, match="2 of 10 image files cannot be read"):
        groups = near_duplicates(model, tmp_path)  # few samples: equal ones only
    assert lists(groups) == [[1, 8, 9]]


def test_only_files_of_the_same_size_are_read(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in "abcd"]
    for path, content in zip(paths, [b"1", b"12", b"21", b"12"], strict=True):
        path.write_bytes(content)
    opened = []

    def opening(path, mode):
        opened.append(path)
        assert mode == "rb"
        return io.open_code(os.fspath(path))

    monkeypatch.setattr(equality, "open", opening, raising=False)
    first = first_equal([*paths, "no_file"], np.arange(5))
    np.testing.assert_array_equal(first, [0, 1, 2, 1, 4])
    assert opened == [str(path) for path in paths[1:]]


@pytest.fixture
def some_rows():
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    X[[20, 29]] = X[3]
    return X


@pytest.mark.parametrize(
    "kind", ["array", "map", "h5", "tensor", "dataset", "list", "frame", "csr"]
)
def test_rows_of_any_kind_are_compared_piece_by_piece(kind, some_rows, tmp_path, monkeypatch):
    monkeypatch.setattr(equality, "_ROWS", 7)
    np.save(tmp_path / "X.npy", some_rows)
    with h5py.File(tmp_path / "X.h5", "w") as file:
        kinds = {
            "array": lambda: some_rows,
            "map": lambda: np.load(tmp_path / "X.npy", mmap_mode="r"),
            "h5": lambda: file.create_dataset("X", data=some_rows, chunks=(5, 4)),
            "tensor": lambda: torch.from_numpy(some_rows),
            "dataset": lambda: Images(some_rows),
            "list": some_rows.tolist,
            "frame": lambda: pd.DataFrame(some_rows),
            "csr": lambda: csr_array(some_rows),
        }
        first = first_equal(kinds[kind](), np.arange(1, 30))
    expected = np.arange(1, 30)
    expected[[19, 28]] = 3
    np.testing.assert_array_equal(first, expected)


def test_rows_of_several_types_are_compared():
    frame = pd.DataFrame({"a": [1, 2, 1, 1], "b": ["x", "y", "x", "xx"]})
    np.testing.assert_array_equal(first_equal(frame, np.arange(4)), [0, 1, 0, 3])


def test_auto_finds_noisy_copies_among_photos_and_nothing_else():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 30)).astype(np.float32)
    copies = X[:40] + rng.normal(scale=0.05, size=(40, 30)).astype(np.float32)
    groups = near_duplicates(Given(), np.concatenate([X, copies]))
    assert lists(groups) == [[row, 1000 + row] for row in range(40)]


def test_auto_joins_few_samples_by_chance():
    rng = np.random.default_rng(0)
    for n_columns in (3, 5, 10, 100):
        unit = directions(rng.normal(size=(1000, n_columns)).astype(np.float32))
        distances = cosine_distances(unit.astype(np.float64)) + 3 * np.eye(1000)
        neighbors = (distances < usual_threshold(unit)).sum(axis=1).mean()
        assert neighbors <= 0.03, n_columns


def test_auto_says_nothing_of_few_samples_or_of_features_that_are_all_the_same():
    assert usual_threshold(on_circle(*range(29))) == 0
    assert usual_threshold(np.ones((50, 1), dtype=np.float32)) == 0


def test_a_pipeline_that_ends_in_kmeans_can_be_asked(some_rows):
    pipeline = make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit(some_rows)
    assert lists(near_duplicates(pipeline, some_rows, 0)) == [[3, 20, 29]]


@pytest.mark.parametrize("threshold", ["none", -0.1, 2.5, np.nan, None, True, [0.1]])
def test_bad_thresholds_are_refused(threshold, some_rows):
    with pytest.raises(ValueError, match=r"expected 'auto' or a cosine distance in \[0, 2\]; most"):
        near_duplicates(Given(), some_rows, threshold)
