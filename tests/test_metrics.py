from itertools import permutations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.model_selection import cross_val_score

from deepcluster_sk.metrics import (
    clustering_accuracy_score,
    clustering_accuracy_scorer,
    matched_contingency,
)


def best_over_all_matchings(true, pred):
    """Try every injective renaming of the smaller set of labels."""
    classes, clusters = np.unique(true), np.unique(pred)
    best = 0
    if len(clusters) <= len(classes):
        for names in permutations(classes, len(clusters)):
            renamed = dict(zip(clusters, names, strict=True))
            best = max(best, np.mean([renamed[p] == t for t, p in zip(true, pred, strict=True)]))
    else:
        for names in permutations(clusters, len(classes)):
            renamed = dict(zip(names, classes, strict=True))
            hits = [renamed.get(p) == t for t, p in zip(true, pred, strict=True)]
            best = max(best, np.mean(hits))
    return best


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(3, 3), (4, 2), (2, 5), (1, 3), (3, 1)])
def test_accuracy_equals_the_best_of_all_matchings(n_classes, n_clusters):
    rng = np.random.default_rng(n_classes * 10 + n_clusters)
    true, pred = rng.integers(n_classes, size=40), rng.integers(n_clusters, size=40)
    expected = best_over_all_matchings(true, pred)
    assert clustering_accuracy_score(true, pred) == pytest.approx(expected)


def test_labels_may_be_strings_and_any_integers():
    assert clustering_accuracy_score(["a", "b", "b", "c"], [-1, 70, 70, 3]) == 1.0


def test_a_cluster_that_is_never_predicted_does_not_shift_the_others():
    true = np.array([0, 0, 1, 1, 2, 2])
    assert clustering_accuracy_score(true, np.array([1, 1, 2, 2, 3, 3])) == 1.0


def test_renaming_clusters_changes_nothing():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(4, size=50), rng.integers(4, size=50)
    renamed = np.array([30, 10, 20, 0])[pred]
    assert clustering_accuracy_score(true, pred) == clustering_accuracy_score(true, renamed)


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clustering_accuracy_score([0, 1], [0, 1, 2])


def test_empty_labels_are_refused():
    with pytest.raises(ValueError, match="are empty; expected at least one sample"):
        clustering_accuracy_score([], [])


def test_scorer_scores_a_clusterer_in_cross_validation():
    class Sign(ClusterMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.fitted_ = True
            return self

        def predict(self, X):
            return (X[:, 0] > 0).astype(int)

    X = np.array([[-1.0], [2.0], [-3.0], [4.0], [-1.0], [1.0]])
    y = np.array(["n", "p"] * 3)
    scores = cross_val_score(Sign(), X, y, scoring=clustering_accuracy_scorer, cv=3)
    np.testing.assert_array_equal(scores, np.ones(3))


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(3, 3), (4, 2), (2, 5)])
def test_matched_contingency_counts_every_pair_and_matches_on_the_diagonal(n_classes, n_clusters):
    rng = np.random.default_rng(n_classes)
    true = np.array(list("abcd"))[rng.integers(n_classes, size=40)]
    pred = rng.integers(n_clusters, size=40)
    table, classes, clusters = matched_contingency(true, pred)
    for row, name in enumerate(classes):
        for column, cluster in enumerate(clusters):
            assert table[row, column] == np.sum((true == name) & (pred == cluster))
    assert np.trace(table) / 40 == pytest.approx(best_over_all_matchings(true, pred))
    matched = min(n_classes, n_clusters)
    assert list(classes[:matched]) == sorted(classes[:matched])
