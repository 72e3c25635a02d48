"""Tables of samples, central samples, and files of tables."""

import builtins
import csv
import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_distances
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stand_ins import Given

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.inspection import cluster_table, exemplars, write_table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

COLUMNS = ["sample", "cluster", "confidence", "typicality", "second_cluster", "exemplar_distance"]


class Soft(Given):
    """Returns given assignments, and a score for each sample."""

    def __init__(self, probabilities=None):
        self.probabilities = probabilities

    def predict_proba(self, X):
        return self.probabilities

    def score_samples(self, X):
        return -np.arange(len(X))


@pytest.fixture(scope="module")
def model(few_images):
    return ContrastiveClustering(3, max_epochs=2, random_state=0).fit(few_images)


@pytest.fixture
def soft():
    """40 features, and an estimator with four clusters of them, of which the last one is empty."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=40)
    probabilities[3] = np.nan
    probabilities = np.column_stack([probabilities, np.zeros(40)])
    probabilities[3] = np.nan
    X = rng.normal(size=(40, 5)).astype(np.float32)
    return Soft(probabilities), X


def central_by_loops(X, labels, cluster, n):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    members = [row for row in range(len(X)) if labels[row] == cluster]
    mean = sum(unit[row].astype(float) for row in members)
    return sorted(members, key=lambda row: -float(unit[row] @ mean))[:n]


def test_table_has_what_the_estimator_says(model, few_images):
    table = cluster_table(model, few_images, np.arange(60) % 4)
    assert list(table.columns) == [*COLUMNS, "class"]
    probabilities = model.predict_proba(few_images)
    np.testing.assert_array_equal(table["cluster"], model.predict(few_images))
    np.testing.assert_allclose(table["confidence"], probabilities.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(table["second_cluster"], np.argsort(-probabilities)[:, 1])
    np.testing.assert_array_equal(table["sample"], np.arange(60))
    np.testing.assert_array_equal(table["class"], np.arange(60) % 4)
    assert table["cluster"].dtype == np.int64
    assert table["second_cluster"].dtype == pd.Int64Dtype()
    if hasattr(model, "score_samples"):
        np.testing.assert_array_equal(table["typicality"], model.score_samples(few_images))


def test_distances_are_those_to_the_nearest_of_five_central_members(soft):
    estimator, X = soft
    table = cluster_table(estimator, X)
    labels = table["cluster"].to_numpy()
    for row in range(40):
        if row == 3:
            continue
        central = central_by_loops(X, labels, labels[row], 5)
        expected = min(cosine_distances(X[[row]], X[[other]])[0, 0] for other in central)
        assert abs(table["exemplar_distance"][row] - expected) < 1e-6
        assert row not in central or table["exemplar_distance"][row] == 0
    np.testing.assert_array_equal(table["typicality"], -np.arange(40))


def test_what_is_not_known_is_missing(soft):
    table = cluster_table(*soft)
    assert table["cluster"][3] == -1
    assert table.loc[3, ["confidence", "second_cluster", "exemplar_distance"]].isna().all()
    assert table.drop(index=3).notna().all(axis=None)
    certain = np.tile([0.0, 1.0], (40, 1))
    assert cluster_table(Soft(certain), soft[1])["second_cluster"].isna().all()
    alone = cluster_table(Soft(np.ones((40, 1))), soft[1])
    assert alone["second_cluster"].isna().all()
    assert (alone["confidence"] == 1).all()


def test_outliers_have_no_cluster(few_images):
    model = ContrastiveClustering(3, max_epochs=2, outlier_fraction=0.1, random_state=0)
    table = cluster_table(model.fit(few_images), few_images)
    np.testing.assert_array_equal(table["cluster"], model.predict(few_images))
    assert (table["cluster"] < 0).sum() == 6
    assert table["confidence"].isna().sum() == 6
    assert table["typicality"].notna().all()


def test_central_members_point_in_the_mean_direction(soft):
    estimator, X = soft
    labels = cluster_table(estimator, X)["cluster"].to_numpy()
    rows = exemplars(estimator, X, n=20)
    assert (rows.shape, rows.dtype) == ((4, 20), np.int64)
    for cluster in range(4):
        expected = central_by_loops(X, labels, cluster, 20) if cluster < 3 else []
        assert rows[cluster].tolist() == expected + [-1] * (20 - len(expected))


def test_samples_have_the_names_that_are_known(model, few_images, blobs):
    frame = pd.DataFrame(blobs[0], index=[f"row {i}" for i in range(60)])
    rows = make_pipeline(StandardScaler(), ContrastiveClustering(2, max_epochs=1)).fit(frame)
    assert cluster_table(rows, frame)["sample"].tolist() == list(frame.index)
    names = [f"digit {i}" for i in range(60)]
    assert cluster_table(model, few_images, names=names)["sample"].tolist() == names


def test_files_have_their_paths_and_skipped_ones_are_in_the_table(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"")
    model = ContrastiveClustering(2, max_epochs=1, on_error="skip", random_state=0)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read"):
        model.fit(tmp_path)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read"):
        table = cluster_table(model, tmp_path)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read"):
        rows = exemplars(model, sorted(tmp_path.iterdir()), n=9)
    assert table["sample"].tolist() == [str(tmp_path / f"{i}.png") for i in range(6)]
    assert table.index[table["cluster"] < 0].tolist() == [2]
    assert table.isna().any(axis=1).sum() >= 1
    assert sorted(rows[rows >= 0]) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("last", "has_probabilities"),
    [
        (KMeans(3, n_init=1, random_state=0), False),
        (GaussianMixture(3, reg_covar=0.1, random_state=0), True),
    ],
)
def test_pipelines_that_end_in_another_clusterer_have_a_table(
    last, has_probabilities, model, few_images
):
    pipeline = make_pipeline(model, last).fit(few_images)
    table = cluster_table(pipeline, few_images)
    np.testing.assert_array_equal(table["cluster"], pipeline.predict(few_images))
    assert table["typicality"].isna().all() == (not has_probabilities)
    assert table["exemplar_distance"].notna().all()
    if not has_probabilities:
        assert (table["confidence"] == 1).all()
        assert table["second_cluster"].isna().all()
    assert exemplars(pipeline, few_images, n=2).shape == (3, 2)


def test_the_estimator_stays_as_it_is(model, few_images):
    before = dict(vars(model))
    cluster_table(model, few_images)
    exemplars(model, few_images)
    assert vars(model) == before


def test_bad_arguments_are_refused(model, few_images, blobs):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cluster_table(model, few_images, np.arange(59))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cluster_table(model, few_images, names=["a"])
    for n in (0, 1.5, True):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            exemplars(model, few_images, n=n)
    with pytest.raises(
        TypeError,
        match=r"KMeans has no method predict_proba\. Pass it as the last step of a fitted "
        r"Pipeline, make_pipeline\(model, KMeans\(\.\.\.\)\)\.fit\(X\), where model is an est",
    ):
        cluster_table(KMeans(3, n_init=1).fit(blobs[0]), blobs[0])
    with pytest.raises(NotFittedError):
        cluster_table(ContrastiveClustering(3), few_images)
    with pytest.raises(TypeError, match="Got the class ContrastiveClustering, expected a fitted"):
        exemplars(ContrastiveClustering, few_images)


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "sample": ["a,b.png", 'c "d".png', "e\tf.png", "gré.png"],
            "cluster": [0, 1, -1, 1],
            "confidence": [0.25, 1.0, np.nan, 0.5],
            "second_cluster": pd.array([1, 0, None, None], dtype="Int64"),
        }
    )


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("t.csv", pd.read_csv),
        ("t.TSV", lambda path: pd.read_csv(path, sep="\t")),
        ("t.parquet", pd.read_parquet),
    ],
)
def test_tables_come_back_from_their_files(name, read, table, tmp_path):
    if name == "t.parquet":
        pytest.importorskip("pyarrow", reason="extra tables")
    path = write_table(table, tmp_path / name)
    pd.testing.assert_frame_equal(
        read(path).astype({"second_cluster": "Int64"}), table, check_dtype=name == "t.parquet"
    )
    assert write_table(table.head(1), str(path)) == path  # replaced
    assert len(read(path)) == 1


def test_csv_has_one_line_per_sample_and_nothing_else(table, tmp_path):
    with open(write_table(table, tmp_path / "t.csv"), encoding="utf-8", newline="") as file:
        text = file.read()
    assert text.splitlines()[0] == "sample,cluster,confidence,second_cluster"
    assert text.count("\r") == 0
    assert [row[0] for row in csv.reader(text.splitlines()[1:])] == table["sample"].tolist()


def test_names_that_are_no_text_survive(tmp_path):
    name = os.fsdecode(b"caf\xe9.png") if sys.platform != "win32" else "caf\udce9.png"
    names = [name, "\ud800"]
    table = cluster_table(Given(), np.eye(2, dtype=np.float32), names=names)[["sample", "cluster"]]
    assert table["sample"].tolist() == names
    content = write_table(table, tmp_path / "t.csv").read_bytes()
    assert content == b"sample,cluster\ncaf\xe9.png,0\n\\ud800,0\n"
    pytest.importorskip("pyarrow", reason="extra tables")
    path = write_table(table, tmp_path / "t.parquet")
    assert pd.read_parquet(path)["sample"].tolist() == [r"caf\udce9.png", r"\ud800"]


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv.gz", ".csv"])
def test_other_suffixes_are_refused(name, table, tmp_path):
    with pytest.raises(ValueError, match=r"expected one of \.csv, \.tsv, \.parquet for a table"):
        write_table(table, tmp_path / name)


def test_targets_that_cannot_be_written_are_refused(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing; make it before writing"):
        write_table(table, tmp_path / "none" / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(OSError, match="is a folder; name a regular file to write the table to"):
        write_table(table, tmp_path / "t.csv")
    with pytest.raises(TypeError, match="table is of type dict, expected a DataFrame such as"):
        write_table({"sample": []}, tmp_path / "t2.csv")


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_missing_packages_are_named_with_the_extra(
    package, table, few_images, tmp_path, monkeypatch
):
    def importing(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    original = builtins.__import__
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", importing)
    call = {
        "pandas": lambda: cluster_table(Given(), few_images),
        "pyarrow": lambda: write_table(table, tmp_path / "t.parquet"),
    }[package]
    with pytest.raises(ImportError, match="which the extra for tables contains: pip install"):
        call()
