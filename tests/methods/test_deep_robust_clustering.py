"""What is particular to deep robust clustering."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.methods.deep_robust_clustering import (
    DeepRobustObjective,
    cluster_regularization,
    feature_loss,
    probability_loss,
)

Z_A = torch.tensor([[2.0, 0, -1], [0, 1, 0], [-1, 0, 3], [1, 1, 0]])
Z_B = torch.tensor([[1.0, 0, 0], [0, 2, -1], [0, 0, 2], [1, 0, 0]])
FAITHFUL = {"normalize": False, "symmetric": False}


def loop_one_direction(a, b, temperature):
    losses = []
    for i in range(len(a)):
        similarity = [float(a[i] @ b[j]) / temperature for j in range(len(b))]
        losses.append(-similarity[i] + math.log(sum(math.exp(s) for s in similarity)))
    return sum(losses) / len(losses)


def loop_contrast(a, b, temperature, *, normalize, symmetric):
    if normalize:
        a, b = (torch.stack([row / row.norm() for row in m]) for m in (a, b))
    forth = loop_one_direction(a, b, temperature)
    return (forth + loop_one_direction(b, a, temperature)) / 2 if symmetric else forth


def random_logits(n=9, k=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(n, k, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_losses_equal_nested_loops(normalize, symmetric):
    how = {"normalize": normalize, "symmetric": symmetric}
    z_a, z_b = random_logits()
    expected = loop_contrast(z_a, z_b, 0.7, **how)
    assert feature_loss(z_a, z_b, temperature=0.7, **how).item() == pytest.approx(expected)
    p_a, p_b = z_a.softmax(dim=1), z_b.softmax(dim=1)
    expected = loop_contrast(p_a.T, p_b.T, 0.7, **how)
    assert probability_loss(p_a, p_b, temperature=0.7, **how).item() == pytest.approx(expected)


def test_faithful_losses_have_the_published_values():
    p_a, p_b = Z_A.softmax(dim=1), Z_B.softmax(dim=1)
    for temperature, feature, probability in [(1.0, 0.709730, 0.848779), (0.5, 0.766532, 0.643208)]:
        how = {"temperature": temperature, **FAITHFUL}
        assert feature_loss(Z_A, Z_B, **how).item() == pytest.approx(feature, abs=1e-6)
        assert probability_loss(p_a, p_b, **how).item() == pytest.approx(probability, abs=1e-6)
    regularization = cluster_regularization(p_a, scale_free=False)
    assert regularization.item() == pytest.approx(1.347498, abs=1e-6)


def test_uniform_probabilities_have_the_known_values():
    p = torch.full((20, 5), 0.2)
    assert probability_loss(p, p).item() == pytest.approx(math.log(5), abs=1e-6)
    assert cluster_regularization(p, scale_free=False).item() == pytest.approx(20 / 5)
    assert cluster_regularization(p).item() == pytest.approx(1)
    zeros = torch.zeros(20, 5)
    assert feature_loss(zeros, zeros).item() == pytest.approx(math.log(20), abs=1e-6)


def test_regularization_of_one_cluster_is_the_largest():
    p = torch.eye(5)[torch.zeros(20, dtype=torch.int64)]
    assert cluster_regularization(p, scale_free=False).item() == pytest.approx(20)
    assert cluster_regularization(p).item() == pytest.approx(5)


def test_only_the_symmetric_form_is_symmetric():
    for how, equal in [({}, True), (FAITHFUL, False)]:
        there, back = feature_loss(Z_A, Z_B, **how), feature_loss(Z_B, Z_A, **how)
        assert (abs(there.item() - back.item()) < 1e-6) == equal


def test_gradients_equal_finite_differences():
    z_a, z_b = (z.requires_grad_() for z in random_logits(5, 3))
    for how in ({}, FAITHFUL):
        assert torch.autograd.gradcheck(lambda a, b, how=how: feature_loss(a, b, **how), (z_a, z_b))
    assert torch.autograd.gradcheck(lambda z: cluster_regularization(z.softmax(dim=1)), (z_a,))


@pytest.mark.parametrize("how", [{}, FAITHFUL], ids=["default", "faithful"])
@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[50.0, -50, -50], [-50, 50, -50]]).repeat(4, 1),
        torch.tensor([[400.0, 0, -400]]).repeat(8, 1),
        torch.zeros(8, 3),
    ],
    ids=["one empty cluster", "one-hot rows of one cluster", "zeros"],
)
def test_degenerate_logits_have_finite_loss_and_gradient(logits, how):
    z = logits.clone().requires_grad_()
    p = z.softmax(dim=1)
    loss = feature_loss(z, z.flip(0), **how) + probability_loss(p, p.flip(0), **how)
    loss = loss + cluster_regularization(p)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "n_fine_clusters": 7,
    "feature_temperature": 0.5,
    "probability_temperature": 0.8,
    "regularization_weight": 0.3,
    "normalize": True,
    "symmetric": True,
    "scale_free": True,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "features",
}


def objective(**settings):
    torch.manual_seed(0)
    return DeepRobustObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def expected_sum(heads, features, head):
    z_a, z_b = (heads(f)[head] for f in features)
    p_a, p_b = z_a.softmax(dim=1), z_b.softmax(dim=1)
    return (
        feature_loss(z_a, z_b, temperature=0.5)
        + probability_loss(p_a, p_b, temperature=0.8)
        + 0.3 * cluster_regularization(p_a)
    )


def test_loss_is_the_weighted_sum_of_its_terms_over_heads_and_the_finer_head():
    model, data = objective(), batch()
    features = [model.encoder(view) for view in data.views]
    expected = sum(expected_sum(model.cluster_heads, features, h) / 2 for h in range(2))
    expected = expected + expected_sum(model.fine_head, features, 0)
    torch.testing.assert_close(model(data).total, expected)


def test_before_their_start_the_cluster_heads_do_not_count():
    model, data = objective(cluster_start=0.5), batch()
    features = [model.encoder(view) for view in data.views]
    output = model(data)
    torch.testing.assert_close(output.total, expected_sum(model.fine_head, features, 0))
    output.total.backward()
    assert not model.cluster_heads.output.weight.grad.any()


def test_settings_of_the_paper_leave_one_linear_head():
    model = objective(n_heads=1, hidden_dim=0, n_fine_clusters=0, **FAITHFUL, scale_free=False)
    assert {name for name, _ in model.named_parameters()} == {
        "encoder.weight",
        "encoder.bias",
        "cluster_heads.output.weight",
        "cluster_heads.output.bias",
    }
    a, b = (model.cluster_heads(model.encoder(view))[0].detach() for view in batch().views)
    expected = loop_contrast(a, b, 0.5, **FAITHFUL)
    expected += loop_contrast(a.softmax(dim=1).T, b.softmax(dim=1).T, 0.8, **FAITHFUL)
    expected += 0.3 * float((a.softmax(dim=1).sum(dim=0) ** 2).sum()) / 10
    assert model(batch()).total.item() == pytest.approx(expected, rel=1e-5)


def test_regularization_reaches_the_first_view_only():
    model = objective(n_fine_clusters=0)
    views = tuple(view.requires_grad_() for view in batch().views)
    terms = model._terms(model.cluster_heads, model.encoder(torch.cat(views)))
    terms["regularization"].backward()
    assert views[0].grad.any()
    assert not views[1].grad.any()


def test_only_the_head_for_the_clusters_is_left_after_training():
    model = objective()
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 6))).float()
    with torch.no_grad():
        model.after_training(model.encoder(rows), 0)
        assert model.fine_head is None
        assert model.assign(model.encoder(rows)).shape == (12, 3)
