"""The last part of a training, in which the network learns its own labels."""

import copy
import math

import numpy as np
import pytest
import torch
from estimators import each
from sklearn.base import clone
from torch import nn

from deepcluster_sk import (
    TEMI,
    TURTLE,
    ClusterContrast,
    ContrastiveClustering,
    CrossInstanceClustering,
    DeepRobustClustering,
)
from deepcluster_sk._networks import neighbor_stage
from deepcluster_sk._networks.cluster_heads import ClusterHeads
from deepcluster_sk._networks.task_encoder import TaskEncoder
from deepcluster_sk._networks.unit_heads import UnitHeads
from deepcluster_sk._runtime.file_format import read_file
from deepcluster_sk._training.self_labeling import (
    SelfLabeling,
    confident_weights,
    self_labeling_loss,
)
from deepcluster_sk.methods import METHODS

# a handful of epochs is too few to fill every cluster
pytestmark = pytest.mark.filterwarnings("ignore:.*clusters are empty")

FAST = {"batch_size": 20, "random_state": 0, "device": "cpu"}


@pytest.fixture
def large_clusters(monkeypatch):
    """Take all clusters for large: the graph of the features judges them, and does not decide."""
    monkeypatch.setattr(neighbor_stage, "_SMALL", 0)


def small_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())


def fitted(estimator, X, **parameters):
    return estimator(3, **{"encoder": small_network, **FAST, **parameters}).fit(X)


# ---- loss and labels


@pytest.mark.parametrize("heads", [(), (2,)])
def test_the_loss_is_a_weighted_cross_entropy(heads):
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(*heads, 7, 4, generator=generator).softmax(dim=-1)
    labels = torch.tensor([0, 1, 3, 3, 2, 0, 1])
    weights = torch.tensor([0.0, 2.0, 0.5, 0.0, 1.0, 1.5, 3.0])
    single = p.reshape(-1, 7, 4)
    total = 0.0
    for of_head in single:
        for row in range(7):
            total -= float(weights[row]) * math.log(of_head[row, labels[row]])
    expected = total / (7 * len(single))
    assert float(self_labeling_loss(p, labels, weights)) == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_impossible_labels_is_finite():
    p = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = self_labeling_loss(p, torch.tensor([1]), torch.tensor([1.0]))
    torch.autograd.backward(loss)
    assert loss.isfinite()
    assert p.grad.isfinite().all()


def test_the_confident_half_of_each_cluster_is_learned_and_all_clusters_count_the_same():
    #                       *    *              *    *              *   (of equal doubts the first)
    labels = torch.tensor([0, 2, 0, 0, 2, 0, 3, 0])
    doubts = torch.tensor([0.1, 0.5, 0.4, 0.2, 0.3, 0.9, 0.99, 0.4])
    weights = confident_weights(labels, doubts)
    # 3 of 5 rows, 1 of 2, none of an empty cluster, 1 of 1
    expected = torch.tensor([1, 0, 1, 1, 3, 0, 3, 0]) * 8 / 9
    torch.testing.assert_close(weights, expected)
    assert float(weights.sum()) == pytest.approx(len(labels))
    for cluster in (0, 2, 3):
        assert float(weights[labels == cluster].sum()) == pytest.approx(8 / 3)


# ---- heads


@pytest.mark.parametrize(
    "heads",
    [
        ClusterHeads(6, 5, 3, n_heads=4),
        ClusterHeads(6, 0, 3, n_heads=4),
        UnitHeads(6, 5, 4, 3, n_heads=4),
        TaskEncoder(6, 4, 3),
    ],
    ids=["linear", "without hidden layer", "unit", "task"],
)
def test_all_heads_become_one_of_them_in_place(heads):
    x, heads = torch.randn(8, 6), copy.deepcopy(heads)
    parameters = list(heads.parameters())
    axis = 1 if isinstance(heads, TaskEncoder) else 0
    before = heads(x).unbind(axis)
    assert not torch.allclose(before[0], before[2])
    with torch.no_grad():
        heads.repeat(2)
    for of_head in heads(x).unbind(axis):
        torch.testing.assert_close(of_head, before[2])
    assert all(a is b for a, b in zip(parameters, heads.parameters(), strict=True))


@pytest.mark.parametrize("estimator", [ContrastiveClustering, TEMI, TURTLE])
def test_the_head_that_neighbours_prefer_labels_and_learns(
    estimator, few_images, large_clusters, monkeypatch
):
    seen = []
    before_epoch = SelfLabeling.before_epoch

    def watched(labelling, progress, map_all):
        learner = labelling.learner
        learner.before_epoch(1.0, map_all)
        features = map_all.on_sampled(learner.encoder)
        heads = learner.learned_assignments(features).argmax(dim=2)
        graph = learner.neighbors.graph
        best = max(range(len(heads)), key=lambda h: graph.agreement(heads[h]))
        before_epoch(labelling, progress, map_all)
        if not seen:  # teachers are not their students later on
            learned = learner.learned_assignments(features).argmax(dim=2)
            assert all(torch.equal(of_head, learned[0]) for of_head in learned)
            if estimator is not TEMI:
                assert torch.equal(learned[0], heads[best])
            assert torch.equal(labelling._labels, learner.assign(features).argmax(dim=1))
        seen.append(progress)

    monkeypatch.setattr(SelfLabeling, "before_epoch", watched)
    fitted(estimator, few_images, max_epochs=5, self_labeling=0.4, n_heads=3)
    assert seen == [0.6, 0.8]


# ---- fits


@each
def test_every_method_learns_its_own_labels(estimator, few_images):
    parameters = {"max_epochs": 4, "self_labeling": 0.5, "n_neighbors": 0}
    model = fitted(estimator, few_images, **parameters)
    terms = dict(model.history_)
    own = terms.pop("self_labeling")
    assert own[:2] == [0.0, 0.0]
    assert own[3] > 0
    assert own[2:] == model.loss_curve_[2:]
    assert terms
    for values in terms.values():
        assert values[2:] == [0.0, 0.0]
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)
    without = fitted(estimator, few_images, **{**parameters, "self_labeling": 0.0})
    assert terms.keys() == without.history_.keys()
    assert all(terms[name][:2] == without.history_[name][:2] for name in terms)


@pytest.mark.parametrize(
    ("share", "n_own"), [(0.1, 1), (0.3, 3), (0.7, 7), (0.25, 2), (0.05, 0), (0.99, 9)]
)
def test_the_share_of_the_epochs_is_the_last_one(share, n_own, few_images):
    model = fitted(
        ContrastiveClustering, few_images, max_epochs=10, self_labeling=share, n_neighbors=0
    )
    own, instance = model.history_["self_labeling"], model.history_["instance"]
    assert [value > 0 for value in own] == [False] * (10 - n_own) + [True] * n_own
    assert [value > 0 for value in instance] == [True] * (10 - n_own) + [False] * n_own


def test_clusters_and_neighbours_that_start_later_start_with_it(few_images, large_clusters):
    late = {"cluster_start": 0.9, "neighbor_start": 0.95}
    model = fitted(ContrastiveClustering, few_images, max_epochs=4, self_labeling=0.5, **late)
    assert model.history_["self_labeling"][2] > 0
    assert model.history_["cluster"] == [0.0] * 4
    # neighbours have calibrated the confidence
    assert model._objective.neighbors.graph is None
    without = clone(model).set_params(n_neighbors=0).fit(few_images)
    assert not np.array_equal(model.predict_proba(few_images), without.predict_proba(few_images))


@pytest.mark.parametrize("estimator", [ContrastiveClustering, ClusterContrast])
@pytest.mark.parametrize("space", ["inputs", "features"])
def test_it_is_left_out_where_the_graph_decides(estimator, space, few_images):
    parameters = {"max_epochs": 4, "neighbor_space": space}
    model = fitted(estimator, few_images, self_labeling=0.5, **parameters)
    without = fitted(estimator, few_images, **parameters)
    assert model.history_ == {**without.history_, "self_labeling": [0.0] * 4}
    np.testing.assert_array_equal(
        model.predict_proba(few_images), without.predict_proba(few_images)
    )


def test_history_has_no_term_of_it_without_it(few_images):
    model = fitted(ContrastiveClustering, few_images, max_epochs=2)
    assert list(model.history_) == ["instance", "cluster", "entropy"]


def test_single_passes_leave_it_out(few_images):
    model = ContrastiveClustering(3, encoder=small_network, self_labeling=0.5, **FAST)
    for _ in range(2):
        model.partial_fit(few_images)
    assert list(model.history_) == ["instance", "cluster", "entropy"]
    model = fitted(ContrastiveClustering, few_images, max_epochs=2, self_labeling=0.5)
    model.partial_fit(few_images)
    assert model.history_["self_labeling"][2] == 0
    assert model.history_["instance"][2] > 0


def test_an_early_end_waits_for_it(few_images):
    parameters = {"max_epochs": 8, "tol": 1.0, "n_iter_no_change": 1, "n_neighbors": 0}
    without = fitted(ContrastiveClustering, few_images, **parameters)
    model = fitted(ContrastiveClustering, few_images, self_labeling=0.25, **parameters)
    assert without.n_iter_ < 6
    assert model.n_iter_ > 6


@pytest.mark.parametrize("estimator", [ContrastiveClustering, ClusterContrast, TEMI])
def test_a_fit_goes_on_in_the_middle_of_it(estimator, few_images, large_clusters, tmp_path):
    parameters = {"max_epochs": 5, "self_labeling": 0.6, "checkpoint": tmp_path / "run"}

    class KilledError(Exception):
        pass

    class Net(nn.Sequential):
        steps_left = math.inf

        def __init__(self):
            super().__init__(*small_network())

        def forward(self, x):
            if self.training and torch.is_grad_enabled():
                Net.steps_left -= 1
                if Net.steps_left < 0:
                    raise KilledError
            return super().forward(x)

    whole = fitted(estimator, few_images, **{**parameters, "checkpoint": None}, encoder=Net)
    Net.steps_left = 3 * 4 + 1  # three steps in an epoch: in the third of its own labels
    with pytest.raises(KilledError):
        fitted(estimator, few_images, **parameters, encoder=Net)
    written = [terms for _, terms in read_file(tmp_path / "run")[0]["history"]]
    assert [epoch["self_labeling"] > 0 for epoch in written] == [False, False, True, True]
    Net.steps_left = math.inf
    again = fitted(estimator, few_images, **parameters, encoder=Net)
    assert again.history_ == whole.history_
    tensors, expected = again._objective.state_dict(), whole._objective.state_dict()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_heads_on_a_frozen_encoder_learn_alone(few_images, large_clusters):
    encoder = small_network()
    model = fitted(
        DeepRobustClustering,
        few_images,
        encoder=encoder,
        freeze_encoder=True,
        neighbor_space="features",
        max_epochs=4,
        self_labeling=0.5,
    )
    assert model.history_["self_labeling"][2] > 0
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, model.encoder_.state_dict()[name])


def test_an_unknown_number_of_clusters_is_no_hindrance(few_images, large_clusters):
    parameters = {"encoder": small_network, "max_epochs": 4, "self_labeling": 0.5, **FAST}
    model = ContrastiveClustering("auto", **parameters).fit(few_images)
    assert model.history_["self_labeling"][3] > 0
    np.testing.assert_array_equal(model.predict(few_images), model.labels_)


def test_the_papers_settings_leave_it_out():
    for method in METHODS.values():
        estimator = method.load_class()
        for data_set in estimator.paper_results():
            assert "self_labeling" not in estimator.paper_settings(data_set)
    assert ContrastiveClustering().self_labeling == CrossInstanceClustering().self_labeling == 0
