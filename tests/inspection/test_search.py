"""Similar samples, against nested loops and scikit-learn."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import DBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from stand_ins import Given, Images

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._inspection import search
from deepcluster_sk._inspection.assignments import features
from deepcluster_sk.inspection import similar

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def nearest_by_loops(F, targets, n, own=None):
    """Row numbers and similarities, one pair of samples after the other."""
    rows, values = [], []
    for query, target in enumerate(targets):
        pairs = []
        for row, x in enumerate(F):
            if own is None or row != own[query]:
                cosine = float(np.dot(x, target) / np.linalg.norm(x) / np.linalg.norm(target))
                pairs.append((-cosine, row))
        rows.append([row for _, row in sorted(pairs)[:n]])
        values.append([-value for value, _ in sorted(pairs)[:n]])
    return np.array(rows), np.array(values)


@pytest.fixture(scope="module")
def model(few_images):
    return ContrastiveClustering(3, max_epochs=2, random_state=0).fit(few_images)


@pytest.fixture
def cloud():
    return np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)


@pytest.fixture
def photos(tmp_path):
    """Eight files, one of which is no image."""
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"nothing")
    return tmp_path


@pytest.fixture
def photo_model(photos):
    model = ContrastiveClustering(2, max_epochs=1, on_error="skip", random_state=0)
    with pytest.warns(UserWarning, match="1 of 8 image files cannot be read"):
        return model.fit(photos)


@pytest.mark.parametrize("n_cells", [1, 200, 2**24])
def test_rows_find_their_nearest_others(cloud, n_cells, monkeypatch):
    monkeypatch.setattr(search, "_CELLS", n_cells)
    queries = np.array([5, 0, 79])
    rows, similarity = similar(Given(), cloud, queries, n=7)
    expected, cosines = nearest_by_loops(
        cloud.astype(float), cloud[queries].astype(float), 7, queries
    )
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(similarity, cosines, atol=1e-6)
    assert (rows.dtype, similarity.dtype) == (np.int64, np.float32)


def test_other_samples_are_compared_with_all_rows(cloud):
    queries = np.random.default_rng(1).normal(size=(4, 6))
    rows, similarity = similar(Given(), cloud, queries, n=80)
    table = cosine_similarity(queries, cloud)
    np.testing.assert_array_equal(rows, np.argsort(-table, axis=1))
    np.testing.assert_allclose(similarity, np.take_along_axis(table, rows, axis=1), atol=1e-6)


def test_of_equally_similar_samples_the_first_ones_are_returned():
    X = np.tile(np.random.default_rng(0).normal(size=(1, 33)).astype(np.float32), (300, 1))
    rows, similarity = similar(Given(), X, [2, 299], n=3)
    np.testing.assert_array_equal(rows, [[0, 1, 3], [0, 1, 2]])
    np.testing.assert_allclose(similarity, 1, atol=1e-6)


def test_the_length_of_features_does_not_matter(cloud):
    rows, _ = similar(Given(), cloud, [0, 1])
    scaled = cloud * np.geomspace(1e-3, 1e3, 80, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(similar(Given(), scaled, [0, 1]).rows, rows)


def test_features_of_zeros_are_similar_to_nothing(cloud):
    cloud[4] = 0
    rows, similarity = similar(Given(), cloud, 4, n=2)
    np.testing.assert_array_equal(rows, [[0, 1]])
    np.testing.assert_array_equal(similarity, [[0, 0]])


def test_samples_and_features_stay_as_they_are(cloud):
    before = cloud.copy()
    similar(Given(), cloud, [1, 2])
    np.testing.assert_array_equal(cloud, before)


def test_every_kind_of_input_finds_the_same(model, few_images, tmp_path):
    expected = similar(model, few_images, [0, 7], n=4).rows
    np.save(tmp_path / "X.npy", few_images)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for X in (mapped, torch.from_numpy(few_images), Images(few_images)):
        np.testing.assert_array_equal(similar(model, X, [0, 7], n=4).rows, expected)
    found = similar(model, few_images, few_images[[0, 7]], n=5).rows
    np.testing.assert_array_equal(found[:, 0], [0, 7])
    np.testing.assert_array_equal(found[:, 1:], expected)


@pytest.mark.parametrize("query", [7, np.int32(7), [7], (7,), range(7, 8), np.array([7])])
def test_row_numbers_of_any_kind_are_taken(query, model, few_images):
    assert similar(model, few_images, query, n=3).rows.shape == (1, 3)


@pytest.mark.filterwarnings("ignore:.*cannot be read and are skipped:UserWarning")
def test_skipped_files_are_not_found_and_find_nothing(photos, photo_model):
    rows, similarity = similar(photo_model, photos, [2, 3], n=6)
    assert sorted(rows[0]) == [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(rows[1], -1)
    assert np.isnan(similarity[1]).all()
    with pytest.raises(ValueError, match=r"n=7, but a query can be compared with only 6 other sam"):
        similar(photo_model, photos, [2], n=7)


@pytest.mark.filterwarnings("ignore:.*cannot be read and are skipped:UserWarning")
def test_a_file_can_be_asked_for(photos, photo_model):
    for query in (photos / "5.png", [str(photos / "5.png")]):
        rows, similarity = similar(photo_model, photos, query, n=2)
        assert rows[0, 0] == 5
        np.testing.assert_allclose(similarity[0, 0], 1, atol=1e-6)


def test_pipelines_that_end_in_another_clusterer_compare_what_it_gets(model, few_images):
    for last in (KMeans(3, n_init=1, random_state=0), GaussianMixture(2, random_state=0)):
        pipeline = make_pipeline(model, PCA(5), last).fit(few_images)
        expected = PCA(5).fit_transform(pipeline[0].transform(few_images))
        np.testing.assert_allclose(features(pipeline, few_images), expected, atol=1e-3)
        assert similar(pipeline, few_images, 0).rows.shape == (1, 10)


def test_pipelines_and_searches_of_ours_compare_what_they_transform_to(blobs):
    X = blobs[0]
    pipeline = make_pipeline(StandardScaler(), ContrastiveClustering(3, max_epochs=1))
    search_ = GridSearchCV(pipeline, {}, cv=2).fit(X)
    np.testing.assert_array_equal(features(search_, X), search_.best_estimator_.transform(X))


def test_bad_numbers_of_samples_are_refused(cloud):
    for n in (0, -1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="expected an integer of at least 1"):
            similar(Given(), cloud, 0, n=n)
    with pytest.raises(ValueError, match="n=80, but a query can be compared with only 79 other"):
        similar(Given(), cloud, 0, n=80)


@pytest.mark.parametrize("queries", [-1, [0, 80], np.array([80])])
def test_rows_that_are_not_there_are_refused(queries, cloud):
    with pytest.raises(
        ValueError, match=r"but X has 80 samples; expected row numbers in \[0, 80\)"
    ):
        similar(Given(), cloud, queries)


def test_queries_of_another_kind_are_refused(cloud):
    for empty in ([], np.empty((0, 6)), ()):
        with pytest.raises(ValueError, match="There is nothing to search for: queries has"):
            similar(Given(), cloud, empty)
    with pytest.raises(TypeError, match="queries are booleans; expected row numbers, such as"):
        similar(Given(), cloud, np.arange(80) > 70)
    with pytest.raises(ValueError, match="The features of queries have 5 columns, those of X 6"):
        similar(Given(), cloud, cloud[:2, :5])


def test_estimators_that_cannot_be_asked_are_refused(blobs, few_images):
    X = blobs[0]
    for foreign in (KMeans(3, n_init=1), DBSCAN(), GaussianMixture(3)):
        with pytest.raises(TypeError, match=r"has no features of samples to compare\. Pass a fi"):
            similar(foreign.fit(X), X, 0)
    with pytest.raises(TypeError, match=r"features: make_pipeline\(model, KMeans\(\.\.\.\)\)\.fit"):
        similar(KMeans(3, n_init=1).fit(X), X, 0)
    with pytest.raises(TypeError, match=r"transform samples to features\.$"):
        similar(DBSCAN().fit(X), X, 0)
    with pytest.raises(NotFittedError):
        similar(ContrastiveClustering(3), few_images, 0)
    with pytest.raises(NotFittedError):
        similar(make_pipeline(FunctionTransformer(), KMeans(3)), X, 0)
    with pytest.raises(TypeError, match="Got the class ContrastiveClustering, expected a fitted"):
        similar(ContrastiveClustering, few_images, 0)
