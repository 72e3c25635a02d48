"""The displays, drawn on the Agg backend."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
import torch
from estimators import two
from PIL import Image
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk._data.image_files import find_image_files
from deepcluster_sk._inspection.assignments import assign, from_probabilities
from deepcluster_sk._inspection.pictures import pictures
from deepcluster_sk.display import (
    ClusterGalleryDisplay,
    ClusterMatchDisplay,
    ClusterNumberDisplay,
    ClusterSizeDisplay,
    ClusterTreeDisplay,
    EmbeddingDisplay,
    LossCurveDisplay,
)
from deepcluster_sk.metrics import clustering_accuracy_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def model(few_images):
    return ContrastiveClustering(3, max_epochs=2, random_state=0).fit(few_images)


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


@pytest.fixture
def photos(tmp_path):
    """Six colour photos in two folders, one of them lying on its side by EXIF, and other files."""
    rng = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / ("a" if i % 2 else "b")
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image", "utf-8")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


def ink(display):
    """Draw the whole figure; return the share of pixels that are not white."""
    display.figure_.canvas.draw()
    return (np.asarray(display.figure_.canvas.buffer_rgba())[..., :3] < 250).any(axis=2).mean()


def all_displays(model, X):
    y = model.predict(X)
    return [
        ClusterGalleryDisplay.from_estimator(model, X),
        ClusterMatchDisplay.from_estimator(model, X, y),
        ClusterSizeDisplay.from_estimator(model, X),
        EmbeddingDisplay.from_estimator(model, X),
        LossCurveDisplay.from_estimator(model),
    ]


@two
def test_unlike_methods_can_be_drawn(estimator, few_images):
    model = estimator(2, max_epochs=1, random_state=0).fit(few_images)
    for display in all_displays(model, few_images):
        assert ink(display) > 0.01


def test_rows_in_a_pipeline_can_be_drawn(wine):
    model = make_pipeline(StandardScaler(), ContrastiveClustering(3, max_epochs=1, random_state=0))
    for display in all_displays(model.fit(wine), wine):
        assert ink(display) > 0.01


def test_flattened_images_in_a_pipeline_are_shown_as_images(few_images):
    flat = few_images.reshape(60, 64)
    model = make_pipeline(
        StandardScaler(),
        ContrastiveClustering(2, max_epochs=1, image_shape=(8, 8), random_state=0),
    ).fit(flat)
    display = ClusterGalleryDisplay.from_estimator(model, flat)
    assert next(iter(display.samples.values())).shape == (56, 56)


@pytest.mark.parametrize("n_clusters", [1, 2, 30, 100])
def test_displays_draw_into_given_axes_for_any_number_of_clusters(n_clusters, few_images):
    rng = np.random.default_rng(0)
    X = np.tile(few_images, (5, 1, 1))
    labels = np.append(np.arange(n_clusters), rng.integers(n_clusters, size=300 - n_clusters))
    confidence = rng.random(300)
    figure, axes = matplotlib.pyplot.subplots(1, 5, figsize=(20, 4))
    displays = [
        ClusterGalleryDisplay.from_predictions(X, labels, confidence=confidence, ax=axes[0]),
        ClusterMatchDisplay.from_predictions(labels, labels[::-1], ax=axes[1]),
        ClusterSizeDisplay.from_predictions(labels, confidence=confidence, ax=axes[2]),
        EmbeddingDisplay.from_predictions(X.reshape(300, 64), labels, ax=axes[3]),
        LossCurveDisplay([2.0, 1.0], {"cluster": [0.0, 1.0]}).plot(ax=axes[4]),
    ]
    figure.canvas.draw()
    for display, ax in zip(displays, axes, strict=True):
        assert display.ax_ is ax
        assert display.figure_ is figure
        assert display.plot() is display  # a second time, on a figure of its own
        assert display.figure_ is not figure


def test_gallery_shows_the_most_and_the_least_confident_members():
    X = np.zeros((7, 8, 8))
    labels = [0, 0, 0, 0, 1, 1, -1]
    confidence = [0.2, 0.9, 0.5, 0.8, 0.3, 0.4, 0.99]
    display = ClusterGalleryDisplay.from_predictions(
        X, labels, confidence=confidence, n_confident=2, n_uncertain=1
    )
    np.testing.assert_array_equal(display.sizes, [4, 2])
    np.testing.assert_allclose(display.confidence, [0.6, 0.35])
    assert [rows.tolist() for rows in display.confident] == [[1, 3], [5, 4]]
    assert [rows.tolist() for rows in display.uncertain] == [[0], []]
    assert set(display.samples) == {0, 1, 3, 4, 5}


def test_gallery_says_sizes_and_confidences(model, few_images):
    display = ClusterGalleryDisplay.from_estimator(model, few_images)
    texts = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    found = assign(model, few_images)
    for k in np.unique(found.labels):
        assert texts[k] == f"cluster {k}\n{found.sizes[k]} · {found.mean_confidence[k]:.1%}"


def test_gallery_names_an_empty_cluster(few_images):
    display = ClusterGalleryDisplay.from_predictions(few_images, [0, 2] * 30)
    assert display.ax_.get_yticklabels()[1].get_text() == "cluster 1\nempty"


def test_gallery_shows_chosen_clusters_in_the_given_order(few_images):
    labels = np.arange(60) % 4
    display = ClusterGalleryDisplay.from_predictions(few_images, labels, clusters=[3, 1])
    assert [set(labels[rows]) for rows in display.confident] == [{3}, {1}]
    with pytest.raises(
        ValueError, match=r"clusters=\[4\], expected a list of integers in \[0, 4\)"
    ):
        ClusterGalleryDisplay.from_predictions(few_images, labels, clusters=[4])


def test_gallery_of_rows_shows_deviations_and_names_features(wine):
    rng = np.random.default_rng(0)
    labels, confidence = rng.integers(3, size=178), rng.random(178)
    display = ClusterGalleryDisplay.from_predictions(wine, labels, confidence=confidence)
    row = display.confident[0][0]
    expected = (wine.iloc[row] - wine.mean()) / wine.std(ddof=0)
    np.testing.assert_allclose(display.samples[row], expected)
    assert display.feature_names == list(wine.columns)
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == [*wine.columns, *wine.columns]


@pytest.mark.parametrize("kind", ["polars", "dataset", "dataset with labels"])
def test_rows_in_any_container_are_drawn_as_rows(kind, wine, tmp_path):
    rows = wine.to_numpy()
    if kind == "polars":
        X = pytest.importorskip("polars").from_pandas(wine)
    else:
        tensors = [torch.tensor(row) for row in rows]
        X = Rows(tensors if kind == "dataset" else [(tensor, 0) for tensor in tensors])
    model = ContrastiveClustering(3, max_epochs=2, n_heads=1, random_state=0).fit(X)
    gallery = ClusterGalleryDisplay.from_estimator(model, X)
    expected = ClusterGalleryDisplay.from_predictions(rows, model.labels_)
    names = list(wine.columns) if kind == "polars" else [str(i) for i in range(rows.shape[1])]
    assert gallery.feature_names == names
    member = int(expected.confident[0][0])
    again = ClusterGalleryDisplay.from_predictions(X, model.labels_)
    np.testing.assert_allclose(again.samples[member], expected.samples[member])
    page = report(model, X, tmp_path / "page.html").read_text("utf-8")
    assert "What tells cluster 0 from the others" in page


class Rows(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_a_search_is_drawn_as_its_best_estimator(blobs, tmp_path):
    model = ContrastiveClustering(3, max_epochs=2, n_heads=1, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2).fit(blobs[0])
    best = search.best_estimator_
    gallery = ClusterGalleryDisplay.from_estimator(search, blobs[0])
    np.testing.assert_array_equal(gallery.sizes, np.bincount(best.predict(blobs[0]), minlength=3))
    assert LossCurveDisplay.from_estimator(search).loss_curve == best[-1].loss_curve_
    assert report(search, blobs[0], tmp_path / "page.html").exists()


# what each display and the report make of an estimator and rows
SHOWN = {
    "gallery": ClusterGalleryDisplay.from_estimator,
    "sizes": ClusterSizeDisplay.from_estimator,
    "embedding": EmbeddingDisplay.from_estimator,
    "match": lambda estimator, X: ClusterMatchDisplay.from_estimator(estimator, X, [0] * len(X)),
    "losses": lambda estimator, X: LossCurveDisplay.from_estimator(estimator),
    "report": lambda estimator, X: report(estimator, X, Path(mkdtemp(), "report.html")),
}


@pytest.mark.parametrize("shown", ["gallery", "sizes", "embedding"])
def test_an_estimator_without_probabilities_is_refused(shown, blobs):
    with pytest.raises(TypeError, match=r"KMeans has no method predict_proba\. .*from_predic"):
        SHOWN[shown](KMeans(3, n_init=1).fit(blobs[0]), blobs[0])


@pytest.mark.parametrize("shown", ["gallery", "sizes"])
def test_a_pipeline_that_ends_in_labels_alone_is_drawn(shown, blobs):
    X = blobs[0]
    estimator = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(X)
    display = SHOWN[shown](estimator, X)
    np.testing.assert_array_equal(display.sizes, np.bincount(estimator.predict(X)))


def test_a_pipeline_that_ends_without_predictions_is_refused(blobs):
    with pytest.raises(
        TypeError, match=r"DBSCAN has no method predict\. Pass a fitted estimator of deepcluster_sk"
    ):
        assign(make_pipeline(StandardScaler(), DBSCAN()).fit(blobs[0]), blobs[0])


def test_an_estimator_without_features_is_refused(blobs):
    mixture = GaussianMixture(3).fit(blobs[0])
    with pytest.raises(TypeError, match="Mixture has no features of samples to compare"):
        EmbeddingDisplay.from_estimator(mixture, blobs[0])


def test_an_estimator_without_predictions_is_refused(blobs):
    with pytest.raises(TypeError, match=r"DBSCAN has no method predict\. .*from_predictions"):
        SHOWN["match"](DBSCAN().fit(blobs[0]), blobs[0])


@pytest.mark.parametrize("shown", ["losses", "report"])
@pytest.mark.parametrize("last", [KMeans(3, n_init=1), GaussianMixture(3), PCA(2)])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_an_estimator_without_losses_is_refused(shown, last, in_pipeline, blobs):
    estimator = (make_pipeline(StandardScaler(), last) if in_pipeline else last).fit(blobs[0])
    message = rf"{type(last).__name__} has no loss curve and no .*from_predictions\. display\.clu"
    with pytest.raises(TypeError, match=message):
        SHOWN[shown](estimator, blobs[0])


def test_no_estimator_at_all_is_refused(blobs):
    with pytest.raises(TypeError, match="str has no loss curve and no parameters of deepcluster"):
        LossCurveDisplay.from_estimator(make_pipeline(StandardScaler(), "passthrough"))


def test_a_foreign_estimator_with_probabilities_is_drawn(blobs):
    X = blobs[0]
    mixture = GaussianMixture(3, random_state=0).fit(X)
    sizes = np.bincount(mixture.predict(X), minlength=3)
    np.testing.assert_array_equal(ClusterSizeDisplay.from_estimator(mixture, X).sizes, sizes)
    np.testing.assert_array_equal(ClusterGalleryDisplay.from_estimator(mixture, X).sizes, sizes)


@pytest.mark.parametrize("shown", SHOWN)
def test_a_class_in_place_of_an_estimator_is_refused(shown, blobs):
    with pytest.raises(
        TypeError, match=r"Got the class ContrastiveClustering, expected .*Clustering\(\)\.fit\(X\)"
    ):
        SHOWN[shown](ContrastiveClustering, blobs[0])


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("how", ["alone", "in a pipeline", "in a search"])
def test_an_estimator_that_is_not_fitted_is_refused(shown, how, blobs):
    estimator = ContrastiveClustering(3)
    if how == "in a pipeline":
        estimator = make_pipeline(estimator)
    elif how == "in a search":
        estimator = GridSearchCV(estimator, {}, cv=2)
    with pytest.raises(NotFittedError):
        SHOWN[shown](estimator, blobs[0])


def test_a_search_without_a_best_estimator_is_refused():
    search = GridSearchCV(ContrastiveClustering(3), {}, refit=False)
    with pytest.raises(NotFittedError, match=r"no best_estimator_ to show\. Call fit, with refit"):
        LossCurveDisplay.from_estimator(search)


@pytest.mark.parametrize("numbers", [(0, 0), (-2, 1)])
def test_a_gallery_of_nobody_is_refused(numbers, few_images):
    n_confident, n_uncertain = numbers
    with pytest.raises(ValueError, match="at least one member to show"):
        ClusterGalleryDisplay.from_predictions(
            few_images, np.arange(60) % 3, n_confident=n_confident, n_uncertain=n_uncertain
        )


def test_labels_that_are_not_integers_are_refused(few_images):
    with pytest.raises(ValueError, match=r"labels have shape \(60,\) and dtype float64"):
        ClusterSizeDisplay.from_predictions(np.zeros(60))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ClusterGalleryDisplay.from_predictions(few_images, [0, 1])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 8, 6), (4, 32, 24)),
        ((4, 8, 6, 1), (4, 32, 24)),
        ((4, 8, 6, 3), (4, 32, 24, 3)),
        ((4, 3, 8, 6), (4, 32, 24, 3)),
        ((4, 8, 6, 4), (4, 32, 24, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_pictures_have_one_form_whatever_the_images(shape, expected, dtype):
    X = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    rendered = pictures(X, np.arange(4), side=32)
    assert rendered.shape == expected
    assert rendered.dtype == np.uint8
    flat = pictures(X.reshape(4, -1), np.arange(4), input_shape=shape[1:], side=32)
    np.testing.assert_array_equal(flat, rendered)


def test_lists_of_images_and_of_rows_are_told_apart(few_images):
    labels = [0, 1] * 30
    images = ClusterGalleryDisplay.from_predictions(list(few_images), labels)
    assert images.feature_names is None
    rows = ClusterGalleryDisplay.from_predictions(few_images.reshape(60, 64).tolist(), labels)
    assert len(rows.feature_names) == 64


def test_pictures_of_uint8_keep_their_brightness_and_floats_are_stretched():
    X = np.full((2, 8, 8), 100, np.uint8)
    X[1] = 50
    assert set(np.unique(pictures(X, [0, 1], side=8))) == {50, 100}
    assert set(np.unique(pictures(X.astype(float), [0, 1], side=8))) == {0, 255}


def test_files_are_listed_sorted_and_shown_as_squares(photos):
    files = find_image_files(photos)
    assert [os.path.relpath(path, photos) for path in files] == [
        *("a/1.png", "a/3.png", "a/5.png"),
        *("b/0.png", "b/2.png", "b/4.png"),
    ]
    for paths in (files, [Path(file) for file in files], np.array(files), pd.Series(files)):
        assert pictures(paths, [0, 5], side=16).shape == (2, 16, 16, 3)


def test_gallery_of_a_folder_shows_its_files_even_if_one_is_damaged(photos):
    (photos / "a" / "1.png").write_bytes(b"damaged")
    display = ClusterGalleryDisplay.from_predictions(photos, [0, 0, 0, 1, 1, 1])
    assert display.samples[0].min() == display.samples[0].max() == 128
    assert np.ptp(display.samples[1]) > 0


def test_pictures_stand_upright(tmp_path):
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:5] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    shown = pictures([tmp_path / "turned.png"], [0], side=10)[0]
    assert shown[:5].max() == 0
    assert shown[5:].min() == 255


def test_only_the_chosen_samples_of_a_dataset_are_read():
    read = []

    class Dataset:
        def __len__(self):
            return 100

        def __getitem__(self, row):
            read.append(row)
            return np.full((8, 8), row), 0

    assert pictures(Dataset(), np.array([3, 50]), side=8).shape == (2, 8, 8)
    assert read == [3, 50]


def test_confidence_tells_apart_what_rounds_to_one():
    probabilities = np.array([[1, 1e-9], [1, 1e-12], [1e-3, 1]], np.float32)
    found = from_probabilities(probabilities)
    np.testing.assert_array_equal(found.labels, [0, 0, 1])
    assert found.members(0).tolist() == [1, 0]


@pytest.mark.parametrize("missing", [np.nan, 0.0])
def test_rows_without_an_assignment_belong_to_no_cluster(missing):
    found = from_probabilities([[0.2, 0.8], [missing, missing]])
    np.testing.assert_array_equal(found.labels, [1, -1])
    np.testing.assert_array_equal(found.sizes, [0, 1])
    np.testing.assert_allclose(found.mean_confidence, [np.nan, 0.8])


def test_sizes_count_certain_members():
    display = ClusterSizeDisplay.from_predictions(
        [0, 0, 0, 1, -1], confidence=[0.95, 0.5, 0.9, 0.2, 0.99], n_clusters=3
    )
    np.testing.assert_array_equal(display.sizes, [3, 1, 0])
    np.testing.assert_array_equal(display.n_certain, [2, 0, 0])
    heights = [[patch.get_height() for patch in bars] for bars in display.bars_]
    assert heights == [[2, 0, 0], [1, 1, 0]]


def test_sizes_have_room_for_their_numbers_where_all_members_are_certain():
    display = ClusterSizeDisplay.from_predictions(np.arange(60) % 3, confidence=np.ones(60))
    assert display.ax_.get_ylim()[1] > 20


def test_match_shows_the_matched_table_and_its_accuracy():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(4, size=50), rng.integers(6, size=50)
    display = ClusterMatchDisplay.from_predictions(true, pred)
    assert display.accuracy == pytest.approx(clustering_accuracy_score(true, pred))
    for row, name in enumerate(display.classes):
        for column, cluster in enumerate(display.clusters):
            assert display.table[row, column] == np.sum((true == name) & (pred == cluster))


def test_match_leaves_out_samples_without_a_cluster():
    class Skipping:
        def predict(self, X):
            return np.array([0, -1, 1, -1])

    display = ClusterMatchDisplay.from_estimator(Skipping(), np.zeros((4, 1)), list("abba"))
    np.testing.assert_array_equal(display.table, [[1, 0], [0, 1]])


def test_loss_curve_draws_every_term_but_not_the_zeros_before_its_start(model):
    display = LossCurveDisplay.from_estimator(model)
    assert [ax.get_title(loc="left") for ax in display.axes_] == ["loss", *model.history_]
    np.testing.assert_allclose(display.lines_[0].get_ydata(), model.loss_curve_)
    late = LossCurveDisplay([1, 2, 3, 4], {"cluster": [0, 0, 5, 0]}).plot()
    np.testing.assert_allclose(late.lines_[1].get_ydata(), [np.nan, np.nan, 5, 0])


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_embedding_projects_a_subset_and_marks_the_least_confident(projection, model, few_images):
    display = EmbeddingDisplay.from_estimator(
        model,
        few_images,
        projection=projection,
        max_samples=40,
        n_uncertain=3,
        thumbnails=True,
    )
    assert display.positions.shape == (40, 2)
    found = assign(model, few_images)
    np.testing.assert_array_equal(display.labels, found.labels[display.rows])
    ringed = found.confidence[display.rows[display.uncertain]]
    rest = np.delete(found.confidence[display.rows], display.uncertain)
    assert ringed.max() <= rest.min()
    assert display.thumbnails
    again = EmbeddingDisplay.from_estimator(
        model, few_images, projection=projection, max_samples=40, n_uncertain=3
    )
    np.testing.assert_array_equal(again.positions, display.positions)


def test_embedding_of_labels_alone_shows_the_features_before_them(blobs):
    X = blobs[0]
    pipeline = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(X)
    display = EmbeddingDisplay.from_estimator(pipeline, X)
    scaled = StandardScaler().fit_transform(X)
    expected = EmbeddingDisplay.from_predictions(scaled, pipeline.predict(X))
    np.testing.assert_allclose(display.positions, expected.positions, atol=1e-4)
    np.testing.assert_array_equal(display.labels, pipeline.predict(X))


def test_embedding_of_two_features_keeps_their_distances():
    X = np.random.default_rng(0).normal(size=(20, 2))
    positions = EmbeddingDisplay.from_predictions(X, np.zeros(20, int)).positions
    distances = [np.linalg.norm(a[:, None] - a, axis=2) for a in (X, positions)]
    np.testing.assert_allclose(*distances, atol=1e-12)


def test_embedding_of_one_feature_or_few_samples_is_drawn():
    for X in (np.arange(5.0)[:, None], np.eye(2)):
        for projection in ("pca", "tsne"):
            display = EmbeddingDisplay.from_predictions(X, np.arange(len(X)), projection=projection)
            assert display.positions.shape == (len(X), 2)


def test_embedding_refuses_what_it_cannot_draw(model, few_images, wine):
    with pytest.raises(ValueError, match="projection='umap', expected 'pca' or 'tsne'"):
        EmbeddingDisplay.from_estimator(model, few_images, projection="umap")
    with pytest.raises(
        ValueError, match=r"Thumbnails need images, but the samples are rows of 13 features"
    ):
        EmbeddingDisplay.from_predictions(wine, np.zeros(178, int), images=wine)


def test_cluster_numbers_are_fitted_scored_and_drawn(blobs):
    X, _ = blobs
    display = ClusterNumberDisplay.from_estimator(
        ContrastiveClustering(max_epochs=2), X, n_clusters=[2, 3], n_fits=2
    )
    drawn = {line.get_label(): line.get_ydata() for line in display.lines_}
    assert set(drawn) == {"silhouette", "mean confidence", "stability"}
    for name, values in drawn.items():
        np.testing.assert_allclose(values, display.scores[name].mean(axis=1))


def test_importing_displays_imports_neither_matplotlib_nor_torch():
    code = (
        "import sys, deepcluster_sk.display;"
        "sys.exit(bool({'matplotlib', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "deepcluster_sk\[plot\]"'):
        ClusterSizeDisplay.from_predictions([0, 1])


def test_the_tree_draws_scipys_dendrogram(model):
    display = ClusterTreeDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.linkage, model.linkage_)
    assert sorted(display.leaves_) == [0, 1, 2]
    texts = [label.get_text() for label in display.ax_.get_yticklabels()]
    sizes = model.cluster_sizes_
    assert texts == [f"{cluster} ({sizes[cluster]})" for cluster in display.leaves_]
    positions = [tick for segment in display.ax_.collections[0].get_segments() for tick in segment]
    assert max(x for x, _ in positions) == pytest.approx(model.linkage_[-1, 2])


def test_the_tree_takes_names_axes_and_pipelines(model, few_images):
    ax = matplotlib.pyplot.subplots()[1]
    display = ClusterTreeDisplay.from_estimator(
        make_pipeline(model), names=["shirts", "shoes", "hats"], ax=ax
    )
    assert display.ax_ is ax
    assert {label.get_text() for label in ax.get_yticklabels()} == {"shirts", "shoes", "hats"}


def test_what_has_no_tree_is_refused(model, few_images):
    with pytest.raises(TypeError, match="KMeans has no linkage_"):
        ClusterTreeDisplay.from_estimator(KMeans(2).fit(few_images.reshape(60, -1)))
    with pytest.raises(NotFittedError):
        ClusterTreeDisplay.from_estimator(ContrastiveClustering())
    with pytest.raises(ValueError, match="has a single cluster; a tree needs at least two"):
        ClusterTreeDisplay.from_estimator(model.cut(1))
    with pytest.raises(
        ValueError, match=r"2 names for 3 clusters\. Pass one name for each cluster"
    ):
        ClusterTreeDisplay.from_estimator(model, names=["a", "b"])
