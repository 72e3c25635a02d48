"""What is particular to clustering across views."""

import math

import pytest
import torch
from torch import nn

from deepcluster_sk import ClusteringAcrossViews
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import negative_entropy
from deepcluster_sk.methods.clustering_across_views import AcrossViewsObjective, assignment_loss

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_temperature": 0.2,
    "instance_weight": 3.0,
    "entropy_weight": 0.5,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "features",
}


def assignments(n=9, k=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = [2 * torch.randn(n, k, generator=generator, dtype=torch.float64) for _ in range(2)]
    return [x.softmax(dim=1) for x in logits]


def loop_one_direction(p_a, p_b):
    losses = []
    for i in range(len(p_a)):
        products = [sum(float(x * y) for x, y in zip(p_a[i], row, strict=True)) for row in p_b]
        losses.append(-math.log(products[i] / sum(products)))
    return sum(losses) / len(losses)


def objective(**settings):
    torch.manual_seed(0)
    return AcrossViewsObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def test_assignment_loss_equals_nested_loops_in_both_directions():
    p_a, p_b = assignments()
    expected = (loop_one_direction(p_a, p_b) + loop_one_direction(p_b, p_a)) / 2
    assert assignment_loss(p_a, p_b).item() == pytest.approx(expected)


def test_assignment_loss_is_the_contrast_of_logarithms_of_products():
    p_a, p_b = assignments()
    critic = (p_a @ p_b.T).log()
    own = torch.arange(len(p_a))
    cross_entropy = nn.functional.cross_entropy
    expected = (cross_entropy(critic, own) + cross_entropy(critic.T, own)) / 2
    torch.testing.assert_close(assignment_loss(p_a, p_b), expected)


def test_known_assignments_have_the_known_losses():
    equal = torch.full((20, 5), 0.2)
    assert assignment_loss(equal, equal).item() == pytest.approx(math.log(20), abs=1e-6)
    certain = torch.eye(5).repeat(4, 1)
    assert assignment_loss(certain, certain).item() == pytest.approx(math.log(20 / 5), abs=1e-6)
    # ten samples of one cluster, two of each of five others
    uneven = torch.eye(6)[torch.tensor([0] * 10 + [1, 2, 3, 4, 5] * 2)]
    expected = (10 * math.log(10) + 10 * math.log(2)) / 20
    assert assignment_loss(uneven, uneven).item() == pytest.approx(expected, abs=1e-6)


def test_leading_axes_are_independent_heads():
    p_a, p_b = (torch.stack(p) for p in zip(assignments(), assignments(seed=1), strict=True))
    expected = torch.stack([assignment_loss(a, b) for a, b in zip(p_a, p_b, strict=True)])
    torch.testing.assert_close(assignment_loss(p_a, p_b), expected)


def test_gradients_equal_finite_differences():
    p_a, p_b = (p.requires_grad_() for p in assignments(5, 3))
    assert torch.autograd.gradcheck(assignment_loss, (p_a, p_b))


@pytest.mark.parametrize(
    "logits",
    [torch.tensor([[400.0, 0, -400], [-400.0, 0, 400]]).repeat(4, 1), torch.zeros(8, 3)],
    ids=["opposite", "zeros"],
)
def test_degenerate_assignments_have_finite_loss_and_gradient(logits):
    z = logits.clone().requires_grad_()
    p = z.softmax(dim=1)
    loss = assignment_loss(p, p.flip(0))
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def test_loss_is_the_weighted_sum_of_its_terms_over_heads():
    model, data = objective(), batch()
    z_a, z_b = (
        torch.stack([z / z.norm() for z in model.instance_head(model.encoder(v))])
        for v in data.views
    )
    own = torch.arange(10)
    critic = z_a @ z_b.T / 0.2
    cross_entropy = nn.functional.cross_entropy
    expected = 3.0 * (cross_entropy(critic, own) + cross_entropy(critic.T, own)) / 2
    for head in range(2):
        p_a, p_b = (model.cluster_heads(model.encoder(v))[head].softmax(dim=1) for v in data.views)
        expected = expected + assignment_loss(p_a, p_b) / 2
        expected = expected + 0.5 * (negative_entropy(p_a) + negative_entropy(p_b)) / 4
    torch.testing.assert_close(model(data).total, expected)


def test_before_their_start_the_cluster_heads_do_not_count():
    model = objective(cluster_start=0.5)
    output = model(batch())
    assert output.terms["cluster"] == output.terms["entropy"] == 0
    torch.testing.assert_close(output.total, 3.0 * output.terms["instance"])
    output.total.backward()
    assert not model.cluster_heads.output.weight.grad.any()


def test_gradients_reach_encoder_and_all_heads():
    model = objective()
    model(batch()).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim == 2)


def test_paper_results_hold_what_is_known():
    results = ClusteringAcrossViews.paper_results()
    assert results["cifar10"] == {"NMI": 0.679, "ACC": 0.799, "ARI": 0.634}
    assert results["tiny_imagenet"] == {"ACC": 0.153}
