"""What is particular to cross-instance guided contrastive clustering."""

import math

import numpy as np
import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import ContrastiveClustering, CrossInstanceClustering
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import negative_entropy
from deepcluster_sk.methods.contrastive_clustering import ContrastiveObjective, cluster_loss
from deepcluster_sk.methods.cross_instance_clustering import (
    CrossInstanceObjective,
    cross_instance_loss,
)


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def loop_loss(z_a, z_b, threshold):
    """The authors' formula: a sum over 2B projections, divided by B."""
    z = [*z_a, *z_b]
    n, total = len(z_a), 0.0
    for i in range(2 * n):
        pairs = every = 0.0
        for j in range(2 * n):
            similarity = float(z[i] @ z[j])
            every += math.exp(similarity)
            if similarity > threshold or i % n == j % n:
                pairs += math.exp(similarity)
        total += math.log(pairs / every)
    return -total / n


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_loss_equals_nested_loops(threshold):
    z_a, z_b = unit(2, 7, 3)
    expected = loop_loss(z_a, z_b, threshold)
    loss = cross_instance_loss(z_a, z_b, threshold=threshold)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_loss_has_the_values_of_the_authors_formula():
    z = torch.eye(2)  # two orthogonal samples with equal views
    expected = 4 * math.log((2 * math.e + 2) / (2 * math.e)) / 2
    assert cross_instance_loss(z, z).item() == pytest.approx(expected, abs=1e-6)
    # (1, 0) and (.8, .6) are a pair for .6, and none for .9
    z = torch.tensor([[1.0, 0], [0.8, 0.6]])
    assert cross_instance_loss(z, z, threshold=0.6).item() == pytest.approx(0, abs=1e-6)
    expected = 2 * math.log((math.e + math.exp(0.8)) / math.e)
    assert cross_instance_loss(z, z, threshold=0.9).item() == pytest.approx(expected, abs=1e-6)


def test_gradients_equal_finite_differences():
    z = [part.requires_grad_() for part in unit(2, 5, 3)]
    assert torch.autograd.gradcheck(lambda a, b: cross_instance_loss(a, b, threshold=0.4), z)


def test_similar_projections_are_drawn_together():
    z = torch.tensor([[1.0, 0], [0.8, 0.6], [-1, 0]], requires_grad=True)
    cross_instance_loss(z, z.detach(), threshold=0.6).backward()
    step = nn.functional.normalize(z.detach() - 0.1 * z.grad, dim=1)
    assert step[0] @ step[1] > z[0] @ z[1]


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
    "threshold": 0.98,  # the projections of a new network are alike
    "fine_tune_start": 0.5,
    "fine_tune_clusters": True,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.6,
    "neighbor_space": "features",
}


def objective(kind=CrossInstanceObjective, **settings):
    torch.manual_seed(0)
    return kind(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def at(model, progress):
    with torch.no_grad():
        model.before_epoch(progress, RowMap(torch.cat(batch().views)))
    return model


def test_before_the_fine_tuning_the_loss_is_that_of_contrastive_clustering():
    ours, theirs = at(objective(), 0.4)(batch()), objective(ContrastiveObjective)(batch())
    assert torch.equal(ours.total, theirs.total)
    assert ours.terms == {**theirs.terms, "cross_instance": torch.tensor(0.0)}


def test_in_the_fine_tuning_the_loss_of_instances_is_replaced():
    model, data = at(objective(), 0.5), batch()
    features = [model.encoder(view) for view in data.views]
    z_a, z_b = (nn.functional.normalize(model.instance_head(f), dim=1) for f in features)
    expected = cross_instance_loss(z_a, z_b, threshold=0.98)
    for head in range(2):
        c_a, c_b = (model.cluster_heads(f)[head].softmax(dim=1) for f in features)
        expected = expected + 2.0 * cluster_loss(c_a, c_b) / 2
        expected = expected + 0.5 * (negative_entropy(c_a) + negative_entropy(c_b)) / 2
    output = model(data)
    torch.testing.assert_close(output.total, expected)
    assert output.terms["instance"] == 0
    assert list(output.terms) == list(at(objective(), 0.0)(data).terms)


def test_as_in_the_paper_the_cluster_heads_are_left_as_they_are():
    model = at(objective(fine_tune_clusters=False), 0.5)
    output = model(batch())
    assert torch.equal(output.total, output.terms["cross_instance"])
    output.total.backward()
    assert model.encoder.weight.grad.any()
    assert model.instance_head[0].weight.grad.any()
    assert model.cluster_heads.output.weight.grad is None


def test_single_passes_do_not_fine_tune():
    model = objective()
    model.before_single_pass()
    assert at(model, 1.0)(batch()).terms["instance"] > 0


def test_history_shows_when_the_fine_tuning_begins(blobs):
    model = CrossInstanceClustering(3, max_epochs=5, fine_tune_start=0.6, random_state=0)
    history = model.fit(blobs[0]).history_
    assert [value != 0 for value in history["instance"]] == [True] * 3 + [False] * 2
    assert [value != 0 for value in history["cross_instance"]] == [False] * 3 + [True] * 2


def test_a_fitted_model_is_fine_tuned_by_a_warm_start(blobs):
    X, _ = blobs
    model = CrossInstanceClustering(3, max_epochs=4, fine_tune_start=0.99, random_state=0).fit(X)
    plain = ContrastiveClustering(3, max_epochs=4, random_state=0).fit(X)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    model.set_params(warm_start=True, fine_tune_start=0.0, max_epochs=2, learning_rate=1e-5)
    model.fit(X)
    assert all(value == 0 for value in model.history_["instance"])
    np.testing.assert_array_equal(model.labels_, plain.labels_)


def test_paper_settings_are_those_of_contrastive_clustering_and_twenty_epochs_more():
    settings = CrossInstanceClustering.paper_settings("stl10")
    before = ContrastiveClustering.paper_settings("stl10")
    assert settings["max_epochs"] * settings["fine_tune_start"] == pytest.approx(1000)
    assert {**settings, "max_epochs": 1000}.items() >= {
        name: value for name, value in before.items() if name != "augmentation"
    }.items()
