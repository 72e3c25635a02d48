"""What is particular to graph contrastive clustering."""

import math

import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import GraphContrastiveClustering
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import negative_entropy
from deepcluster_sk.methods.graph_contrastive_clustering import (
    GraphContrastiveObjective,
    assignment_loss,
    laplacian_weights,
    representation_loss,
)


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def loop_representation_loss(z_a, z_b, neighbors, weights, temperature, include_self):
    """The authors' formula, one anchor at a time."""
    losses = []
    n, m = len(z_a), 0 if neighbors is None else len(neighbors)
    for i in range(n):
        positive, rest = 0.0, 0.0
        for j in range(n):
            if include_self or j != i:
                rest += math.exp(float(z_a[i] @ z_a[j]) / temperature)
            similar = math.exp(float(z_a[i] @ z_b[j]) / temperature)
            if j == i:
                positive += similar
            else:
                rest += similar
            for number in range(m):
                weight = float(weights[number, j])
                similar = math.exp(weight * float(z_a[i] @ neighbors[number, j]) / temperature)
                if j == i:
                    positive += weight * similar
                else:
                    rest += similar
        # until there are neighbours, the denominator contains the positive as well
        losses.append(-math.log(positive / (rest if m else rest + positive)))
    return sum(losses) / n


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("m", [0, 1, 3])
def test_representation_loss_equals_nested_loops(m, include_self):
    z_a, z_b = unit(2, 6, 4)
    neighbors = unit(m, 6, 4, seed=1) if m else None
    weights = torch.rand(m, 6, generator=torch.Generator().manual_seed(2)) + 0.1 if m else None
    expected = loop_representation_loss(z_a, z_b, neighbors, weights, 0.3, include_self)
    loss = representation_loss(
        z_a, z_b, neighbors, weights, temperature=0.3, include_self=include_self
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_representation_loss_has_the_values_of_the_authors_formula():
    # two orthogonal samples, views and neighbours alike, temperature 1
    z = torch.eye(2)
    # own: e and 1, other view: e and 1
    expected = -math.log(math.e / (2 * math.e + 2))
    assert representation_loss(z, z, temperature=1.0).item() == pytest.approx(expected)
    # positives e + w e^w; the anchor itself e, and 1 of each of the three others
    weights = torch.full((1, 2), 0.5)
    expected = -math.log((math.e + 0.5 * math.exp(0.5)) / (math.e + 3))
    loss = representation_loss(z, z, z[None], weights, temperature=1.0)
    assert loss.item() == pytest.approx(expected)


def test_weights_are_those_of_the_laplacian():
    weights = laplacian_weights(torch.tensor([[5, 11]]))
    torch.testing.assert_close(weights, torch.tensor([[0.5**0.5, 0.5]]))


def loop_assignment_loss(p, q, temperature):
    losses = []
    k = p.shape[1]
    for i in range(k):
        cosines = [float(p[:, i] @ q[:, j] / p[:, i].norm() / q[:, j].norm()) for j in range(k)]
        exps = [math.exp(c / temperature) for c in cosines]
        losses.append(-math.log(exps[i] / sum(exps)))
    return sum(losses) / k


def test_assignment_loss_equals_nested_loops_for_every_head():
    logits = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    p, q = logits.double().softmax(dim=-1)
    loss = assignment_loss(p, q, temperature=0.7)
    for head in range(3):
        expected = loop_assignment_loss(p[head], q[head], 0.7)
        assert loss[head].item() == pytest.approx(expected, rel=1e-6)


def test_assignment_loss_has_known_values():
    uniform = torch.full((20, 5), 0.2)
    assert assignment_loss(uniform, uniform).item() == pytest.approx(math.log(5), abs=1e-6)
    sure = torch.eye(5).repeat(4, 1)
    expected = -math.log(math.e / (math.e + 4))
    assert assignment_loss(sure, sure).item() == pytest.approx(expected, abs=1e-6)


def test_gradients_equal_finite_differences():
    z = [part.requires_grad_() for part in (*unit(2, 4, 3), unit(2, 4, 3, seed=3))]
    weights = torch.rand(2, 4, dtype=torch.float64) + 0.2

    def loss(z_a, z_b, neighbors):
        return representation_loss(z_a, z_b, neighbors, weights, temperature=0.5)

    assert torch.autograd.gradcheck(loss, z)
    assert torch.autograd.gradcheck(lambda a, b: representation_loss(a, b), z[:2])
    logits = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: assignment_loss(*x.softmax(dim=-1)), (logits,))


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
    x = logits.clone().requires_grad_()
    p = x.softmax(dim=1)
    loss = assignment_loss(p, p.flip(0)) + negative_entropy(p)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "n_heads": 2,
    "hidden_dim": 8,
    "head_hidden_dim": 8,
    "projection_dim": 4,
    "representation_temperature": 0.5,
    "assignment_temperature": 0.8,
    "representation_weight": 2.0,
    "balance_weight": 0.5,
    "n_shown_neighbors": 2,
    "laplacian_scale": 3.0,
    "include_self": True,
    "n_searches": 2,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
    "neighbor_space": "features",
}


def objective(**settings):
    torch.manual_seed(0)
    return GraphContrastiveObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def rows(n=30):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(1))


def epoch(model, progress=0.5):
    """One step with rows as they are, after a search of the neighbours."""
    x = rows()
    with torch.no_grad():
        model.before_epoch(progress, RowMap(x))
    generator = torch.Generator().manual_seed(0)
    shown = model.view_rows(torch.arange(30).view(1, 30), generator)[0]
    noise = model.sample_noise(30, generator)
    return Batch(tuple(x[view] for view in shown), torch.arange(30), noise), shown


def test_loss_is_the_weighted_sum_of_its_terms_over_the_heads():
    model = objective()
    batch, _ = epoch(model)
    features = [model.encoder(view) for view in batch.views]
    z = [torch.stack([row / row.norm() for row in model.instance_head(f)]) for f in features]
    (weights,) = batch.noise
    contrast = representation_loss(z[0], z[1], torch.stack(z[2:]), weights, temperature=0.5)
    expected = 2.0 * contrast
    for head in range(2):
        p, q = (model.cluster_heads(features[view])[head].softmax(dim=1) for view in (0, 2))
        expected = expected + assignment_loss(p, q, temperature=0.8) / 2
        expected = expected + 0.5 * negative_entropy(p) / 2
    torch.testing.assert_close(model(batch).total, expected)


def test_shown_neighbors_are_those_of_the_graph_with_the_weights_of_their_degrees():
    model = objective()
    batch, shown = epoch(model)
    assert shown.shape == (4, 30)
    assert torch.equal(shown[0], shown[1])
    graph = model.neighbors.graph
    degrees = torch.from_numpy((graph.edges.toarray() > 0).sum(axis=1))
    (weights,) = batch.noise
    for number in range(2):
        drawn = shown[2 + number]
        assert all(int(drawn[row]) in graph.neighbors(row) for row in range(30))
        torch.testing.assert_close(weights[number], (3 / (degrees[drawn] + 1)).sqrt().float())


def test_weights_belong_to_their_step():
    model = objective()
    with torch.no_grad():
        model.before_epoch(0.5, RowMap(rows()))
    shown = model.view_rows(torch.randperm(30).view(3, 10), torch.Generator().manual_seed(0))
    for step in range(3):
        (weights,) = model.sample_noise(10, torch.Generator())
        degrees = model.neighbors.graph.degrees[shown[step, 2:]]
        torch.testing.assert_close(weights, laplacian_weights(degrees))
    assert model.sample_noise(10, torch.Generator()) == ()


def test_without_a_graph_the_second_view_stands_for_a_neighbor():
    model = objective()
    batch, shown = epoch(model, progress=0.2)
    assert shown.shape == (2, 30)
    assert batch.noise == ()
    features = [model.encoder(view) for view in batch.views]
    z_a, z_b = (nn.functional.normalize(model.instance_head(f), dim=1) for f in features)
    expected = 2.0 * representation_loss(z_a, z_b, temperature=0.5)
    for head in range(2):
        p, q = (model.cluster_heads(f)[head].softmax(dim=1) for f in features)
        expected = expected + assignment_loss(p, q, temperature=0.8) / 2
        expected = expected + 0.5 * negative_entropy(p) / 2
    torch.testing.assert_close(model(batch).total, expected)


def test_before_their_start_the_cluster_heads_do_not_count():
    model = objective(cluster_start=0.8)
    batch, _ = epoch(model)
    output = model(batch)
    torch.testing.assert_close(output.total, 2.0 * output.terms["representation"])
    output.total.backward()
    assert not model.cluster_heads.output.weight.grad.any()


def test_balance_reaches_the_first_view_only():
    model = objective(representation_weight=0.0)
    batch, _ = epoch(model)
    views = tuple(view.clone().requires_grad_() for view in batch.views)
    model(batch._replace(views=views)).total.backward()
    assert views[0].grad.any()
    assert views[2].grad.any()
    assert not views[1].grad.any()
    assert not views[3].grad.any()


def test_gradients_reach_encoder_and_all_heads():
    model = objective()
    model(epoch(model)[0]).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim == 2)


def test_one_linear_head_is_possible_as_in_the_paper():
    model = objective(n_heads=1, head_hidden_dim=0)
    assert model.cluster_heads.output.weight.shape == (3, 5)


def test_settings_of_the_paper_train_with_a_graph(few_images):
    settings = GraphContrastiveClustering.paper_settings("cifar10")
    small = {"encoder": "cnn", "augmentation": "auto", "max_epochs": 40, "batch_size": 60}
    settings |= {**small, "n_clusters": 2, "learning_rate": 0.01, "n_searches": 10}
    model = GraphContrastiveClustering(**settings, random_state=0).fit(few_images)
    started = [value != 0 for value in model.history_["assignment"]]
    assert started == [False] * 2 + [True] * 38
