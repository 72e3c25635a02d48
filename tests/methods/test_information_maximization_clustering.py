"""What is particular to information maximization clustering."""

import math

import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import InformationMaximizationClustering
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import sinkhorn, swapped_prediction
from deepcluster_sk.methods.information_maximization_clustering import (
    InformationMaximizationObjective,
    information_loss,
    logit_penalty,
)

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "n_hidden_layers": 1,
    "projector_hidden_dim": 7,
    "projection_dim": 4,
    "n_prototypes": 6,
    "code_temperature": 0.2,
    "sinkhorn_epsilon": 0.1,
    "label_entropy_weight": 4.0,
    "logit_weight": 0.5,
    "n_extra_views": 0,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "features",
}


def objective(**settings):
    torch.manual_seed(0)
    settings = Settings(**{**SETTINGS, **settings})
    return InformationMaximizationObjective(nn.Linear(6, 5), 5, settings)


def batch(n_views=2):
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(n_views))
    return Batch(views, torch.arange(10))


def random_probabilities(n=9, k=4, k_prototypes=6):
    generator = torch.Generator().manual_seed(0)
    shapes = (n, k), (n, k_prototypes)
    return [
        (2 * torch.randn(s, generator=generator, dtype=torch.float64)).softmax(dim=1)
        for s in shapes
    ]


def loop_information(p_y, p_u, entropy_weight):
    """Both sums of the authors' code, an entry of the joint distribution at a time."""
    n, k, k_prototypes = len(p_y), p_y.shape[1], p_u.shape[1]
    joint = [
        [sum(float(p_y[i, a] * p_u[i, b]) for i in range(n)) / n for b in range(k_prototypes)]
        for a in range(k)
    ]
    loss = 0.0
    for a in range(k):
        of_y = sum(joint[a])
        for b in range(k_prototypes):
            of_u = sum(joint[c][b] for c in range(k))
            loss += joint[a][b] * (math.log(of_u) - math.log(joint[a][b]))
            loss += entropy_weight * joint[a][b] * math.log(of_y)
    return loss


@pytest.mark.parametrize("entropy_weight", [1.0, 4.0, 0.0])
def test_information_loss_equals_nested_loops(entropy_weight):
    p_y, p_u = random_probabilities()
    loss = information_loss(p_y, p_u, entropy_weight=entropy_weight)
    assert loss.item() == pytest.approx(loop_information(p_y, p_u, entropy_weight), rel=1e-9)


def test_information_loss_has_the_values_worked_out_by_hand():
    # the joint distribution is (3/8, 1/8), (1/8, 3/8): all marginals are 1/2
    p_y = torch.eye(2).repeat(2, 1)
    p_u = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).repeat(2, 1)
    conditional = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)  # H(Y|U)
    loss = information_loss(p_y, p_u)
    assert loss.item() == pytest.approx(conditional - 4 * math.log(2), abs=1e-6)
    assert loss.item() == pytest.approx(-2.210254, abs=1e-6)
    even = torch.full((4, 2), 0.5)  # labels that tell nothing
    assert information_loss(even, p_u, entropy_weight=1.0).item() == pytest.approx(0, abs=1e-6)
    # labels that are functions of the prototypes, of equal shares: the minimum
    assert information_loss(p_y, p_y).item() == pytest.approx(-4 * math.log(2), abs=1e-6)


def test_leading_axes_are_all_pairs_of_views():
    logits = torch.randn(3, 2, 9, 4, generator=torch.Generator().manual_seed(0))
    p_y, p_u = logits.softmax(dim=-1), logits[0].flip(1).softmax(dim=-1)
    losses = information_loss(p_y[:, :, None], p_u)
    assert losses.shape == (3, 2, 2)
    torch.testing.assert_close(losses[2, 0, 1], information_loss(p_y[2, 0], p_u[1]))


def test_logit_penalty_counts_what_is_beyond_the_limit():
    logits = torch.tensor([[7.0, -6, 5], [0, 4.9, -8]])
    assert logit_penalty(logits).item() == pytest.approx((2 + 1 + 3) / 2)
    assert logit_penalty(logits[1:], limit=4.0).item() == pytest.approx(0.9 + 4)


def test_gradients_equal_finite_differences():
    p_y, p_u = (p.requires_grad_() for p in random_probabilities(5, 3, 4))
    assert torch.autograd.gradcheck(information_loss, (p_y, p_u))


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[50.0, -50, -50], [-50, 50, -50]]).repeat(4, 1),
        torch.tensor([[400.0, 0, -400]]).repeat(8, 1),
        torch.zeros(8, 3),
    ],
    ids=["one empty cluster", "one-hot rows of one cluster", "zeros"],
)
def test_degenerate_logits_have_finite_loss_and_gradient(logits):
    y = logits.clone().requires_grad_()
    p = y.softmax(dim=1)
    loss = information_loss(p, p.detach().flip(0)) + logit_penalty(y)
    loss.backward()
    assert loss.isfinite()
    assert y.grad.isfinite().all()


def expected_loss(model, views, started=1.0):
    """The sum over single views, heads and pairs."""
    features = [model.encoder(view) for view in views]
    z = [torch.stack([row / row.norm() for row in model.projector(f)]) for f in features]
    mu = torch.stack([row / row.norm() for row in model.prototypes.weight])
    u = torch.stack([some @ mu.T for some in z])
    codes = torch.stack([sinkhorn(some, epsilon=0.1) for some in u[:2]])
    swapped = swapped_prediction(u, codes, temperature=0.2)
    information = penalty = 0.0
    for head in range(2):
        y = [model.cluster_heads(f)[head] for f in features]
        pairs = [information_loss(a.softmax(dim=1), (b / 0.2).softmax(dim=1)) for a in y for b in u]
        information = information + sum(pairs) / len(pairs) / 2
        penalty = penalty + sum(map(logit_penalty, y)) / len(y) / 2
    return swapped + started * (information + 0.5 * penalty)


@pytest.mark.parametrize("n_views", [2, 4])
def test_loss_is_the_sum_over_views_heads_and_pairs(n_views):
    model, data = objective(), batch(n_views)
    with torch.no_grad():
        model.cluster_heads.output.weight.mul_(40)  # some logits are beyond the limit
    output = model(data)
    torch.testing.assert_close(output.total, expected_loss(model, data.views))
    assert output.terms["penalty"] > 0


def test_before_their_start_the_classifiers_do_not_count():
    model, data = objective(cluster_start=0.5), batch()
    output = model(data)
    torch.testing.assert_close(output.total, expected_loss(model, data.views, started=0.0))
    output.total.backward()
    assert not model.cluster_heads.output.weight.grad.any()


def test_labels_do_not_shape_features_and_prototypes():
    model = objective()
    output = model(batch())
    output.total.backward()
    both = [p.grad.clone() for p in (model.encoder.weight, model.prototypes.weight)]
    assert model.cluster_heads.output.weight.grad.any()
    assert model.cluster_heads.hidden[0].weight.grad.any()
    model.zero_grad()
    model.cluster_heads.started.zero_()
    model(batch()).total.backward()
    alone = [p.grad for p in (model.encoder.weight, model.prototypes.weight)]
    for with_labels, without in zip(both, alone, strict=True):
        torch.testing.assert_close(with_labels, without)


def test_loss_is_pure():
    model, data = objective(), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model(data).total, model(data).total)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_further_views_show_the_sample_and_the_second_one_a_neighbor():
    model = objective(n_extra_views=3)
    rows = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    plan = torch.arange(12).view(2, 6)
    with torch.no_grad():
        for progress in (0.0, 0.5):
            model.before_epoch(progress, RowMap(rows))
    chosen = model.view_rows(plan, torch.Generator().manual_seed(0))
    assert chosen.shape == (2, 5, 6)
    for view in (0, 2, 3, 4):
        assert torch.equal(chosen[:, view], plan)
    assert not torch.equal(chosen[:, 1], plan)


def test_parts_of_the_paper_are_a_linear_projector_and_two_hidden_layers():
    model = objective(n_heads=1, n_hidden_layers=2, projector_hidden_dim=0)
    assert {name for name, _ in model.named_parameters() if "bias" not in name} == {
        "encoder.weight",
        "projector.weight",
        "prototypes.weight",
        "cluster_heads.hidden.0.weight",
        "cluster_heads.hidden.2.weight",
        "cluster_heads.output.weight",
    }
    assert model(batch()).total.isfinite()


def test_one_classifier_is_left_after_training():
    model = objective(n_heads=3)
    rows = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(rows))
        model.after_training(model.encoder(rows), 0)
        assert model.assign(model.encoder(rows)).shape == (12, 3)
    assert model.cluster_heads.n_heads == 1


def test_a_fit_with_further_views_learns_to_predict_codes(few_images):
    model = InformationMaximizationClustering(
        3, n_prototypes=10, n_extra_views=2, max_epochs=30, random_state=0, device="cpu"
    ).fit(few_images)
    assert model.history_["swapped"][-1] < math.log(10) - 0.05  # chance
    assert model.history_["information"][-1] >= -4 * math.log(3)
