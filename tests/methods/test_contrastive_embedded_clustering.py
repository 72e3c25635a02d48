"""What is particular to contrastive embedded clustering."""

import math

import numpy as np
import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import ContrastiveEmbeddedClustering
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import nt_xent
from deepcluster_sk.methods.contrastive_embedded_clustering import (
    EmbeddedObjective,
    divergence,
    student_t,
    target_distribution,
)

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "hidden_dim": 8,
    "projection_dim": 4,
    "embed": True,
    "instance_temperature": 0.5,
    "kernel_scale": 0.2,
    "cluster_weight": 0.7,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.9,
    "neighbor_space": "features",
}
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))


def objective(**settings):
    torch.manual_seed(0)
    return EmbeddedObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def started(**settings):
    model = objective(**settings)
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(ROWS))
    return model


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(3))
    return Batch(views, torch.arange(10))


def points(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (7, 3)]


def loop_student_t(e, mu, temperature):
    q = np.empty((len(e), len(mu)))
    for i in range(len(e)):
        for k in range(len(mu)):
            q[i, k] = 1 / (1 + float(((e[i] - mu[k]) ** 2).sum()) / temperature)
        q[i] /= q[i].sum()
    return q


def loop_target(q):
    p = np.empty_like(q)
    for i in range(len(q)):
        p[i] = [q[i, k] ** 2 / sum(q[:, k]) for k in range(q.shape[1])]
        p[i] /= p[i].sum()
    return p


def loop_divergence(p, q):
    rows = [
        sum(p[i][k] * math.log(p[i][k] / q[i][k]) for k in range(len(p[i]))) for i in range(len(p))
    ]
    return sum(rows) / len(rows)


def test_losses_equal_nested_loops():
    e, mu = points()
    q, other = loop_student_t(e, mu, 0.3), loop_student_t(e.flip(0), mu, 0.3)
    np.testing.assert_allclose(student_t(e, mu, temperature=0.3), q)
    tensor = torch.from_numpy(q)
    np.testing.assert_allclose(target_distribution(tensor), loop_target(q))
    expected = loop_divergence(q, other)
    assert divergence(tensor, torch.from_numpy(other)).item() == pytest.approx(expected)


def test_known_points_have_the_known_assignments():
    e = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    mu = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    # kernels 1 and 1 / (1 + 4)
    expected = torch.tensor([[5 / 6, 1 / 6], [1 / 6, 5 / 6]])
    torch.testing.assert_close(student_t(e, mu), expected)
    # squares 25 and 1 of 36, columns of equal mass
    torch.testing.assert_close(
        target_distribution(expected), torch.tensor([[25 / 26, 1 / 26], [1 / 26, 25 / 26]])
    )
    assert divergence(expected, expected) == 0
    expected_divergence = 5 / 6 * math.log(5) - 1 / 6 * math.log(5)
    assert divergence(expected, expected.flip(0)).item() == pytest.approx(expected_divergence)


def test_gradients_equal_finite_differences():
    e, mu = (x.requires_grad_() for x in points())
    assert torch.autograd.gradcheck(lambda e, mu: student_t(e, mu, temperature=0.4), (e, mu))
    q, p = (student_t(*points(seed)).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(divergence, (p, q))


def test_samples_on_a_center_have_finite_gradients():
    mu = torch.eye(3).requires_grad_()
    q = student_t(torch.eye(3), mu, temperature=1e-3)
    divergence(target_distribution(q.detach()), q).backward()
    assert mu.grad.isfinite().all()


@pytest.mark.parametrize("embed", [True, False])
def test_loss_is_the_weighted_sum_of_its_terms(embed):
    model, data = started(embed=embed), batch()
    features = [model.encoder(view) for view in data.views]
    z_a, z_b, z = (nn.functional.normalize(model.projector(f), dim=1) for f in features)
    e, mu = features, model.centers.weight
    if embed:
        e, mu = (z_a, z_b, z), nn.functional.normalize(mu, dim=1)
    q_a, q_b, q = (loop_student_t(x.detach(), mu.detach(), 0.2) for x in e)
    expected = loop_divergence(loop_target(q), q)
    expected += loop_divergence(q, q_a) + loop_divergence(q, q_b)
    expected = nt_xent(z_a, z_b, temperature=0.5).item() + 0.7 * expected
    assert model(data).total.item() == pytest.approx(expected, rel=1e-5)


def test_before_their_start_the_centers_do_not_count():
    model = objective(cluster_start=0.5)
    output = model(batch())
    assert output.terms["target"] == output.terms["consistency"] == 0
    output.total.backward()
    assert not model.centers.weight.grad.any()


def test_targets_get_no_gradient():
    model, data = started(), batch()
    views = tuple(view.clone().requires_grad_() for view in data.views)
    q_a, q_b, q = (model.assign(model.encoder(view)) for view in views)
    expected = divergence(target_distribution(q.detach()), q)
    expected = expected + divergence(q.detach(), q_a) + divergence(q.detach(), q_b)
    output = model(Batch(views, data.rows))
    torch.testing.assert_close(output.terms["target"] + output.terms["consistency"], expected)
    model.zero_grad()
    (0.7 * expected).backward()
    wanted = views[2].grad.clone()
    views[2].grad = None
    output.total.backward()
    torch.testing.assert_close(views[2].grad, wanted)


def test_the_third_view_shows_the_sample_itself():
    model = started(neighbor_start=0.0)
    plan = torch.arange(12).view(2, 6)
    rows = model.view_rows(plan, torch.Generator().manual_seed(0))
    assert rows.shape == (2, 3, 6)
    assert torch.equal(rows[:, 0], plan)
    assert torch.equal(rows[:, 2], plan)
    assert not torch.equal(rows[:, 1], plan)


def test_centers_start_as_means_of_clusters():
    model = started(embed=False)
    features = model.encoder(ROWS).detach()
    labels = model.neighbors.new_labels(None, features)
    for cluster in range(3):
        torch.testing.assert_close(
            model.centers.weight[cluster].detach(), features[labels == cluster].mean(dim=0)
        )


def test_settings_of_the_paper_put_centers_among_the_features(blobs):
    X, _ = blobs
    settings = ContrastiveEmbeddedClustering.paper_settings("cifar10")
    own = {name: settings[name] for name in ("embed", "kernel_scale", "n_neighbors")}
    model = ContrastiveEmbeddedClustering(3, **own, max_epochs=20, random_state=0).fit(X)
    assert model._objective.centers.weight.shape[1] == model.transform(X[:2]).shape[1]
    assert len(np.unique(model.labels_)) == 3
