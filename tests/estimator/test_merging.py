"""Fitted estimators with fewer clusters, numbers of clusters that are found, and outliers."""

import copy
import pickle

import numpy as np
import pytest
from estimators import each_kind
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

from deepcluster_sk import ContrastiveClustering, load
from deepcluster_sk._estimator.merging import numbers_at

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"random_state": 0, "device": "cpu", "max_epochs": 2}


@pytest.fixture(scope="module")
def groups_of_rows():
    """300 rows in six groups of unequal size, and their labels."""
    return make_blobs([80, 70, 60, 40, 30, 20], n_features=8, random_state=3)


@pytest.fixture(scope="module")
def model(groups_of_rows):
    return ContrastiveClustering(6, **FAST).fit(groups_of_rows[0])


@each_kind
def test_merged_clusters_are_the_unions_of_their_members(estimator, groups_of_rows):
    X, _ = groups_of_rows
    model = estimator(6, **FAST).fit(X)
    before = {name: copy.deepcopy(value) for name, value in vars(model).items()}
    merged = model.merge_clusters([[0, 3], [1, 5]])
    assert type(merged) is estimator
    assert merged.n_clusters_ == merged.n_clusters == 4
    new = np.where(
        np.isin(model.labels_, (0, 3)),
        0,
        np.where(np.isin(model.labels_, (1, 5)), 1, 2 + model.labels_),
    )
    assert adjusted_rand_score(merged.labels_, new) == 1
    np.testing.assert_array_equal(merged.labels_, merged.predict(X))
    np.testing.assert_array_equal(merged.cluster_sizes_, np.bincount(merged.labels_))
    assert (np.diff(merged.cluster_sizes_) <= 0).all()
    np.testing.assert_array_equal(model.labels_, before["labels_"])
    assert model.n_clusters == model.n_clusters_ == 6


def test_probabilities_of_merged_clusters_are_the_largest_of_their_members(model, groups_of_rows):
    X, _ = groups_of_rows
    merged = model.merge_clusters([[1, 2, 4]])
    single = model.predict_proba(X)
    largest = np.column_stack([single[:, [1, 2, 4]].max(axis=1), single[:, [0, 3, 5]]])
    expected = largest / largest.sum(axis=1, keepdims=True)
    found = merged.predict_proba(X)
    order = [0, 1, 2, 3] if merged.labels_[model.labels_ == 1][0] == 0 else [1, 0, 2, 3]
    np.testing.assert_allclose(found, expected[:, order], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", ["saved", "pickled", "copied"])
def test_a_merged_estimator_is_kept_as_any_other(model, groups_of_rows, tmp_path, form):
    X, _ = groups_of_rows
    merged = model.merge_clusters([[0, 2]])
    if form == "saved":
        merged.save(tmp_path / "model")
        other = load(tmp_path / "model")
    else:
        other = pickle.loads(pickle.dumps(merged)) if form == "pickled" else copy.deepcopy(merged)
    np.testing.assert_array_equal(other.predict_proba(X), merged.predict_proba(X))
    np.testing.assert_array_equal(other.linkage_, merged.linkage_)
    np.testing.assert_array_equal(other.score_samples(X), merged.score_samples(X))
    assert other.n_clusters_ == 5
    assert clone(other).n_clusters == 5


def test_merging_twice_equals_merging_at_once(model, groups_of_rows):
    X, _ = groups_of_rows
    once = model.merge_clusters([[0, 1, 2]])
    first = model.merge_clusters([[0, 1]])
    twice = first.merge_clusters([[first.labels_[model.labels_ == c][0] for c in (0, 2)]])
    np.testing.assert_array_equal(once.labels_, twice.labels_)
    np.testing.assert_allclose(once.predict_proba(X), twice.predict_proba(X), rtol=1e-5)


def test_merging_with_itself_changes_nothing(model, groups_of_rows):
    X, _ = groups_of_rows
    same = model.merge_clusters([[4], [2]])
    np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))


def test_partial_fit_keeps_merged_clusters(model, groups_of_rows):
    X, _ = groups_of_rows
    merged = model.merge_clusters([[0, 2], [1, 4]])
    merged.partial_fit(X)
    assert merged.n_clusters_ == 4
    np.testing.assert_array_equal(merged.labels_, merged.predict(X))


def test_a_warm_start_of_merged_clusters_is_refused(model, groups_of_rows):
    merged = model.merge_clusters([[0, 2]]).set_params(warm_start=True)
    with pytest.raises(ValueError, match="that were merged after the training"):
        merged.fit(groups_of_rows[0])


def test_a_merged_estimator_trains_as_many_clusters_from_the_start(model, groups_of_rows):
    again = model.merge_clusters([[0, 2]]).fit(groups_of_rows[0])
    assert again.predict_proba(groups_of_rows[0]).shape[1] == again.n_clusters_ == 5


@pytest.mark.parametrize(
    ("groups", "error", "problem"),
    [
        ([[0, 6]], ValueError, r"There are no clusters \[6\], expected numbers in \[0, 6\)"),
        ([[-1, 0]], ValueError, r"There are no clusters \[-1\]"),
        ([[0, 1], [1, 2]], ValueError, r"Clusters \[1\] are named more than once"),
        ([[3, 3]], ValueError, r"Clusters \[3\] are named more than once"),
        ([[0, 1], []], ValueError, "has an empty group. Leave it out"),
        ([0, 1], TypeError, "expected groups of cluster numbers"),
        (3, TypeError, "expected groups of cluster numbers"),
        (["ab"], TypeError, "expected groups of cluster numbers"),
        ([[0.0, 1.0]], TypeError, "expected groups of cluster numbers"),
        ([[True, False]], TypeError, "expected groups of cluster numbers"),
    ],
)
def test_bad_groups_are_named_and_nothing_changes(model, groups, error, problem):
    before = model.labels_.copy()
    with pytest.raises(error, match=problem):
        model.merge_clusters(groups)
    np.testing.assert_array_equal(model.labels_, before)


@each_kind
def test_the_tree_has_scipys_format(estimator, groups_of_rows):
    model = estimator(6, **FAST).fit(groups_of_rows[0])
    assert model.linkage_.shape == (5, 4)
    assert is_valid_linkage(model.linkage_)
    assert sorted(dendrogram(model.linkage_, no_plot=True)["leaves"]) == list(range(6))


@pytest.mark.parametrize("n_clusters", [1, 2, 4, 6])
def test_a_cut_joins_along_the_tree(model, groups_of_rows, n_clusters):
    X, _ = groups_of_rows
    coarser = model.cut(n_clusters)
    assert coarser.n_clusters_ == n_clusters
    np.testing.assert_array_equal(coarser.labels_, coarser.predict(X))
    expected = numbers_at(model.linkage_, n_clusters)[model.labels_]
    assert adjusted_rand_score(coarser.labels_, expected) == 1
    assert coarser.linkage_.shape == (n_clusters - 1, 4)


def test_the_tree_of_a_cut_is_the_upper_part_of_the_tree(model):
    np.testing.assert_allclose(
        np.diff(model.cut(4).linkage_[:, 2]), np.diff(model.linkage_[-3:, 2]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("n_clusters", "error", "problem"),
    [
        (0, ValueError, r"n_clusters=0, expected a number in \[1, 6\]"),
        (7, ValueError, r"n_clusters=7, expected a number in \[1, 6\]"),
        (2.0, TypeError, "n_clusters=2.0 is no integer"),
        (True, TypeError, "n_clusters=True is no integer"),
    ],
)
def test_bad_cuts_are_named(model, n_clusters, error, problem):
    with pytest.raises(error, match=problem):
        model.cut(n_clusters)


def test_partial_fit_alone_has_no_tree_and_no_scores(groups_of_rows):
    X, _ = groups_of_rows
    model = ContrastiveClustering(6, **FAST).partial_fit(X)
    assert not hasattr(model, "linkage_")
    with pytest.raises(AttributeError, match="There is no linkage_ for these 6 clusters"):
        model.cut(2)
    with pytest.raises(NotFittedError, match="has been through partial_fit alone"):
        model.score_samples(X)


@pytest.mark.parametrize("call", ["cut", "merge_clusters", "score_samples"])
def test_what_needs_a_fit_says_so(call):
    with pytest.raises(NotFittedError):
        getattr(ContrastiveClustering(), call)([[0, 1]])


@each_kind
def test_the_number_of_clusters_is_found(estimator, groups_of_rows, full_searches):
    X, y = groups_of_rows
    model = estimator("auto", **FAST).fit(X)
    assert model.n_clusters == "auto"
    assert model.n_clusters_ == len(model.cluster_sizes_) == model.predict_proba(X).shape[1] == 6
    assert adjusted_rand_score(y, model.labels_) > 0.9
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, atol=1e-5)
    assert model.linkage_.shape == (5, 4)


def test_the_same_seed_finds_the_same_number_and_labels(groups_of_rows):
    X, _ = groups_of_rows
    first, second = (ContrastiveClustering("auto", **FAST).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_images_have_a_number_of_clusters_as_well(few_images):
    model = ContrastiveClustering("auto", **FAST).fit(few_images)
    assert 1 <= model.n_clusters_ <= 2  # of few images, two clusters are trained
    np.testing.assert_array_equal(model.labels_, model.predict(few_images))


def test_an_estimator_that_found_its_number_is_saved(groups_of_rows, tmp_path):
    X, _ = groups_of_rows
    model = ContrastiveClustering("auto", **FAST).fit(X)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert other.n_clusters == "auto"
    assert other.n_clusters_ == model.n_clusters_
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    assert other.cut(2).n_clusters_ == 2


def test_a_warm_start_finds_the_number_again(groups_of_rows, full_searches):
    X, _ = groups_of_rows
    model = ContrastiveClustering("auto", warm_start=True, **FAST).fit(X).fit(X)
    assert model.n_clusters_ == 6
    np.testing.assert_array_equal(model.labels_, model.predict(X))


def test_partial_fit_keeps_the_number_that_was_found(groups_of_rows, full_searches):
    X, _ = groups_of_rows
    model = ContrastiveClustering("auto", **FAST).fit(X).partial_fit(X)
    assert model.n_clusters_ == 6
    np.testing.assert_array_equal(model.labels_, model.predict(X))


def test_the_first_partial_fit_needs_a_number(groups_of_rows):
    with pytest.raises(ValueError, match="n_clusters='auto' in the first partial_fit"):
        ContrastiveClustering("auto", **FAST).partial_fit(groups_of_rows[0])


def test_a_resumed_fit_finds_the_same_number(groups_of_rows, tmp_path):
    X, _ = groups_of_rows
    whole = ContrastiveClustering("auto", **FAST).fit(X)
    file = tmp_path / "checkpoint"
    ContrastiveClustering("auto", checkpoint=file, max_time=1e-6, **FAST).fit(X)
    resumed = ContrastiveClustering("auto", checkpoint=file, max_time=1e-6, **FAST).fit(X)
    assert resumed.n_iter_ < whole.n_iter_
    finished = ContrastiveClustering("auto", checkpoint=tmp_path / "other", **FAST)
    np.testing.assert_array_equal(finished.fit(X).labels_, whole.labels_)
    np.testing.assert_array_equal(finished.fit(X).labels_, whole.labels_)


def test_a_warm_start_needs_as_many_samples_as_clusters_are_trained(groups_of_rows):
    X, _ = groups_of_rows
    model = ContrastiveClustering("auto", **FAST).fit(X)
    with pytest.raises(ValueError, match="n_samples=5 should be >= n_clusters="):
        model.set_params(warm_start=True).fit(X[:5])


@each_kind
def test_the_least_typical_share_of_the_samples_belongs_to_no_cluster(estimator, groups_of_rows):
    X, _ = groups_of_rows
    model = estimator(6, outlier_fraction=0.1, **FAST).fit(X)
    scores = model.score_samples(X)
    assert scores.dtype == np.float32
    left_out = model.labels_ == -1
    assert left_out.sum() == 30
    assert scores[left_out].max() < model.offset_ < scores[~left_out].min()
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    np.testing.assert_array_equal(
        model.labels_[~left_out], model.predict_proba(X)[~left_out].argmax(axis=1)
    )
    assert model.cluster_sizes_.sum() == 270
    assert (np.diff(model.cluster_sizes_) <= 0).all()


def test_the_border_of_the_clusters_is_no_score_of_a_sample(groups_of_rows):
    X, _ = groups_of_rows
    model = ContrastiveClustering(6, outlier_fraction=0.05, **FAST).fit(X[:101])
    scores = model.score_samples(X[:101])  # 0.05 is the share below the score of sixth rank
    assert model.offset_ not in scores
    assert (scores < model.offset_).sum() == (model.labels_ == -1).sum() == 6


def test_samples_far_from_all_others_are_the_least_typical(groups_of_rows):
    X, _ = groups_of_rows
    odd = np.random.default_rng(0).uniform(-30, 30, size=(6, 8))
    model = ContrastiveClustering(6, **FAST).fit(np.concatenate([X, odd]))
    scores = model.score_samples(np.concatenate([X, odd]))
    assert np.median(scores[-6:]) < np.quantile(scores[:-6], 0.05)


def test_scores_do_not_depend_on_the_batch(model, groups_of_rows):
    X, _ = groups_of_rows
    whole = model.score_samples(X)
    np.testing.assert_array_equal(model.score_samples(X[7:8]), whole[7:8])


def test_outliers_are_saved(groups_of_rows, tmp_path):
    X, _ = groups_of_rows
    model = ContrastiveClustering(6, outlier_fraction=0.1, **FAST).fit(X)
    model.save(tmp_path / "model")
    other = load(tmp_path / "model")
    assert other.offset_ == model.offset_
    np.testing.assert_array_equal(other.predict(X), model.labels_)
    np.testing.assert_array_equal(other.cluster_sizes_, model.cluster_sizes_)


def test_outliers_stay_outliers_when_clusters_are_merged(groups_of_rows):
    X, _ = groups_of_rows
    model = ContrastiveClustering(6, outlier_fraction=0.1, **FAST).fit(X)
    merged = model.merge_clusters([[0, 1], [2, 3]])
    np.testing.assert_array_equal(merged.labels_ == -1, model.labels_ == -1)
    np.testing.assert_array_equal(merged.predict(X), merged.labels_)


def test_without_outliers_every_sample_has_a_cluster(model):
    assert model.offset_ is None
    assert (model.labels_ >= 0).all()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, "auto"])
def test_shares_of_outliers_that_cannot_be_are_refused(groups_of_rows, fraction):
    with pytest.raises(ValueError, match="'outlier_fraction' parameter of ContrastiveClustering"):
        ContrastiveClustering(6, outlier_fraction=fraction, **FAST).fit(groups_of_rows[0])
