"""What an estimator says of samples is asked for once, and is what its methods return."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stand_ins import Given
from torch import nn

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk._inspection.assignments import described, features, soft_assignments
from deepcluster_sk.display import EmbeddingDisplay, cluster_map
from deepcluster_sk.inspection import cluster_table, exemplars, near_duplicates

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_epochs": 1, "random_state": 0, "device": "cpu"}


class Counting(nn.Module):
    """An encoder that counts the samples it sees."""

    n_seen = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 12)

    def forward(self, x):
        type(self).n_seen += len(x)
        return self.linear(x.flatten(1))


class CountingScaler(TransformerMixin, BaseEstimator):
    """A step that counts the samples it transforms."""

    n_seen = 0

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        type(self).n_seen += len(X)
        return np.asarray(X) * 2


@pytest.fixture(scope="module", params=[False, True], ids=["trained", "frozen"])
def model(request, few_images):
    encoder = Counting()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder.linear.reset_parameters()
    model = ContrastiveClustering(
        3, encoder=encoder, freeze_encoder=request.param, outlier_fraction=0.1, **FAST
    )
    return model.fit(few_images)


USES = {
    "report": lambda model, X, folder: report(model, X, folder / "page.html"),
    "cluster_table": lambda model, X, _: cluster_table(model, X),
    "exemplars": lambda model, X, _: exemplars(model, X, n=2),
    "near_duplicates": lambda model, X, _: near_duplicates(model, X),
    "cluster_map": lambda model, X, _: cluster_map(model, X),
    "embedding": lambda model, X, _: EmbeddingDisplay.from_estimator(model, X),
    "score": lambda model, X, _: model.score(X),
}


@pytest.mark.parametrize("use", USES)
def test_every_sample_is_encoded_once(use, model, few_images, tmp_path, monkeypatch):
    X = few_images[:32]  # a full batch: a short one is filled up
    monkeypatch.setattr(Counting, "n_seen", 0)
    USES[use](model, X, tmp_path)
    assert Counting.n_seen == 32


@pytest.mark.parametrize(
    "use", ["report", "cluster_table", "exemplars", "cluster_map", "embedding"]
)
def test_the_earlier_steps_of_a_pipeline_run_once(use, few_images, tmp_path, monkeypatch):
    X = few_images[:32].reshape(32, 64)
    last = ContrastiveClustering(2, encoder=Counting(), **FAST)
    pipeline = make_pipeline(CountingScaler(), last).fit(X)
    monkeypatch.setattr(Counting, "n_seen", 0)
    monkeypatch.setattr(CountingScaler, "n_seen", 0)
    USES[use](pipeline, X, tmp_path)
    assert (Counting.n_seen, CountingScaler.n_seen) == (32, 32)
    if use != "report":  # which only draws our estimators
        foreign = make_pipeline(CountingScaler(), KMeans(2, n_init=1, random_state=0)).fit(X)
        CountingScaler.n_seen = 0
        USES[use](foreign, X, tmp_path)
        assert CountingScaler.n_seen == 32


def assert_as_its_methods(estimator, X):
    told = described(estimator, X)
    for values, method in [
        (told.probabilities, estimator.predict_proba),
        (told.scores, estimator.score_samples),
        (told.features, estimator.transform),
        (told.found.labels, estimator.predict),
    ]:
        expected = method(X)
        assert values.dtype == expected.dtype
        assert values.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("n_samples", [1, 5, 60])
def test_values_are_those_of_the_methods(model, few_images, n_samples):
    assert_as_its_methods(model, few_images[:n_samples])


def test_outliers_have_the_label_that_predict_gives(model, few_images):
    told = described(model, few_images)
    assert (told.found.labels == -1).sum() == 6
    assert (told.probabilities >= 0).all()
    rows = exemplars(model, few_images, n=60)
    assert not np.isin(rows, np.flatnonzero(model.labels_ == -1)).any()


def test_pipelines_and_searches_are_asked_as_their_methods(blobs):
    X = blobs[0]
    last = ContrastiveClustering(3, outlier_fraction=0.1, **FAST)
    pipeline = make_pipeline(StandardScaler(), last).fit(X)
    assert_as_its_methods(pipeline, X)
    assert_as_its_methods(make_pipeline(StandardScaler(), make_pipeline(last)).fit(X), X)
    search = GridSearchCV(make_pipeline(StandardScaler(), last), {}, cv=2).fit(X)
    assert_as_its_methods(search.best_estimator_, X)
    np.testing.assert_array_equal(described(search, X).features, search.transform(X))


def test_files_that_were_skipped_have_no_values(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"")
    model = ContrastiveClustering(2, on_error="skip", outlier_fraction=0.2, **FAST)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read"):
        model.fit(tmp_path)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read"):
        assert_as_its_methods(model, tmp_path)
    with pytest.warns(UserWarning, match="1 of 6 image files cannot be read") as seen:
        told = described(model, tmp_path)
    assert len(seen) == 1
    assert np.isnan(told.scores).tolist() == [False, False, True, False, False, False]
    assert told.found.labels[2] == -1


def test_last_steps_of_other_packages_are_described_by_what_they_get(blobs):
    X = blobs[0]
    pipeline = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(X)
    told = described(pipeline, X)
    np.testing.assert_array_equal(told.probabilities, np.eye(3)[pipeline.predict(X)])
    np.testing.assert_array_equal(told.features, pipeline[0].transform(X).astype(np.float32))
    assert told.scores is None
    mixture = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0)).fit(X)
    told = described(mixture, X)
    np.testing.assert_array_equal(told.probabilities, mixture.predict_proba(X))
    np.testing.assert_array_equal(told.scores, mixture.score_samples(X))
    np.testing.assert_array_equal(told.features, features(mixture, X))
    nested = make_pipeline(StandardScaler(), pipeline).fit(X)
    np.testing.assert_array_equal(described(nested, X).features, features(nested, X))
    np.testing.assert_array_equal(described(nested, X).probabilities, soft_assignments(nested, X))


def test_a_frozen_estimator_is_the_one_in_it(model, few_images, tmp_path):
    frozen = FrozenEstimator(model)
    for estimator in (frozen, make_pipeline(frozen)):
        told, expected = described(estimator, few_images), described(model, few_images)
        np.testing.assert_array_equal(told.scores, expected.scores)
        np.testing.assert_array_equal(told.found.labels, expected.found.labels)
        assert report(estimator, few_images, tmp_path / "page.html").exists()
    pipeline = make_pipeline(frozen, KMeans(2, n_init=1, random_state=0)).fit(few_images)
    np.testing.assert_array_equal(described(pipeline, few_images).features, expected.features)


def test_outliers_of_other_packages_stay_without_a_cluster(blobs):
    X = blobs[0]
    forest = IsolationForest(n_estimators=10, contamination=0.1, random_state=0)
    pipeline = make_pipeline(StandardScaler(), forest).fit(X)
    assert ((described(pipeline, X).found.labels < 0) == (pipeline.predict(X) < 0)).all()


def test_estimators_of_other_packages_are_asked_by_their_methods(blobs):
    X = blobs[0].astype(np.float32)
    told = described(Given(), X)
    np.testing.assert_array_equal(told.features, X)
    assert (told.scores, told.offset) == (None, None)
    mixture = GaussianMixture(3, random_state=0).fit(X)
    assert described(mixture, X, need_features=False).features is None
    with pytest.raises(TypeError, match="GaussianMixture has no features of samples to compare"):
        described(mixture, X)


def test_partial_fit_alone_has_no_scores(blobs, tmp_path):
    X = blobs[0]
    model = ContrastiveClustering(3, **FAST).partial_fit(X)
    assert described(model, X).scores is None
    assert cluster_table(model, X)["typicality"].isna().all()
    assert "with the lowest confidence" in report(model, X, tmp_path / "p.html").read_text("utf-8")
