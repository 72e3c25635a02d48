"""What is particular to contrastive clustering."""

import numpy as np
import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import TEMI, TURTLE, ContrastiveClustering
from deepcluster_sk._estimator import plan
from deepcluster_sk._estimator.parameters import resolved
from deepcluster_sk._estimator.plan import default_epochs
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import negative_entropy
from deepcluster_sk.methods.contrastive_clustering import (
    ContrastiveObjective,
    cluster_loss,
    instance_loss,
)

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_temperature": 0.5,
    "cluster_temperature": 1.0,
    "cluster_weight": 2.0,
    "entropy_weight": 0.5,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "features",
}


def objective(**settings):
    torch.manual_seed(0)
    return ContrastiveObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def assignments_of(model, view, head):
    logits = model.cluster_heads(model.encoder(view))[head]
    return torch.stack([row.exp() / row.exp().sum() for row in logits])


def test_loss_is_the_weighted_sum_of_its_terms_over_views_and_heads():
    model, data = objective(), batch()
    a, b = data.views
    z_a, z_b = (
        torch.stack([z / z.norm() for z in model.instance_head(model.encoder(v))]) for v in (a, b)
    )
    expected = instance_loss(z_a, z_b, temperature=0.5)
    for head in range(2):
        c_a, c_b = assignments_of(model, a, head), assignments_of(model, b, head)
        expected = expected + 2.0 * cluster_loss(c_a, c_b) / 2
        expected = expected + 0.5 * (negative_entropy(c_a) + negative_entropy(c_b)) / 2
    torch.testing.assert_close(model(data).total, expected)


def test_before_their_start_the_cluster_heads_do_not_count():
    model, data = objective(cluster_start=0.5), batch()
    z_a, z_b = (
        nn.functional.normalize(model.instance_head(model.encoder(v)), dim=1) for v in data.views
    )
    output = model(data)
    torch.testing.assert_close(output.total, instance_loss(z_a, z_b, temperature=0.5))
    output.total.backward()
    assert not model.cluster_heads.output.weight.grad.any()


def test_loss_is_pure():
    model, data = objective(), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model(data).total, model(data).total)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_gradients_reach_encoder_and_all_heads():
    model = objective()
    model(batch()).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim == 2)


def test_one_head_is_left_after_training_and_no_neighbors():
    model = objective(n_heads=3)
    rows = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for progress in (0.0, 0.5):
            model.before_epoch(progress, RowMap(rows))
        assert model.view_rows(torch.arange(12).view(2, 6), torch.Generator()).shape == (2, 2, 6)
        model.after_training(model.encoder(rows), 0)
    assert model.cluster_heads(rows[:, :5]).shape == (1, 12, 3)
    assert model.neighbors.graph is None


@pytest.mark.parametrize(
    ("n_samples", "epochs"),
    [(20, 560), (256, 560), (1797, 80), (10_000, 15), (13_000, 12), (70_000, 12)],
)
def test_default_number_of_epochs_follows_the_documented_rule(n_samples, epochs):
    assert default_epochs(n_samples, min(256, n_samples)) == epochs
    # a quarter where the graph of the inputs decides, rounded up
    assert default_epochs(n_samples, min(256, n_samples), (3, 140)) == (epochs + 3) // 4


@pytest.mark.parametrize("n_steps", [0, 1, 560, 1120, 5600])
def test_clusters_and_neighbors_start_after_as_many_steps_in_long_trainings(n_steps):
    params = resolved(ContrastiveClustering(2), 2, join=False, n_steps=n_steps)
    length = max(1.0, n_steps / 560)
    assert params.cluster_start == pytest.approx(0.3 / length)
    assert params.neighbor_start == pytest.approx(0.6 / length)


def test_shares_of_a_training_are_taken_as_they_are():
    model = ContrastiveClustering(2, cluster_start=0.25, neighbor_start=0.0)
    params = resolved(model, 2, join=False, n_steps=5600)
    assert (params.cluster_start, params.neighbor_start) == (0.25, 0.0)


def test_a_fit_knows_the_steps_of_its_training(few_images, monkeypatch):
    seen = []

    def record(estimator, n_clusters, *, join, n_steps):
        seen.append(n_steps)
        return resolved(estimator, n_clusters, join=join, n_steps=n_steps)

    monkeypatch.setattr(plan, "resolved", record)
    batch_size = len(few_images) // 2
    ContrastiveClustering(2, max_epochs=3, batch_size=batch_size, random_state=0).fit(few_images)
    assert seen == [6]


@pytest.mark.parametrize(
    ("parameters", "is_image", "expected"),
    [
        ({}, False, True),
        ({"n_neighbors": 0}, False, False),
        ({"neighbor_space": "features"}, False, False),
        ({}, True, False),
        ({"neighbor_space": "inputs"}, True, True),
    ],
)
def test_epochs_are_fewer_where_the_graph_of_the_inputs_decides(
    parameters, is_image, expected, blobs, few_images, monkeypatch
):
    asked = []

    def record(n_samples, batch_size, least):
        asked.append(least == (3, 140))
        return 1

    monkeypatch.setattr(plan, "default_epochs", record)
    X = few_images if is_image else blobs[0]
    ContrastiveClustering(2, random_state=0, **parameters).fit(X)
    assert asked == [expected]


@pytest.mark.parametrize("estimator", [TEMI, TURTLE])
@pytest.mark.parametrize("n_neighbors", ["auto", 0])
def test_methods_whose_heads_decide_have_a_length_of_their_own(
    estimator, n_neighbors, blobs, monkeypatch
):
    asked = []

    def record(n_samples, batch_size, least):
        asked.append(least)
        return 1

    monkeypatch.setattr(plan, "default_epochs", record)
    estimator(2, n_neighbors=n_neighbors, random_state=0).fit(blobs[0])
    assert asked == [(18, 840)]


def test_entropy_weight_evens_out_the_shares_of_the_clusters(blobs):
    X, y = blobs
    uneven = np.concatenate([X[y == 0], X[y == 1][:15], X[y == 2][:15]])

    def entropy_term(entropy_weight):
        model = ContrastiveClustering(
            3,
            entropy_weight=entropy_weight,
            cluster_start=0.0,
            n_neighbors=0,
            max_epochs=30,
            random_state=0,
        )
        return model.fit(uneven).history_["entropy"][-1]

    assert entropy_term(5.0) < 0.5 * entropy_term(0.0)
