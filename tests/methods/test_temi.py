"""What is particular to TEMI."""

import math

import numpy as np
import pytest
import torch
from row_maps import RowMap
from sklearn.datasets import load_digits
from torch import nn

from deepcluster_sk import TEMI
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.methods.temi import TEMIObjective, distillation_loss, pair_weights

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "projection_dim": 4,
    "partition_start": False,
    "temperature": 0.1,
    "beta": 0.6,
    "momentum": 0.9,
    "marginal_momentum": 0.8,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "inputs",
}


def objective(**settings):
    torch.manual_seed(0)
    return TEMIObjective(nn.Identity(), 5, Settings(**{**SETTINGS, **settings}))


def batch(n=10):
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(n, 5, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(n))


def random_probabilities(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).softmax(dim=-1)


def loop_loss(students, teachers, marginal, beta):
    """The loss of each head, from probabilities [head][view][row][cluster]."""
    n_heads, n_rows, n_clusters = len(students), len(students[0][0]), len(marginal[0])
    weights = [
        sum(
            float(teachers[h][0][i][k] * teachers[h][1][i][k])
            for h in range(n_heads)
            for k in range(n_clusters)
        )
        / n_heads
        for i in range(n_rows)
    ]
    losses = []
    for h in range(n_heads):
        total = 0.0
        for own, other in ((0, 1), (1, 0)):
            for i in range(n_rows):
                s, t = students[h][own][i], teachers[h][other][i]
                inside = sum(
                    float(s[k] * t[k]) ** beta / float(marginal[h][k]) for k in range(n_clusters)
                )
                total -= weights[i] * math.log(inside)
        losses.append(total / (2 * n_rows))
    return losses


@pytest.mark.parametrize("beta", [0.6, 1.0])
def test_loss_equals_nested_loops(beta):
    students, teachers = (random_probabilities(2, 2, 7, 4, seed=s) for s in (0, 1))
    marginal = random_probabilities(2, 4, seed=2)
    logs = [p.log() for p in (students[:, 0], students[:, 1], teachers[:, 0], teachers[:, 1])]
    weights = pair_weights(logs[2], logs[3])
    forth = distillation_loss(logs[0], logs[3], marginal[:, None], weights, beta=beta)
    back = distillation_loss(logs[1], logs[2], marginal[:, None], weights, beta=beta)
    expected = loop_loss(students, teachers, marginal, beta)
    np.testing.assert_allclose(((forth + back) / 2).tolist(), expected, rtol=1e-10)


def test_sure_agreement_has_the_value_of_the_formula():
    log_p = torch.tensor([[[0.0, -200.0]], [[0.0, -200.0]]])  # two heads, one row, two clusters
    marginal = torch.full((2, 1, 2), 0.5)
    weights = pair_weights(log_p, log_p)
    assert weights.tolist() == [1.0]
    loss = distillation_loss(log_p, log_p, marginal, weights)
    np.testing.assert_allclose(loss.tolist(), [-math.log(2)] * 2, rtol=1e-6)


def test_pairs_in_different_clusters_do_not_count():
    log_a, log_b = torch.tensor([[[0.0, -200.0]]]), torch.tensor([[[-200.0, 0.0]]])
    assert pair_weights(log_a, log_b).tolist() == [0.0]


def test_gradients_equal_finite_differences_and_stop_at_the_teachers():
    log_s, log_t = (random_probabilities(2, 5, 3, seed=s).log() for s in (0, 1))
    weights, marginal = pair_weights(log_t, log_t), random_probabilities(2, 1, 3)
    assert torch.autograd.gradcheck(
        lambda x: distillation_loss(x, log_t, marginal, weights), (log_s.requires_grad_(),)
    )
    model = objective()
    model.moves.fill_(1)
    model(batch()).total.backward()
    assert all(p.grad is None for p in model.teachers.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.students.parameters())


@pytest.mark.parametrize("logit", [50.0, 400.0])
def test_degenerate_logits_have_finite_loss_and_gradient(logit):
    logits = torch.tensor([[logit, -logit, -logit]]).repeat(2, 4, 1).requires_grad_()
    log_p = logits.log_softmax(dim=-1)
    marginal = torch.tensor([1.0, 0.0, 0.0]).expand(2, 1, 3)
    loss = distillation_loss(log_p, log_p.detach().flip(-1), marginal, torch.ones(4))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def probabilities(heads, view):
    """Probabilities of each head, written out from the weights."""
    found = []
    for h in range(len(heads.first)):
        hidden = nn.functional.gelu(view @ heads.first[h] + heads.first_bias[h])
        projected = hidden @ heads.second[h] + heads.second_bias[h]
        unit = projected / projected.norm(dim=1, keepdim=True)
        directions = heads.directions[h] / heads.directions[h].norm(dim=0)
        found.append((unit @ directions * heads.lengths[h] / 0.1).softmax(dim=1))
    return torch.stack(found)


def test_the_loss_of_a_batch_is_that_of_the_heads_and_a_moving_average():
    model, data = objective(), batch()
    with torch.no_grad():
        for parameter in model.teachers.module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        students = torch.stack([probabilities(model.students, v) for v in data.views], dim=1)
        teachers = torch.stack([probabilities(model.teachers.module, v) for v in data.views], dim=1)
        output = model(data)
    marginal = 0.8 / 3 + 0.2 * teachers.mean(dim=(1, 2))
    expected = loop_loss(students, teachers, marginal, 0.6)
    assert output.total.item() == pytest.approx(np.mean(expected), rel=1e-4)
    torch.testing.assert_close(output.carry[0][:, 0], marginal)
    assert torch.equal(model.marginal, torch.full((2, 1, 3), 1 / 3))  # the loss is pure
    model.after_step(output.carry, 0.1)
    torch.testing.assert_close(model.marginal[:, 0], marginal)


def test_the_last_layer_waits_for_an_epoch():
    model = objective()
    rows = RowMap(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)))
    for progress, moves in ((0.0, False), (0.5, True)):
        with torch.no_grad():
            model.before_epoch(progress, rows)
        model.zero_grad()
        model(batch()).total.backward()
        assert bool(model.students.directions.grad.any()) == moves
        assert bool(model.students.lengths.grad.any()) == moves
        assert model.students.first.grad.any()


def test_teachers_follow_slowly():
    model = objective()
    before = model.teachers.module.first.clone()
    with torch.no_grad():
        model.students.first.add_(1.0)
        model.after_step((model.marginal, torch.zeros(2)), 0.1)
    torch.testing.assert_close(model.teachers.module.first, before + 0.1)


def test_the_head_is_kept_on_which_neighbours_agree_the_most(blobs):
    X, y = blobs
    rows = torch.from_numpy(X).float()
    model = objective(n_heads=3)
    others = torch.arange(len(y)) % 3
    partitions = torch.stack([others, torch.from_numpy(y), others])
    model.students.imitate(rows, partitions, temperature=0.1)
    with torch.no_grad():
        model.teachers.update(model.students, momentum=0)
        expected = probabilities(model.teachers.module, rows)[1]
        model.before_epoch(0.0, RowMap(rows))
        model.after_training(rows, 0)
        torch.testing.assert_close(model.assign(rows), expected)
    assert model.neighbors.graph is None
    assert len(model.students.first) == len(model.marginal) == 1


def test_the_graph_does_not_decide_on_the_clusters():
    model = objective()
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(torch.randn(40, 5)))
    assert model.neighbors.graph is not None
    assert model.neighbors.partitions is None


def test_heads_start_from_partitions(blobs, full_searches):
    X, y = blobs
    rows = torch.from_numpy(X).float()
    model = objective(partition_start=True, n_heads=2)
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(rows))
        started = model.learned_assignments(rows).argmax(dim=2)
        kept = {name: x.clone() for name, x in model.students.named_parameters()}
        model.before_epoch(0.5, RowMap(rows))  # no second start
    for labels in started.tolist():
        assert len(set(zip(labels, y, strict=True))) == 3
    assert all(torch.equal(x, kept[name]) for name, x in model.students.named_parameters())


def test_pixels_of_images_are_clustered_as_rows(full_searches):
    images = load_digits().images[:200]
    options = {"max_epochs": 3, "hidden_dim": 16, "projection_dim": 8, "random_state": 0}
    of_images = TEMI(5, **options).fit(images)
    assert of_images.encoder_(torch.zeros(2, 1, 8, 8)).shape == (2, 64)
    assert of_images.transform(images).shape == (200, 64)
    of_rows = TEMI(5, **options).fit(images.reshape(200, -1) / 16)
    np.testing.assert_allclose(
        of_images.predict_proba(images),
        of_rows.predict_proba(images.reshape(200, -1) / 16),
        atol=1e-3,
    )
