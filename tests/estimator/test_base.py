"""The promises that every estimator keeps."""

import copy
import importlib
import pickle
import signal
import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from estimators import ESTIMATORS, each, each_in_time, each_kind, two
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk._training import row_map
from deepcluster_sk.exceptions import AugmentationError
from deepcluster_sk.metrics import clustering_accuracy_scorer, embedding_silhouette_score

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request, few_images):
    return request.param(3, **FAST).fit(few_images)


@pytest.fixture(scope="module")
def many_images(digits):
    return (digits[0] * 15).astype(np.uint8)[:600]


# ---- what a fit yields


def test_labels_equal_predictions_of_the_training_set(fitted, few_images):
    labels = fitted.predict(few_images)
    np.testing.assert_array_equal(fitted.labels_, labels)
    np.testing.assert_array_equal(labels, fitted.predict_proba(few_images).argmax(axis=1))
    assert labels.dtype == fitted.labels_.dtype == np.int64


@each
def test_labels_equal_predictions_where_clusters_tie(estimator, few_images, monkeypatch):
    def coarse(objective, assignments):
        second = assignments.topk(2, dim=1).values[:, 1:]
        return (assignments >= second).float()

    monkeypatch.setattr(estimator._objective_class, "calibrated", coarse)
    model = estimator(3, **FAST).fit(few_images)
    assignments = model.predict_proba(few_images)
    assert ((assignments == assignments.max(axis=1, keepdims=True)).sum(axis=1) > 1).any()
    np.testing.assert_array_equal(model.labels_, model.predict(few_images))


def trimmed(images):
    return images[..., 3:-3, 3:-3]


@each_kind
@pytest.mark.parametrize("augmentation", ["auto", trimmed])
def test_views_may_be_smaller_than_the_images(estimator, augmentation, few_images):
    enlarged = few_images.repeat(3, axis=1).repeat(3, axis=2)  # "cnn" sees 20 x 20 pixels
    model = estimator(3, encoder="cnn", augmentation=augmentation, **FAST).fit(enlarged)
    np.testing.assert_array_equal(model.labels_, model.predict(enlarged))


def test_views_of_a_size_that_the_encoder_does_not_take_are_refused(few_images):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    model = ContrastiveClustering(3, encoder=encoder, augmentation=trimmed, **FAST)
    shapes = r"makes views of shape \(1, 2, 2\) of samples of shape \(1, 8, 8\), which the encoder "
    with pytest.raises(AugmentationError, match=shapes + "does not take .RuntimeError: mat1"):
        model.fit(few_images)
    assert not hasattr(model, "labels_")


@each
def test_a_training_in_half_precision_is_near_that_in_float32(estimator, few_images):
    fits = [
        estimator(3, precision=precision, **FAST).fit(few_images)
        for precision in ("bfloat16", "float32")
    ]
    half, full = (fit.loss_curve_[0] for fit in fits)
    assert half == pytest.approx(full, rel=0.05)
    np.testing.assert_array_equal(fits[0].labels_, fits[0].predict(few_images))


def test_a_copy_for_predictions_has_no_parts_of_the_training(fitted, few_images):
    objective = fitted._objective
    copied = objective.copy_for_prediction()
    left = {name.split(".")[0] for name in copied.state_dict()}
    assert not any(name.startswith("key_") or name.endswith("queue") for name in left)
    features = torch.from_numpy(fitted.transform(few_images))
    with torch.no_grad():
        assert torch.equal(copied.probabilities(features), objective.probabilities(features))
    names = {name.split(".")[0] for name in objective.state_dict()}
    has_queue = getattr(fitted, "queue_size", 0) > 0
    assert ("queue" in names) == has_queue  # the estimator keeps its own


class Counting(nn.Module):
    """Flatten images; count the passes over all of them outside of the steps."""

    n_passes = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 16)

    def forward(self, x):
        if not self.training and len(x) == 60:
            type(self).n_passes += 1
        return self.layer(x.flatten(1))


@each
def test_rows_are_mapped_once_after_the_last_epoch(estimator, few_images, monkeypatch):
    monkeypatch.setattr(Counting, "n_passes", 0)
    images = few_images.reshape(60, 8, 8)
    model = estimator(3, encoder=Counting(), n_neighbors=0, cluster_start=0.9, **FAST)
    model.fit(images)  # three epochs, in none of which clusters start
    assert Counting.n_passes == 1


def test_assignments_are_distributions_over_the_clusters(fitted, few_images):
    assignments = fitted.predict_proba(few_images)
    assert assignments.shape == (60, 3)
    assert assignments.dtype == np.float32
    np.testing.assert_allclose(assignments.sum(axis=1), 1, rtol=1e-5)
    assert (assignments >= 0).all()


def test_transform_returns_the_features_of_the_trained_encoder(fitted, few_images):
    features = fitted.transform(few_images)
    assert features.dtype == np.float32
    assert not fitted.encoder_.training
    with torch.no_grad():
        expected = fitted.encoder_(torch.from_numpy(few_images)[:, None].float() / 255)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@each_kind
def test_fit_predict_and_fit_transform_equal_fit_then_the_method(estimator, few_images):
    model = estimator(3, **FAST)
    fitted = clone(model).fit(few_images)
    np.testing.assert_array_equal(clone(model).fit_predict(few_images), fitted.labels_)
    np.testing.assert_array_equal(
        clone(model).fit_transform(few_images), fitted.transform(few_images)
    )


def test_outputs_do_not_depend_on_batch_or_order(fitted, few_images):
    assignments, features = fitted.predict_proba(few_images), fitted.transform(few_images)
    order = np.random.default_rng(0).permutation(60)
    for rows in (order, np.arange(7), [5]):
        np.testing.assert_allclose(
            fitted.predict_proba(few_images[rows]), assignments[rows], rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            fitted.transform(few_images[rows]), features[rows], rtol=1e-4, atol=1e-5
        )


def test_history_has_one_value_per_term_and_epoch(fitted):
    assert fitted.n_iter_ == 3
    assert len(fitted.loss_curve_) == 3
    assert all(len(values) == 3 for values in fitted.history_.values())
    assert np.isfinite(list(fitted.history_.values())).all()


def test_clusters_are_numbered_by_size(fitted):
    sizes = np.bincount(fitted.labels_, minlength=3)
    np.testing.assert_array_equal(fitted.cluster_sizes_, sizes)
    assert (np.diff(fitted.cluster_sizes_) <= 0).all()


@each
def test_empty_clusters_come_last_with_one_warning(estimator):
    X = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32).repeat(4, axis=0)
    model = estimator(15, max_epochs=1, random_state=0)
    with pytest.warns(
        ConvergenceWarning, match="of 15 clusters are empty after 1 epochs"
    ) as caught:
        model.fit(X)
    assert len(caught) == 1
    n_empty = (model.cluster_sizes_ == 0).sum()
    assert str(caught[0].message).startswith(f"{n_empty} of 15")
    assert caught[0].filename == __file__
    assert set(model.labels_) == set(range(15 - n_empty))


@each
def test_one_cluster_takes_all(estimator, few_images):
    model = estimator(1, **FAST).fit(few_images)
    assert set(model.labels_) == {0}
    assert np.isfinite(model.loss_curve_).all()


def test_score_is_the_silhouette_of_the_features(fitted, few_images):
    expected = silhouette_score(
        fitted.transform(few_images), fitted.predict(few_images), metric="cosine"
    )
    assert fitted.score(few_images) == pytest.approx(expected)
    assert fitted.score(few_images, np.zeros(60)) == pytest.approx(expected)


def test_score_is_worst_when_it_is_undefined(fitted, few_images):
    one_cluster = few_images[fitted.labels_ == 0]
    assert fitted.score(one_cluster) == -1
    assert fitted.score(few_images[:1]) == -1


def test_score_of_many_rows_is_that_of_a_fixed_subset(fitted, few_images, monkeypatch):
    few = partial(embedding_silhouette_score, max_samples=20)
    monkeypatch.setattr("deepcluster_sk._estimator.base.embedding_silhouette_score", few)
    score = fitted.score(few_images)
    assert score == fitted.score(few_images)
    subset = np.random.default_rng(0).choice(60, 20, replace=False)
    assert score == pytest.approx(fitted.score(few_images[subset]))


# ---- it finds clusters


@each
def test_rows_in_separate_groups_are_found(estimator, blobs):
    X, y = blobs
    labels = estimator(3, random_state=0, max_epochs=20).fit_predict(X)
    assert adjusted_rand_score(y, labels) > 0.9


@each_in_time
def test_digits_are_clustered_better_than_by_kmeans(estimator, digits, full_searches):
    images, y = digits
    keep = y < 4
    images, y = images[keep], y[keep]
    labels = estimator(4, random_state=0, max_epochs=40).fit_predict(images)
    kmeans = KMeans(4, random_state=0).fit_predict(images.reshape(len(images), -1))
    least = 0.9 if estimator().encoder == "auto" else 0.0  # pixels as they are tell less
    assert adjusted_rand_score(y, labels) > max(least, adjusted_rand_score(y, kmeans) - 0.02)


# ---- reproducibility


@each
def test_one_random_state_gives_the_same_bits_after_any_other_fits(estimator, few_images, blobs):
    def outcome():
        model = estimator(3, **FAST).fit(few_images)
        return model.history_, model.labels_.tolist(), model.predict_proba(few_images).tolist()

    first = outcome()
    estimator(2, max_epochs=1).fit(blobs[0])
    torch.rand(3), np.random.rand(3)
    assert outcome() == first


@each_kind
def test_random_states_differ(estimator, few_images):
    def curve(random_state):
        return estimator(3, max_epochs=1, random_state=random_state).fit(few_images).loss_curve_

    assert curve(0) != curve(1)
    assert curve(None) != curve(None)
    assert curve(np.random.RandomState(4)) == curve(4)


@each_kind
def test_a_foreign_augmentation_is_reproducible(estimator, few_images):
    def noisy(x):
        return x + 0.1 * torch.randn_like(x)

    curves = [
        estimator(2, augmentation=noisy, **FAST).fit(few_images).loss_curve_ for _ in range(2)
    ]
    assert curves[0] == curves[1]


@each_kind
def test_an_encoder_with_dropout_is_reproducible(estimator, blobs):
    def net():
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5))

    curves = [estimator(2, encoder=net, **FAST).fit(blobs[0]).loss_curve_ for _ in range(2)]
    assert curves[0] == curves[1]


# ---- state between calls


@each
def test_the_encoder_parameter_is_not_trained_in_place(estimator, blobs):
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
    before = copy.deepcopy(module.state_dict())
    model = estimator(2, encoder=module, **FAST).fit(blobs[0])
    assert model.encoder is module
    assert model.encoder_ is not module
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("copier", ["pickle", "joblib", "deepcopy"])
def test_copies_predict_the_same(fitted, few_images, copier, tmp_path):
    if copier == "pickle":
        other = pickle.loads(pickle.dumps(fitted))
    elif copier == "joblib":
        joblib.dump(fitted, tmp_path / "model.joblib")
        other = joblib.load(tmp_path / "model.joblib")
    else:
        other = copy.deepcopy(fitted)
    np.testing.assert_array_equal(other.predict_proba(few_images), fitted.predict_proba(few_images))
    np.testing.assert_array_equal(other.labels_, fitted.labels_)


def test_pickles_opened_in_a_new_process_predict_the_same(few_images, tmp_path):
    models = [estimator(3, **FAST).fit(few_images) for estimator in ESTIMATORS]
    for number, model in enumerate(models):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", few_images)
    code = (
        "import pickle, sys, numpy as np\n"
        "for number in range(int(sys.argv[1])):\n"
        "    model = pickle.load(open(f'{number}.pkl', 'rb'))\n"
        "    np.save(f'{number}.npy', model.predict_proba(np.load('x.npy')))\n"
    )
    command = [sys.executable, "-c", code, str(len(models))]
    subprocess.run(command, cwd=tmp_path, check=True)
    for number, model in enumerate(models):
        found = np.load(tmp_path / f"{number}.npy")
        np.testing.assert_allclose(found, model.predict_proba(few_images), rtol=1e-5, atol=1e-7)


def test_clone_is_unfitted_and_refits_to_the_same(fitted, few_images, full_searches):
    other = clone(fitted)
    assert not hasattr(other, "labels_")
    assert other.fit(few_images).loss_curve_ == fitted.loss_curve_


@each_kind
def test_a_pickle_holds_neither_data_nor_optimizer(estimator, many_images):
    model = estimator(3, **{**FAST, "max_epochs": 1}).fit(many_images)
    size = sum(t.numel() * t.element_size() for t in model._objective.state_dict().values())
    assert len(pickle.dumps(model)) < 1.2 * size + 8 * len(many_images) + 1e5
    double = estimator(3, **{**FAST, "max_epochs": 1}).fit(np.tile(many_images, (2, 1, 1)))
    growth = len(pickle.dumps(double)) - len(pickle.dumps(model))
    assert growth < 8 * len(many_images) + 1000


def test_everything_fitted_lies_on_the_cpu(fitted):
    assert {t.device.type for t in fitted._objective.state_dict().values()} == {"cpu"}
    assert not any(t.requires_grad and t.grad is not None for t in fitted.encoder_.parameters())
    assert fitted.device_ == "cpu"
    assert fitted.precision_ == "float32"


def test_predicting_leaves_the_estimator_as_it_was(fitted, few_images):
    before = pickle.dumps(fitted)
    fitted.predict(few_images), fitted.transform(few_images), fitted.score(few_images)
    assert pickle.dumps(fitted) == before


# ---- in the company of scikit-learn


@each_kind
def test_pipeline_after_a_scaler_reads_rows_as_images(estimator, many_images):
    flat = many_images.reshape(len(many_images), -1).astype(float)
    pipe = make_pipeline(StandardScaler(), estimator(4, image_shape=(8, 8), **FAST))
    labels = pipe.fit_predict(flat)
    np.testing.assert_array_equal(pipe.predict(flat), labels)
    assert pipe[-1].input_shape_ == (8, 8)
    assert pipe.transform(flat).shape == (600, pipe[-1].transform(flat).shape[1])


def search_over_two_knobs(estimator, scoring, blobs):
    X, y = blobs
    grid = {"learning_rate": [1e-3, 3e-3], "batch_size": [16, 32]}
    search = GridSearchCV(estimator(3, **FAST), grid, scoring=scoring, cv=2, error_score="raise")
    search.fit(X, y)
    assert set(search.best_params_) == set(grid)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (60,)


@pytest.mark.parametrize("scoring", ["adjusted_rand_score", clustering_accuracy_scorer])
def test_grid_search_with_labels(scoring, blobs):
    search_over_two_knobs(ESTIMATORS[0], scoring, blobs)


@each_kind
def test_grid_search_over_two_knobs(estimator, blobs):
    search_over_two_knobs(estimator, None, blobs)


@each_kind
def test_cross_val_predict_on_images(estimator, few_images):
    labels = cross_val_predict(estimator(2, **FAST), few_images, cv=2)
    assert labels.shape == (60,)
    assert set(labels) <= {0, 1}


@each_kind
def test_set_output_returns_named_frames(estimator, few_images):
    model = estimator(2, **FAST).set_output(transform="pandas").fit(few_images)
    frame = model.transform(few_images)
    assert isinstance(frame, pd.DataFrame)
    prefix = estimator.__name__.lower()
    assert list(frame.columns) == [f"{prefix}{i}" for i in range(frame.shape[1])]
    assert list(model.get_feature_names_out()) == list(frame.columns)


def test_html_representation_shows_the_documented_parameters(fitted):
    html = fitted._repr_html_()
    assert "n_clusters" in html


# ---- settings of the papers

# a method need not come from a paper
# where neighbours are part of the paper's method
NEIGHBORS_OF_PAPERS = {"GraphContrastiveClustering": 5, "TEMI": 50}
published = pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e.paper_results()])


@published
def test_every_paper_setting_builds_a_valid_estimator_with_a_known_result(estimator):
    results = estimator.paper_results()
    assert results
    for data_set, scores in results.items():
        settings = estimator.paper_settings(data_set)
        model = estimator(**settings)
        model._validate_params()
        assert model.n_clusters >= 10
        assert model.n_neighbors == NEIGHBORS_OF_PAPERS.get(estimator.__name__, 0)
        assert all(0 < value < 1 for value in scores.values())


@published
def test_paper_settings_train(estimator, few_images):
    settings = estimator.paper_settings(next(iter(estimator.paper_results())))
    small = {"encoder": "cnn", "augmentation": "auto", "max_epochs": 2, "random_state": 0}
    model = estimator(**{**settings, **small, "n_clusters": 2}).fit(few_images)
    assert np.isfinite(model.loss_curve_).all()


@published
def test_paper_settings_are_a_new_dictionary_each_time(estimator):
    data_set = next(iter(estimator.paper_results()))
    estimator.paper_settings(data_set)["n_clusters"] = 0
    assert estimator.paper_settings(data_set)["n_clusters"] > 0


@published
def test_unknown_data_set_of_a_paper_is_named(estimator):
    with pytest.raises(ValueError, match=r"data_set='mnist' is unknown to .*Expected one of \["):
        estimator.paper_settings("mnist")


# ---- manners


@each
def test_fit_is_silent_and_writes_nothing(estimator, few_images, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = estimator(2, **FAST).fit(few_images)
    model.predict(few_images)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@each_kind
def test_verbose_shows_one_bar_with_loss_terms_and_time_per_epoch(estimator, few_images, capfd):
    model = estimator(2, verbose=1, **FAST).fit(few_images)
    out, err = capfd.readouterr()
    assert out == ""
    last = err.strip().split("\r")[-1]
    assert last.count(estimator.__name__) == 1
    assert "3/3 epochs" in last
    assert "s/epoch" in last
    assert all(f"{term}=" in last for term in model.history_)


@each_kind
def test_interrupted_fit_is_usable_and_says_so(estimator, few_images):
    class Interrupting(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.layer = nn.Linear(64, 8)
            self.calls, self.last = 0, last  # one step per epoch

        def forward(self, x):
            self.calls += self.training
            if self.training and self.calls == self.last + 1:
                raise KeyboardInterrupt
            return self.layer(x.flatten(1))

    def run(last):
        return estimator(2, encoder=lambda: Interrupting(last), max_epochs=9, random_state=0)

    whole = run(99).fit(few_images)
    model = run(4)
    with pytest.warns(
        ConvergenceWarning, match="interrupted: the estimator is that of epoch 4 of 9"
    ):
        model.fit(few_images)
    assert model.n_iter_ == 4
    assert model.loss_curve_ == whole.loss_curve_[:4]
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


@pytest.mark.parametrize(
    "place", ["_training.epochs.calibrate_batch_norm", "_estimator.fitted.map_batches"]
)
@two
def test_ctrl_c_after_the_last_epoch_completes_the_fit(estimator, place, few_images, monkeypatch):
    expected = estimator(2, **FAST).fit(few_images)
    module, _, name = place.rpartition(".")
    module = importlib.import_module(f"deepcluster_sk.{module}")
    function = getattr(module, name)

    def interrupted(*args, **kwargs):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)
    model = estimator(2, **FAST)
    with pytest.warns(UserWarning, match="Ctrl-C came after the last epoch") as caught:
        model.fit(few_images)
    assert caught[0].filename == __file__
    assert model.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(model.labels_, expected.labels_)
    np.testing.assert_array_equal(
        model.predict_proba(few_images), expected.predict_proba(few_images)
    )


@each_kind
@pytest.mark.parametrize("neighbor_space", ["inputs", "features"])
def test_more_rows_than_are_sampled_are_clustered_all_the_same(
    estimator, neighbor_space, blobs, monkeypatch
):
    monkeypatch.setattr(row_map, "_MAX_SAMPLED", 30)  # of 60
    X, y = blobs
    model = estimator(3, max_epochs=30, neighbor_space=neighbor_space, random_state=0, device="cpu")
    assert adjusted_rand_score(y, model.fit_predict(X)) > 0.9
    assert (model.labels_ == model.predict(X)).all()


@each_kind
def test_a_subclass_may_hide_parameters_behind_its_own_constructor(estimator, blobs):
    class Own(estimator):
        def __init__(self, n_clusters=3, *, random_state=None, note=""):
            super().__init__(n_clusters, max_epochs=1, random_state=random_state)
            self.note = note

    X, _ = blobs
    model = clone(Own(3, random_state=0, note="mine")).fit(X)
    expected = estimator(3, max_epochs=1, random_state=0).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    assert set(model.get_params()) == {"n_clusters", "random_state", "note"}


@each
def test_a_fit_that_fails_draws_nothing_from_a_random_state(estimator, blobs):
    random_state = np.random.RandomState(0)
    before = random_state.get_state()[2]
    with pytest.raises(ValueError, match="device"):
        estimator(3, device="no device", random_state=random_state).fit(blobs[0])
    assert random_state.get_state()[2] == before


# ---- modules of the user


def flat_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16))


def test_fits_share_no_module_with_each_other_or_with_the_user(fitted, few_images):
    module = flat_net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    models = [type(fitted)(3, encoder=lambda: module, **FAST).fit(few_images) for _ in range(2)]
    models.append(clone(models[0]).set_params(max_epochs=1).partial_fit(few_images))
    models.append(clone(models[0]).set_params(warm_start=True).fit(few_images).fit(few_images))
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    np.testing.assert_array_equal(models[0].transform(few_images), models[1].transform(few_images))
    expected = [model.transform(few_images) for model in models]
    with torch.no_grad():
        module[1].weight.zero_()
    for model, features in zip(models, expected, strict=True):
        np.testing.assert_array_equal(model.transform(few_images), features)


def test_modules_of_inference_mode_are_trained(fitted, few_images):
    with torch.inference_mode():
        module = flat_net()
    model = type(fitted)(3, encoder=module, **FAST).fit(few_images)
    assert not torch.equal(model.encoder_[1].weight, module[1].weight)


class Halved(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.net, self.dtype = flat_net(), dtype

    def forward(self, x):
        return self.net(x).to(self.dtype)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("freeze_encoder", [True, False])
def test_features_are_float32_whatever_the_encoder_returns(
    estimator, few_images, dtype, freeze_encoder, tmp_path
):
    model = estimator(3, encoder=Halved(dtype), freeze_encoder=freeze_encoder, **FAST)
    features = model.fit(few_images).transform(few_images)
    assert features.dtype == model.predict_proba(few_images).dtype == np.float32
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model", encoder=Halved(dtype))
    for other in (loaded, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.transform(few_images), features)
        assert other.encoder_(torch.zeros(2, 1, 8, 8)).dtype == torch.float32


class Darken(nn.Module):
    """An augmentation with a buffer and a count of its calls."""

    def __init__(self):
        super().__init__()
        self.register_buffer("share", torch.tensor(0.5))
        self.n_calls = 0

    def forward(self, x):
        self.n_calls += 1
        return x * (self.share + torch.rand(len(x), 1, 1, 1) / 2)


def test_the_module_that_is_passed_as_augmentation_stays_as_it_is(fitted, few_images):
    augmentation = Darken()
    model = type(fitted)(3, augmentation=augmentation, **FAST).fit(few_images)
    model.partial_fit(few_images)
    model.set_params(warm_start=True).fit(few_images)
    assert augmentation.n_calls == 0


def test_an_augmentation_is_tried_out_before_the_training(fitted, few_images):
    shapes = []

    def none(x):
        shapes.append((tuple(x.shape), np.random.random_sample()))

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[2]

    before = states()
    for method in ("fit", "partial_fit", "fit"):
        with pytest.raises(AugmentationError, match="none returned NoneType for a float32 batch"):
            getattr(type(fitted)(3, augmentation=none, **FAST), method)(few_images)
    assert states() == before
    assert [shape for shape, _ in shapes] == [(4, 1, 8, 8)] * 3
    assert len({number for _, number in shapes}) == 1
