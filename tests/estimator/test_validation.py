"""What X may be, and the errors for what it may not be."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from estimators import ESTIMATORS, each, each_kind
from sklearn import config_context
from sklearn.utils import get_tags
from torch import nn

from deepcluster_sk import ClusterContrast, ContrastiveClustering, TwinContrastClustering
from deepcluster_sk._data.preprocessing import Layout, Preprocessor
from deepcluster_sk._estimator import fitting, networks
from deepcluster_sk._estimator.opening import FileOptions
from deepcluster_sk._estimator.validation import check_input, check_parameters
from deepcluster_sk.exceptions import DivergenceError, EncoderError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NO_FILES = FileOptions("auto", "raise", verbose=False)


def model(**params):
    defaults = {"n_clusters": 2, "max_epochs": 2, "random_state": 0}
    return ContrastiveClustering(**{**defaults, **params})


def color_images(n=24, size=8, dtype=np.uint8):
    """Channels-last images."""
    images = np.random.default_rng(0).integers(0, 256, size=(n, size, size, 3))
    return images.astype(dtype)


def history_of(X, **params):
    fitted = model(**params).fit(X)
    return fitted.loss_curve_, fitted.labels_.tolist()


# ---- accepted


def test_rows_from_every_container_give_the_same_fit():
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    expected = history_of(X)
    # nested lists become float64, which rounds differently
    np.testing.assert_allclose(history_of(X.tolist())[0], expected[0], rtol=1e-4)
    for same in (
        np.asfortranarray(X),
        X[::-1][::-1],
        pd.DataFrame(X),
        pl.DataFrame(X),
        torch.from_numpy(X),
        torch.from_numpy(X).requires_grad_(),
    ):
        assert history_of(same) == expected


def test_negative_strides_are_read_in_their_order():
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    assert history_of(X[::-1]) == history_of(X[::-1].copy())


def test_half_precision_tensors_are_accepted():
    X = torch.rand(20, 4)
    for dtype in (torch.float16, torch.bfloat16):
        fitted = model().fit(X.to(dtype))
        assert fitted.predict(X.to(dtype)).tolist() == fitted.labels_.tolist()


def test_feature_names_are_kept_and_checked():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "b", "c"])
    fitted = model().fit(X)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(X[["b", "a", "c"]])


def test_flattened_images_with_image_shape_equal_images(few_images):
    flat = few_images.reshape(len(few_images), -1)
    assert history_of(flat, image_shape=(8, 8)) == history_of(few_images)


def test_both_channel_orders_give_the_same_fit():
    last = color_images()
    first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
    expected = history_of(last)
    assert history_of(first) == expected
    assert history_of(torch.from_numpy(first)) == expected
    assert history_of(first.reshape(24, -1), image_shape=(3, 8, 8)) == expected
    assert history_of(last.reshape(24, -1), image_shape=(8, 8, 3)) == expected


def test_a_single_channel_axis_equals_none(few_images):
    expected = history_of(few_images)
    assert history_of(few_images[..., None]) == expected
    assert history_of(few_images[:, None]) == expected


@pytest.mark.parametrize(
    ("X", "channels"),
    [
        (np.zeros((4, 3, 8, 3)), "last"),
        (torch.zeros(4, 3, 8, 3), "first"),
        (np.zeros((4, 3, 8, 8)), "first"),
        (np.zeros((4, 8, 8, 4)), "last"),
        (torch.zeros(4, 8, 8, 1), "last"),
    ],
)
def test_channel_axis_is_last_for_numpy_and_second_for_torch_when_both_fit(X, channels):
    samples = check_input(ContrastiveClustering(), X, image_shape=None, files=NO_FILES)
    assert samples.layout.channels == channels


def test_uint8_images_stay_uint8_and_are_not_copied(few_images):
    samples = check_input(ContrastiveClustering(), few_images, image_shape=None, files=NO_FILES)
    X, layout = samples.rows, samples.layout
    assert X.dtype == np.uint8
    assert np.shares_memory(X, few_images)
    x = Preprocessor.learn(X, layout)(torch.from_numpy(X))
    assert x.shape == (60, 1, 8, 8)
    torch.testing.assert_close(x[:, 0], torch.from_numpy(few_images) / 255)


def test_float_images_are_scaled_by_the_range_of_the_training_set():
    images = np.random.default_rng(0).uniform(-7, 12, size=(30, 8, 8))
    preprocess = Preprocessor.learn(images.reshape(30, -1), Layout((8, 8)))
    x = preprocess(torch.from_numpy(images.reshape(30, -1)))
    assert x.dtype == torch.float32
    assert (x.min().item(), x.max().item()) == (0, 1)
    again = model().fit(images * 100 + 5000)
    np.testing.assert_allclose(again.loss_curve_, model().fit(images).loss_curve_, rtol=1e-4)


@pytest.mark.parametrize("X", [np.full((80, 70), 7.0), np.zeros((80, 9, 9), np.uint8)])
@each_kind
def test_samples_that_are_all_alike_are_accepted_without_a_warning_of_numpy(estimator, X):
    """Of more columns than the search for neighbours compares."""
    model = estimator(3, max_epochs=2, random_state=0, neighbor_space="inputs").fit(X)
    assert set(model.labels_) == {0}


def test_constant_images_and_columns_are_accepted():
    model().fit(np.full((20, 8, 8), 3.5))
    rows = np.random.default_rng(0).normal(size=(20, 3))
    rows[:, 1] = 7
    model().fit(rows)


def test_columns_are_standardised_so_that_units_do_not_matter():
    X = np.random.default_rng(0).normal(size=(30, 4))
    scaled = X * [1, 1e3, 1e-3, 5] + [0, 1e6, 0, -3]
    first, second = (model(scale="columns").fit(of) for of in (scaled, X))
    np.testing.assert_allclose(first.loss_curve_, second.loss_curve_, rtol=1e-3)


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        ([1, 2, 3], "global"),
        ([1, 2, 50], "columns"),
        (np.linspace(0.5, 3, 50), "unit"),
        (np.linspace(0.5, 3, 49), "global"),
        (np.append(np.ones(60), 21), "columns"),
        ([0, 0, 0, 0, 1, 2, 3], "global"),  # constant columns do not count
    ],
)
def test_scale_follows_the_deviations_of_the_columns(deviations, expected):
    deviations = np.asarray(deviations, dtype=float)
    X = np.random.default_rng(0).normal(size=(200, len(deviations)))
    X *= deviations / X.std(axis=0)
    assert model().fit(X).scale_ == expected


@pytest.mark.parametrize(("scale", "expected"), [("auto", "global"), (None, None)])
def test_scale_of_rows_is_told(scale, expected):
    X = np.random.default_rng(0).normal(size=(30, 4))
    assert model(scale=scale).fit(X).scale_ == expected
    assert model(scale=scale).fit(np.random.default_rng(0).random((20, 8, 8))).scale_ is None


def test_rows_of_a_pipeline_stay_as_they_are():
    X = 3 + np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    seen = []

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            seen.append(x.detach().clone())
            return self.linear(x)

    fitted = model(scale=None, encoder=Seen).fit(X)
    seen.clear()
    fitted.transform(X)
    np.testing.assert_array_equal(torch.cat(seen)[: len(X)], X)


@pytest.mark.parametrize("kind", ["int64", "uint32", "frame", "polars", "memory map"])
def test_integers_keep_their_digits(kind, tmp_path):
    times = 1_700_000_000 + np.arange(40)
    X = np.stack([times, times % 7], axis=1)
    expected = history_of(X.astype(np.float64))
    np.save(tmp_path / "times.npy", X)
    forms = {
        "int64": X,
        "uint32": X.astype(np.uint32),
        "frame": pd.DataFrame(X),
        "polars": pl.DataFrame(X),
        "memory map": np.load(tmp_path / "times.npy", mmap_mode="r"),
    }
    assert history_of(forms[kind]) == expected


def test_narrow_integers_become_float32():
    for dtype in (np.int8, np.int16, np.uint16, bool):
        checked = check_input(model(), np.eye(4).astype(dtype), image_shape=None, files=NO_FILES)
        assert checked.rows.dtype == np.float32


LARGE = {
    "a column": (np.float64, 1e300, np.linspace(-1, 1, 20)),
    "one value": (np.float64, 1e300, np.eye(20)[3]),
    "a constant column": (np.float64, 1e300, np.ones(20)),
    "the largest numbers": (np.float64, np.finfo(float).max, (-1.0) ** np.arange(20)),
    "the largest float32": (np.float32, 3e38, (-1.0) ** np.arange(20)),
}


@pytest.mark.parametrize(("dtype", "size", "pattern"), LARGE.values(), ids=LARGE)
def test_values_that_cannot_be_scaled_are_refused_with_their_place(dtype, size, pattern):
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype)
    X[:, 1] = size * pattern
    message = r"X contains -?(1e\+300|3e\+38|1.79769e\+308) in column 1, which is too large to be"
    with pytest.raises(ValueError, match=message):
        model().fit(X)
    images = (size * pattern[:, None, None] * np.ones((20, 8, 8))).astype(dtype)
    with pytest.raises(ValueError, match="in an image, which is too large to be scaled"):
        model().fit(images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-310, 1e-300, 1e-100, 1e-45, 1e-40, 1e30, 1e36])
def test_columns_of_extreme_units_are_accepted(size, dtype):
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[:, 1] *= size
    fitted = model().fit(X.astype(dtype))
    for other in (np.float32, np.float64):
        assert np.isfinite(fitted.predict_proba(X.astype(other))).all()


@pytest.mark.parametrize("value", [1e300, -np.finfo(float).max, 3e38])
def test_new_values_far_beyond_the_training_set_are_outliers(value):
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = model().fit(rows)
    expected = fitted.predict_proba(with_value(rows, 3, np.sign(value) * 1e6))
    found = fitted.predict_proba(with_value(rows, 3, value))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("X", "n_features", "shape"),
    [
        (np.random.default_rng(0).random((20, 6)), 6, (6,)),
        (np.random.default_rng(0).random((20, 8, 6)), 48, (8, 6)),
        (color_images(20), 192, (8, 8, 3)),
    ],
)
def test_n_features_in_counts_pixels_and_input_shape_holds_the_given_shape(X, n_features, shape):
    fitted = model().fit(X)
    assert fitted.n_features_in_ == n_features
    assert fitted.input_shape_ == shape


def test_flattened_images_are_accepted_at_predict(few_images):
    fitted = model().fit(few_images)
    flat = few_images.reshape(60, -1)
    np.testing.assert_array_equal(fitted.predict(flat), fitted.predict(few_images))


def test_memory_maps_are_accepted(tmp_path, few_images):
    np.save(tmp_path / "x.npy", few_images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert history_of(mapped) == history_of(few_images)


# ---- refused, with what was got, what was expected and what to do

ROWS = np.random.default_rng(0).normal(size=(20, 4))


def with_value(X, row, value):
    X = np.array(X, dtype=float)
    X.reshape(len(X), -1)[row, 0] = value
    return X


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (with_value(ROWS, 7, np.nan), ValueError, r"contains NaN in row 7 \(1 of 20 rows"),
        (with_value(ROWS, 3, np.inf), ValueError, r"contains infinity \(inf\) in row 3 \(1 of 20"),
        (with_value(np.ones((9, 8, 8)), 5, np.nan), ValueError, "contains NaN in row 5"),
        (np.empty((0, 4)), ValueError, r"Found array with 0 sample\(s\)"),
        (np.empty((0, 8, 8)), ValueError, r"Found array with 0 sample\(s\)"),
        (np.empty((5, 0)), ValueError, r"Found array with 0 feature\(s\)"),
        (np.empty((5, 0, 8)), ValueError, "found images with 0 pixels, expected at least 1"),
        (ROWS[:1], ValueError, r"Found array with 1 sample\(s\).*minimum of 2 is required"),
        (ROWS[:, 0], ValueError, "Expected 2D array, got 1D array instead"),
        (3.0, ValueError, "Expected 2D array, got scalar array instead"),
        (np.zeros((4, 2, 8, 8, 3)), ValueError, r"X has 5 dimensions \(shape \(4, 2, 8, 8, 3\)\)"),
        ([[1.0, 2.0], [3.0]], ValueError, "X is a ragged list: its elements differ in shape"),
        (["a.png", "b.png"], ValueError, r"2 of 2 image files cannot be read:\n  'a.png': no such"),
        (["a text", "another"], ValueError, "To cluster texts, embed them with a language model"),
        ([], ValueError, "X is empty: found 0 samples, expected at least 2. Pass rows, images, or"),
        (pd.Series([], dtype=object), ValueError, "X is empty: found 0 samples"),
        (
            [["a.png"], ["b.png"]],
            ValueError,
            r"X \(ndarray of shape \(2, 1\)\) holds text, such as",
        ),
        (np.array([["x", {}]] * 4, dtype=object), ValueError, "holds text, such as 'x'.* encode"),
        (np.array([[{}, {}]] * 4, dtype=object), TypeError, "argument must be .* string.* number"),
        (ROWS + 1j, ValueError, "Complex data not supported"),
        (scipy.sparse.csr_matrix(ROWS), TypeError, "Sparse data was passed.*dense data"),
        (np.zeros((4, 8, 8, 2)), ValueError, r"No channel axis in images of shape \(8, 8, 2\)"),
        (None, ValueError, "Expected 2D array, got scalar array instead"),
    ],
)
def test_bad_training_data_is_refused(X, error, message):
    estimator = model()
    with pytest.raises(error, match=message):
        estimator.fit(X)
    assert vars(estimator) == model().get_params(deep=False), "partial state was left"


PATHS = ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("X", "got", "mend"),
    [
        (pd.DataFrame({"path": PATHS}), "DataFrame of shape (2, 1)", "such as df['path']"),
        (pd.DataFrame({"y": [0, 1], "path": PATHS}), "DataFrame of shape (2, 2)", "df['path']"),
        (pl.DataFrame({"path": PATHS}), "DataFrame of shape (2, 1)", "such as df['path']"),
        (np.array(PATHS)[:, None], "ndarray of shape (2, 1)", "np.ravel(X)"),
        (np.array([[Path("a.png")]] * 2), "ndarray of shape (2, 1)", "np.ravel(X)"),
        ([b"a.png", b"b.png"], "such as", "[os.fsdecode(path) for path in X]"),
        (np.array([[b"a.png"]] * 2), "such as", "[os.fsdecode(path) for path in X]"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "predict"])
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_paths_in_another_form_are_refused_with_the_form_to_pass(method, X, got, mend, few_images):
    estimator = model().fit(few_images) if method == "predict" else model()
    with pytest.raises(ValueError, match=r"holds text, such as \S*'a\.png'.* numbers") as caught:
        getattr(estimator, method)(X)
    assert got in str(caught.value)
    assert mend in str(caught.value)


@pytest.mark.parametrize("numpy_dtype", ["datetime64[s]", "timedelta64[s]"])
def test_columns_of_dates_beside_numbers_are_refused(numpy_dtype):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [0.5] * 4, "when": np.arange(4).astype(numpy_dtype)})
    with pytest.raises(TypeError, match="columns of types that no array of numbers holds together"):
        ContrastiveClustering(2).fit(frame)


def test_numbers_in_text_are_accepted():
    X = np.random.default_rng(0).normal(size=(20, 3)).round(3)
    assert history_of(X.astype(str)) == history_of(X)


def test_fewer_samples_than_clusters_are_refused():
    with pytest.raises(
        ValueError, match=r"n_samples=5 should be >= n_clusters=8\. Lower n_clusters"
    ):
        ContrastiveClustering(8).fit(ROWS[:5])


@pytest.mark.parametrize(
    ("X", "image_shape", "message"),
    [
        (np.zeros((5, 3072)), (3, 32, 33), r"image_shape=\(3, 32, 33\) needs 3168 columns"),
        (np.zeros((5, 64)), (64,), r"image_shape=\(64,\), expected \(H, W\), \(H, W, C\)"),
        (np.zeros((5, 64)), (8, -8), r"image_shape=\(8, -8\), expected .* positive integers"),
        (np.zeros((5, 64)), (8, 4, 2), r"No channel axis in images of shape \(8, 4, 2\)"),
        (np.zeros((5, 8, 8)), (4, 16), r"samples of shape \(8, 8\), but image_shape=\(4, 16\)"),
    ],
)
def test_image_shape_that_does_not_fit_is_refused(X, image_shape, message):
    with pytest.raises(ValueError, match=message):
        model(image_shape=image_shape).fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            np.zeros((3, 8, 9)),
            r"samples of shape \(8, 9\), but .* fitted with samples of shape \(8,",
        ),
        (np.zeros((3, 8, 8, 3)), r"samples of shape \(8, 8, 3\), but ContrastiveClustering was"),
        (np.zeros((3, 65)), "X has 65 features, but ContrastiveClustering is expecting 64"),
        (np.full((3, 8, 8), np.nan), "contains NaN in row 0"),
        (np.zeros((0, 8, 8)), r"Found array with 0 sample\(s\)"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score"])
def test_bad_new_data_is_refused(few_images, X, message, method):
    fitted = model(max_epochs=1).fit(few_images)
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(X)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "score"])
def test_an_estimator_that_is_not_fitted_says_so(method):
    with pytest.raises(ValueError, match="This ContrastiveClustering instance is not fitted yet"):
        getattr(model(), method)(ROWS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 0}, r"'n_clusters' .* must be an int in the range \[1, inf\) or .* Got 0"),
        (
            {"n_clusters": 2.5},
            r"'n_clusters' .* must be an int in the range \[1, inf\) or .* Got 2.5",
        ),
        ({"encoder": 3}, "'encoder' .* must be .* Got 3 instead"),
        ({"augmentation": "flips"}, "'augmentation' .* must be a str among .* Got 'flips'"),
        ({"image_shape": 8}, "'image_shape' .* must be .* Got 8 instead"),
        ({"projection_dim": 0}, r"'projection_dim' .* range \[1, inf\). Got 0"),
        ({"instance_temperature": 0}, r"'instance_temperature' .* range \(0.0, inf\). Got 0"),
        ({"cluster_temperature": -1}, r"'cluster_temperature' .* range \(0.0, inf\). Got -1"),
        ({"cluster_weight": -1}, r"'cluster_weight' .* range \[0.0, inf\). Got -1"),
        ({"entropy_weight": "a"}, r"'entropy_weight' .* range \[0.0, inf\). Got 'a'"),
        ({"max_epochs": 0}, "'max_epochs' .* Got 0 instead"),
        ({"max_epochs": "many"}, "'max_epochs' .* Got 'many' instead"),
        ({"batch_size": 0}, r"'batch_size' .* range \[1, inf\). Got 0"),
        ({"optimizer": "lion"}, "'optimizer' .* must be a str among .* Got 'lion'"),
        ({"learning_rate": 0}, r"'learning_rate' .* range \(0.0, inf\). Got 0"),
        ({"weight_decay": -0.1}, r"'weight_decay' .* range \[0.0, inf\). Got -0.1"),
        ({"schedule": "step"}, "'schedule' .* must be a str among .* Got 'step'"),
        ({"warmup": 1.0}, r"'warmup' .* range \[0.0, 1.0\). Got 1.0"),
        ({"device": 0}, "'device' .* Got 0 instead"),
        ({"precision": "float64"}, "'precision' .* must be a str among .* Got 'float64'"),
        ({"compile": "yes"}, "'compile' .* Got 'yes' instead"),
        ({"verbose": "loud"}, "'verbose' .* Got 'loud' instead"),
        ({"random_state": "a"}, "'random_state' .* Got 'a' instead"),
        ({"device": "tpu0"}, "device='tpu0' is not a device name"),
        ({"encoder": "cnn"}, "encoder='cnn' needs images, but X holds rows of 4 features"),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        model(**params).fit(ROWS)


# exactly what leaves a loss without negatives
NO_NEGATIVES = [
    (ClusterContrast, {"queue_size": 0}, "queue_size=0 and batch_negatives=False"),
    (TwinContrastClustering, {"queue_size": 0}, "queue_size=0 and batch_negatives=False"),
    (TwinContrastClustering, {"queue_size": 0, "alpha": 1.0}, "queue_size=0 and"),
    (TwinContrastClustering, {"n_cluster_sets": 0}, "n_cluster_sets=0 and batch_negatives=False"),
]
NEGATIVES = [
    (ClusterContrast, {"queue_size": 1}),
    (TwinContrastClustering, {"n_cluster_sets": 0, "alpha": 0.0}),
    (TwinContrastClustering, {"queue_size": 0, "alpha": 1.0, "cluster_start": 0.0}),
]


@pytest.mark.parametrize(("estimator", "params", "message"), NO_NEGATIVES)
def test_losses_without_negatives_are_refused(estimator, params, message, monkeypatch):
    monkeypatch.setattr(fitting, "read", None)  # nothing is read
    refused = estimator(2, batch_negatives=False, **params)
    for method in (refused.fit, refused.partial_fit):
        with pytest.raises(ValueError, match=f"{message}.* leave a loss without negatives"):
            method(ROWS)
    accepted = estimator(2, **params, batch_negatives=True)
    check_parameters(accepted)


@pytest.mark.parametrize(("estimator", "params"), NEGATIVES)
def test_losses_that_have_negatives_or_no_weight_are_accepted(estimator, params):
    fitted = estimator(2, max_epochs=2, random_state=0, batch_negatives=False, **params).fit(ROWS)
    assert np.isfinite(fitted.loss_curve_).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_settings_of_the_papers_have_negatives(estimator):
    for data_set in estimator.paper_results():
        check_parameters(estimator(**estimator.paper_settings(data_set)))


@each_kind
@pytest.mark.parametrize("X", ["rows", "images"])
def test_batches_of_one_sample_are_refused(estimator, X, few_images):
    X = ROWS if X == "rows" else few_images
    one = estimator(2, max_epochs=1, random_state=0, batch_size=1)
    for method in (one.fit, one.partial_fit):
        with pytest.raises(ValueError, match="batch_size=1 should be >= 2: each sample is told"):
            method(X)
    fitted = estimator(1, max_epochs=1, random_state=0, warm_start=True).fit(X)
    for method in (fitted.fit, fitted.partial_fit):
        with pytest.raises(ValueError, match="n_samples=1 should be >= 2: each sample is told"):
            method(X[:1])
    pair = estimator(2, max_epochs=1, random_state=0, batch_size=2).fit(X[:7])
    assert np.isfinite(pair.loss_curve_).all()  # the last batch of one is left out


SIZES = ["hidden_dim", "projection_dim", "n_heads", "n_fine_clusters", "queue_size"]


@each
@pytest.mark.parametrize("size", [10**12, 2**62, 10**30])
@pytest.mark.parametrize("name", [*SIZES, "n_cluster_sets"])
def test_networks_that_do_not_fit_into_memory_are_refused(estimator, name, size, few_images):
    if name not in estimator().get_params():
        return
    large = estimator(2, **{name: size}, device="cpu")
    for method in (large.fit, large.partial_fit):
        with pytest.raises(MemoryError, match=rf"{name}={size}\b.* takes at least .* GB, but cpu"):
            method(few_images)


@each
def test_the_check_of_sizes_changes_no_weight_and_counts_all_of_them(estimator, monkeypatch):
    fit = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    expected = estimator(2, **fit).fit(ROWS).predict_proba(ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "check_sizes", lambda *args: None)
        np.testing.assert_array_equal(estimator(2, **fit).fit(ROWS).predict_proba(ROWS), expected)
    hidden = "hidden_dim" in estimator().get_params()
    name, size = ("hidden_dim", 4096) if hidden else ("n_heads", 256)
    heads = estimator(2, **fit, **{name: size}).fit(ROWS)._objective
    encoder = {id(p) for p in heads.encoder.parameters()}
    learned = [p for p in heads.parameters() if p.requires_grad and id(p) not in encoder]
    n_bytes = 3 * sum(p.nbytes for p in learned)  # with gradients, and averages of the optimiser
    monkeypatch.setattr(networks, "available_memory", lambda device: n_bytes - 1)
    with pytest.raises(MemoryError, match=f"{name}={size}"):
        estimator(2, **fit, **{name: size}).fit(ROWS)


def test_an_error_of_a_constructor_is_not_taken_for_a_size(monkeypatch):
    def broken(*args):
        raise RuntimeError("broken")

    monkeypatch.setattr(networks, "build_objective", broken)
    with pytest.raises(RuntimeError, match="broken"):
        model().fit(ROWS)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_scikit_learn_may_skip_the_validation_of_parameters(method):
    odd = model(verbose=0.0)  # works, but is not of the documented type
    with pytest.raises(ValueError, match=r"'verbose' .* Got 0.0 instead"):
        getattr(odd, method)(ROWS)
    with config_context(skip_parameter_validation=True):
        assert len(getattr(odd, method)(ROWS).labels_) == len(ROWS)


def test_tags_know_the_cpu_by_any_name():
    for device in ("auto", "cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)):
        assert not get_tags(model(device=device)).non_deterministic
    for device in ("cuda", "cuda:1", torch.device("cuda", 0), "mps"):
        assert get_tags(model(device=device)).non_deterministic


def test_encoder_that_turns_to_nan_in_training_is_a_clear_error():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x) * (float("nan") if torch.is_grad_enabled() else 1.0)

    with pytest.raises(DivergenceError, match=r"Loss became nan in epoch 1 .*Lower learning_rate"):
        model(encoder=Broken).fit(ROWS)
    with pytest.raises(EncoderError, match="failed on a float32 batch"):
        model(encoder=nn.Linear(5, 3)).fit(ROWS)


def test_missing_values_are_not_accepted_and_the_error_says_what_to_do():
    with pytest.raises(ValueError, match="does not accept missing values: drop these rows or fill"):
        model().fit(with_value(ROWS, 3, np.nan))
    with pytest.raises(ValueError, match="needs finite values: drop these rows, or clip them"):
        model().fit(with_value(ROWS, 3, np.inf))


def test_a_failing_fit_keeps_the_earlier_one(few_images):
    fitted = model().fit(few_images)
    labels, shape = fitted.labels_, fitted.input_shape_
    for X in (with_value(ROWS, 0, np.nan), ROWS[:1]):
        with pytest.raises(ValueError, match=r"contains NaN|1 sample"):
            fitted.fit(X)
    fitted.set_params(learning_rate=1e30)
    with pytest.raises(DivergenceError):
        fitted.fit(ROWS)
    assert fitted.labels_ is labels
    assert fitted.input_shape_ == shape
    np.testing.assert_array_equal(fitted.predict(few_images), labels)
