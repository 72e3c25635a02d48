from typing import ClassVar

import numpy as np
import pytest
from estimators import two
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import DBSCAN, FeatureAgglomeration
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.metrics import embedding_silhouette_score
from deepcluster_sk.model_selection import (
    generalization_scorer,
    mean_confidence_scorer,
    n_clusters_curve,
    silhouette_scorer,
    stability_scorer,
)

SCORERS = {
    "generalization": generalization_scorer,
    "silhouette": silhouette_scorer,
    "confidence": mean_confidence_scorer,
    "stability": stability_scorer,
}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Halves(ClusterMixin, BaseEstimator):
    """Cut the first column at zero, with a confidence; the seed turns the cut by 90 degrees."""

    def __init__(self, n_clusters=2, random_state=0):
        self.n_clusters = n_clusters
        self.random_state = random_state

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        first = np.where(X[:, self.random_state % 2] > 0, 0.9, 0.2)
        if self.n_clusters == 1:
            return np.ones((len(X), 1))
        return np.column_stack([first, 1 - first])

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)

    def transform(self, X):
        return np.asarray(X)


def learned_share(features, labels):
    """Accuracy of logistic regression in folds of shuffled rows, written out."""
    order = np.random.default_rng(0).permutation(len(labels))
    right = []
    for fold in np.array_split(order, 10):
        train = np.setdiff1d(order, fold)
        model = LogisticRegression(max_iter=200).fit(features[train], labels[train])
        right.append((model.predict(features[fold]) == labels[fold]).mean())
    return np.mean(right)


def test_generalization_is_the_accuracy_of_classifiers_on_held_out_rows():
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = Halves().fit(X)
    expected = learned_share(X, model.predict(X))
    assert generalization_scorer(model, X) == pytest.approx(expected, abs=0.02)
    model.spaces = (1, 3)  # the first column tells the clusters, the others do not
    parts = [learned_share(part, model.predict(X)) for part in (X[:, :1], X[:, 1:])]
    assert parts[0] > 0.9 > parts[1]
    assert generalization_scorer(model, X) == pytest.approx(np.mean(parts), abs=0.02)


def test_generalization_of_few_rows_or_of_one_cluster_is_the_lowest(corners):
    assert generalization_scorer(Halves().fit(corners), corners) == 0
    many = np.repeat(corners, 5, axis=0)
    assert generalization_scorer(Halves(n_clusters=1).fit(many), many) == 0
    alone = np.vstack([-np.ones((29, 2)), np.ones((1, 2))])  # in one fold, one cluster is left
    assert generalization_scorer(Halves().fit(alone), alone) == pytest.approx(29 / 30)


@pytest.fixture
def corners():
    return np.array([[-1.0, 1], [-1, -1], [1, 1], [1, -1], [2, 1], [-1, 2]])


def test_scorers_return_what_they_say(corners):
    model = Halves().fit(corners)
    labels = corners[:, 0] <= 0
    expected = silhouette_score(corners, labels, metric="cosine")
    assert silhouette_scorer(model, corners) == pytest.approx(expected)
    assert mean_confidence_scorer(model, corners) == pytest.approx((3 * 0.9 + 3 * 0.8) / 6)
    other = adjusted_rand_score(labels, corners[:, 1] <= 0)
    assert stability_scorer(model, corners) == pytest.approx(other)
    assert model.random_state == 0


@pytest.mark.parametrize(
    ("name", "worst"), [("silhouette", -1.0), ("confidence", 0.0), ("stability", -0.5)]
)
def test_one_cluster_gets_the_worst_value(name, worst, corners):
    assert SCORERS[name](Halves(1).fit(corners), corners) == worst


def test_fewer_samples_than_clusters_get_the_worst_stability(blobs):
    model = ContrastiveClustering(5, max_epochs=1, n_heads=1, random_state=0).fit(blobs[0])
    assert stability_scorer(model, blobs[0][:4]) == -0.5


@two
def test_scorers_score_unlike_methods_in_a_search(estimator, blobs):
    X, _ = blobs
    search = GridSearchCV(
        estimator(max_epochs=2, random_state=0),
        {"n_clusters": [1, 3]},
        scoring=SCORERS,
        refit="silhouette",
        cv=2,
    ).fit(X)
    assert search.best_params_ == {"n_clusters": 3}
    for name in SCORERS:
        assert np.isfinite(search.cv_results_[f"mean_test_{name}"]).all()


def test_scorers_score_pipelines(blobs):
    X, _ = blobs
    pipe = make_pipeline(StandardScaler(), ContrastiveClustering(3, max_epochs=2, random_state=0))
    scores = cross_validate(pipe, X, scoring=SCORERS, cv=[(np.arange(len(X)), np.arange(len(X)))])
    assert -1 < scores["test_silhouette"][0] <= 1
    assert 0 < scores["test_confidence"][0] <= 1
    assert -0.5 < scores["test_stability"][0] <= 1


@pytest.mark.parametrize("outlier_fraction", [None, 0.2])
def test_silhouette_scorer_equals_score(outlier_fraction, blobs):
    X, _ = blobs
    model = ContrastiveClustering(
        3, max_epochs=2, outlier_fraction=outlier_fraction, random_state=0
    ).fit(X)
    assert silhouette_scorer(model, X) == model.score(X)


class Seeded(Halves):
    """Says which random states were fitted."""

    fitted: ClassVar[list] = []

    def fit(self, X, y=None):
        self.fitted.append(self.random_state)
        return super().fit(X, y)


def test_stability_compares_with_a_fit_of_another_random_state(corners):
    Seeded.fitted.clear()
    pipe = make_pipeline(PCA(2), Seeded(random_state=0)).fit(corners)
    search = RandomizedSearchCV(
        Seeded(random_state=0), {"n_clusters": [2]}, n_iter=1, scoring=silhouette_scorer, cv=2
    )
    for model in (pipe, search.fit(corners)):
        n_before = len(Seeded.fitted)
        stability_scorer(model, corners)
        assert 0 not in Seeded.fitted[n_before:] != []


def test_silhouette_of_many_samples_is_that_of_a_fixed_subset():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(500, 4)) + 1, rng.integers(3, size=500)
    first, again = (embedding_silhouette_score(features, labels, max_samples=200) for _ in range(2))
    whole = silhouette_score(features, labels, metric="cosine")
    assert first == again != whole
    assert first == pytest.approx(whole, abs=0.05)


def test_silhouette_leaves_out_samples_without_a_cluster():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 4)), rng.integers(-1, 3, size=30)
    known = labels >= 0
    assert embedding_silhouette_score(features, labels) == pytest.approx(
        silhouette_score(features[known], labels[known], metric="cosine")
    )
    assert embedding_silhouette_score(features, np.arange(30)) == -1.0


def test_curve_has_a_row_per_number_and_a_column_per_fit(blobs):
    X, _ = blobs
    model = ContrastiveClustering(max_epochs=5)
    scores = n_clusters_curve(model, X, n_clusters=[1, 2, 3], n_fits=3)
    assert {name: values.shape for name, values in scores.items()} == {
        "silhouette": (3, 3),
        "mean confidence": (3, 3),
        "stability": (3, 3),
    }
    assert (scores["silhouette"][0] == -1).all()
    assert (scores["stability"][0] == -0.5).all()
    assert model.n_clusters == 8
    assert not vars(model).keys() - model.get_params().keys()
    again = n_clusters_curve(model, X, n_clusters=[1, 2, 3], n_fits=3)
    np.testing.assert_array_equal(scores["silhouette"], again["silhouette"])


def test_curve_prefers_the_number_of_well_separated_groups():
    # so many rows that there is more than one way to cut a group in two
    X, _ = make_blobs(250, n_features=5, centers=3, random_state=0)
    model = make_pipeline(StandardScaler(), ContrastiveClustering(max_epochs=20))
    scores = n_clusters_curve(model, X, n_clusters=[2, 3, 7])
    assert scores["silhouette"].mean(axis=1).argmax() == 1
    # fewer clusters put together the groups that are nearest, each time the same ones
    stability = scores["stability"].mean(axis=1)
    assert stability[1] == 1 > stability[2]


def test_curve_takes_own_scorers_and_one_fit_has_no_stability(corners):
    scores = n_clusters_curve(
        Halves(),
        corners,
        n_clusters=[1, 2],
        scoring={"n": lambda estimator, X, y: estimator.n_clusters},
        n_fits=1,
    )
    assert {name: values.tolist() for name, values in scores.items()} == {"n": [[1.0], [2.0]]}


def test_curve_varies_the_last_step_alone(corners):
    steps = [FeatureAgglomeration(n_clusters=2), make_pipeline(StandardScaler(), Halves())]
    scores = n_clusters_curve(
        make_pipeline(*steps),
        corners,
        n_clusters=[1, 2],
        scoring={
            "first": lambda estimator, X, y: estimator[0].n_clusters,
            "last": lambda estimator, X, y: estimator[-1][-1].n_clusters,
        },
        n_fits=1,
    )
    assert {name: values.ravel().tolist() for name, values in scores.items()} == {
        "first": [2.0, 2.0],
        "last": [1.0, 2.0],
    }


def test_curve_refuses_a_second_stability_and_scorers_without_names(corners):
    with pytest.raises(ValueError, match="scoring has the name 'stability', which n_fits=2"):
        n_clusters_curve(Halves(), corners, n_clusters=[2], scoring={"stability": stability_scorer})
    with pytest.raises(TypeError, match="expected a mapping of names to scorers"):
        n_clusters_curve(Halves(), corners, n_clusters=[2], scoring=stability_scorer)


@pytest.mark.parametrize(
    ("scorer", "method"),
    [
        (silhouette_scorer, "transform"),
        (mean_confidence_scorer, "predict_proba"),
        (stability_scorer, "predict_proba"),
    ],
)
def test_scorers_refuse_estimators_without_what_they_need(scorer, method, corners):
    with pytest.raises(TypeError, match=rf"DBSCAN has no method {method}\. Pass a fitted"):
        scorer(DBSCAN().fit(corners), corners)
    with pytest.raises(TypeError, match="Got the class Halves, expected a fitted instance of it"):
        scorer(Halves, corners)


def test_curve_refuses_an_estimator_without_a_number_of_clusters(corners):
    with pytest.raises(TypeError, match="DBSCAN has no parameter n_clusters, which would be"):
        n_clusters_curve(DBSCAN(), corners, n_clusters=[2])
    with pytest.raises(TypeError, match="instance of scikit-learn estimator instead of a class"):
        n_clusters_curve(Halves, corners, n_clusters=[2])


@pytest.mark.parametrize(("n_clusters", "n_fits"), [([], 2), ([2], 0)])
def test_curve_of_nothing_is_refused(n_clusters, n_fits, corners):
    with pytest.raises(ValueError, match="expected at least one cluster number and at least one"):
        n_clusters_curve(Halves(), corners, n_clusters=n_clusters, n_fits=n_fits)
