"""What is particular to TURTLE."""

import math

import numpy as np
import pytest
import torch
from row_maps import RowMap
from sklearn.datasets import load_digits
from sklearn.preprocessing import scale
from torch import nn

from deepcluster_sk import TURTLE, load
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.methods.turtle import TURTLEObjective, learned_classifiers, prediction_loss

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "spaces": (2, 3),
    "balance_spaces": False,
    "n_heads": 2,
    "partition_start": False,
    "entropy_weight": 4.0,
    "inner_steps": 5,
    "inner_learning_rate": 0.05,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "inputs",
}
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}


def objective(**settings):
    torch.manual_seed(0)
    return TURTLEObjective(nn.Identity(), 5, Settings(**{**SETTINGS, **settings}))


def batch(model, n=10):
    generator = torch.Generator().manual_seed(1)
    noise = model.sample_noise(n, generator)
    return Batch((torch.randn(n, 5, generator=generator),), torch.arange(n), noise)


def labels(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).softmax(dim=-1)


def learned_by_torch(z, tau, start, n_steps, rate):
    """A layer without bias that torch trains on one task."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=rate)
    for _ in range(n_steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(z @ weights, tau).backward()
        optimizer.step()
    return weights.detach()


def test_classifiers_learn_as_by_steps_of_adam():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    tau, start = labels(9, 2, 3), torch.randn(4, 6, generator=generator, dtype=torch.float64)
    found = learned_classifiers(z, tau, start, n_steps=7, learning_rate=0.05)
    for task in range(2):
        columns = slice(3 * task, 3 * task + 3)
        expected = learned_by_torch(z, tau[:, task], start[:, columns], 7, 0.05)
        torch.testing.assert_close(found[:, columns], expected)


def test_prediction_loss_equals_nested_loops():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    tau = labels(6, 2, 3)
    for task, found in enumerate(prediction_loss(z, weights, tau).tolist()):
        expected = 0.0
        for i in range(6):
            logits = [float(z[i] @ weights[:, 3 * task + k]) for k in range(3)]
            normalizer = math.log(sum(math.exp(x) for x in logits))
            expected -= sum(float(tau[i, task, k]) * (logits[k] - normalizer) for k in range(3)) / 6
        assert found == pytest.approx(expected)


def test_the_gradient_reaches_the_labels_alone():
    z, tau = torch.randn(6, 4, dtype=torch.float64), labels(6, 2, 3).requires_grad_()
    weights = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    z.requires_grad_()
    prediction_loss(z, weights, tau).sum().backward()
    assert z.grad is None
    assert weights.grad is None
    assert torch.autograd.gradcheck(lambda t: prediction_loss(z, weights, t), (tau,))


def test_the_loss_of_a_batch_is_that_of_the_formula():
    model = objective()
    data = batch(model)
    parts = data.views[0].split((2, 3), dim=1)
    expected = []
    for head in range(2):
        per_space = []
        for task, z in zip(model.tasks, parts, strict=True):
            direction = task.directions[:, head] / task.directions[:, head].norm(dim=0)
            logits = z @ direction * task.lengths[head] + task.bias[head]
            per_space.append(logits.softmax(dim=1).detach())
        tau = sum(per_space) / 2
        loss = 0.0
        for z, p, start in zip(parts, per_space, data.noise, strict=True):
            rows = torch.cat([z, torch.ones(10, 1)], dim=1)
            weights = learned_by_torch(rows, tau, start[:, 3 * head : 3 * head + 3], 5, 0.05)
            loss += float(nn.functional.cross_entropy(rows @ weights, tau))
            shares = p.mean(dim=0)
            loss += 4.0 * float((shares * shares.log()).sum())
        expected.append(loss)
    output = model(data)
    assert output.total.item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert output.total.item() == pytest.approx(
        float(output.terms["prediction"] - 4.0 * output.terms["entropy"]), rel=1e-5
    )


def test_loss_is_pure_and_all_task_encoders_learn():
    model = objective()
    data = batch(model)
    assert torch.equal(model(data).total, model(data).total)
    model(data).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_new_classifiers_are_drawn_in_each_step_and_have_the_width_of_a_new_layer():
    model = objective()
    generator = torch.Generator().manual_seed(0)
    first, second = (model.sample_noise(8, generator) for _ in range(2))
    assert [x.shape for x in first] == [(3, 6), (4, 6)]
    assert not torch.equal(first[0], second[0])
    assert all(x.abs().max() <= dim**-0.5 for x, dim in zip(first, (2, 3), strict=True))


def test_labels_are_the_mean_over_the_spaces():
    model = objective(n_heads=1)
    x = batch(model).views[0]
    with torch.no_grad():
        first, second = model.tasks[0](x[:, :2]), model.tasks[1](x[:, 2:])
        torch.testing.assert_close(model.assign(x), (first + second)[:, 0] / 2)


@pytest.mark.parametrize("logit", [0.0, 50.0, 400.0])
def test_degenerate_labels_have_finite_loss_and_gradient(logit):
    model = objective(spaces=None)
    with torch.no_grad():
        model.tasks[0].bias[:, 0] = logit
    output = model(batch(model))
    output.total.backward()
    assert output.total.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_the_rate_of_the_classifiers_follows_the_number_of_columns():
    assert objective(inner_learning_rate="auto").inner_rates == [1.0, 2 / 3]
    assert objective().inner_rates == [0.05, 0.05]


def test_spaces_are_brought_to_one_scale():
    rows = torch.randn(50, 5) * torch.tensor([30.0, 30.0, 0.1, 0.1, 0.1])
    model = objective(balance_spaces=True)
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(rows))
        for part in model._spaces(rows):
            assert part.square().mean().item() == pytest.approx(1, rel=1e-4)
        as_given = objective()
        as_given.before_epoch(0.0, RowMap(rows))
        assert torch.equal(torch.cat(as_given._spaces(rows), dim=1), rows)


def test_the_task_that_neighbors_prefer_is_kept(blobs):
    X, y = blobs
    rows = torch.from_numpy(X).float()
    model = objective(n_heads=3)
    parts = rows.split((2, 3), dim=1)
    with torch.no_grad():
        for task, z in zip(model.tasks, parts, strict=True):
            task.imitate(1, z, torch.from_numpy(y))
        expected = sum(task(z)[:, 1] for task, z in zip(model.tasks, parts, strict=True)) / 2
        model.before_epoch(0.0, RowMap(rows))
        model.after_training(rows, 0)
        torch.testing.assert_close(model.assign(rows), expected)
    assert [x.shape for x in model.sample_noise(8, torch.Generator())] == [(3, 3), (4, 3)]


def test_tasks_start_from_partitions(blobs):
    X, y = blobs
    rows = torch.from_numpy(X).float()
    model = objective(partition_start=True)
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(rows))
        started = model.learned_assignments(rows).argmax(dim=2)
    for labels in started.tolist():
        assert len(set(zip(labels, y, strict=True))) == 3


@pytest.mark.parametrize("spaces", [(2, 2), (5, 0), (), (7, -2)])
def test_spaces_have_to_cover_the_columns(spaces, blobs):
    with pytest.raises(ValueError, match="expected a positive number of columns for each space, 5"):
        TURTLE(3, spaces=spaces, **FAST).fit(blobs[0])


def test_two_spaces_are_saved_and_scored(tmp_path, blobs):
    X, _ = blobs
    model = TURTLE(3, spaces=(2, 3), **FAST).fit(X)
    model.save(tmp_path / "model.dcsk")
    other = load(tmp_path / "model.dcsk")
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    other.partial_fit(X)
    assert other.n_iter_ == 4


def test_a_second_space_helps_where_the_first_does_not_tell():
    generator = np.random.default_rng(0)
    y = np.arange(200) % 4
    first = scale((y // 2)[:, None] + 0.1 * generator.normal(size=(200, 5)))
    second = scale((y % 2)[:, None] + 0.1 * generator.normal(size=(200, 5)))
    model = TURTLE(4, spaces=(5, 5), scale=None, max_epochs=20, random_state=0)
    found = model.fit_predict(np.hstack([first, second]))
    assert len({tuple(pair) for pair in zip(found, y, strict=True)}) == 4


def test_pixels_of_images_are_clustered_as_rows():
    model = TURTLE(5, **FAST).fit(load_digits().images[:200])
    assert model.transform(load_digits().images[:7]).shape == (7, 64)
