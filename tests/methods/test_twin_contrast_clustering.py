"""What is particular to twin-contrast clustering."""

import math

import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk._networks.centroids import kmeans_centroids
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import info_nce
from deepcluster_sk.methods.twin_contrast_clustering import (
    TwinContrastObjective,
    cluster_loss,
    cluster_representations,
    gumbel_softmax,
    uniform_divergence,
)

V = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8], [0.8, -0.6]])
W = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.7, 0.3]])
R = torch.tensor([[0.994811, 0.101742], [0.531491, 0.847064]])
V_KEY = torch.tensor([[0.8, 0.6], [0, 1], [1, 0], [0.6, -0.8]])
W_KEY = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.6, 0.4]])
R_KEY = torch.tensor([[0.982872, 0.184289], [0.847998, 0.529999]])


def test_cluster_representations_have_the_published_values():
    torch.testing.assert_close(cluster_representations(V, W), R, atol=1e-6, rtol=0)
    torch.testing.assert_close(cluster_representations(V_KEY, W_KEY), R_KEY, atol=1e-6, rtol=0)


def test_contrast_with_the_momentum_representations_has_the_published_value():
    loss = info_nce(R, R_KEY, temperature=1.0)
    assert loss.item() == pytest.approx(0.616771, abs=1e-5)


def test_cluster_representations_have_unit_length_and_ignore_the_scale_of_a_column():
    r = cluster_representations(V, W)
    torch.testing.assert_close(r.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(cluster_representations(V, W * torch.tensor([7.0, 0.01])), r)


@pytest.mark.parametrize(
    ("batch_negatives", "queue", "expected"),
    [(True, None, 0.944333), (False, torch.eye(2), 0.434291)],
    ids=["prototype with an empty queue", "paper as recalled"],
)
def test_cluster_loss_has_the_published_values(batch_negatives, queue, expected):
    r, r_key = cluster_representations(V, W), cluster_representations(V_KEY, W_KEY)
    loss = cluster_loss(r, r_key, temperature=1.0, queue=queue, batch_negatives=batch_negatives)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_divergence_has_the_published_value():
    assert uniform_divergence(W).item() == pytest.approx(0.160773, abs=1e-6)
    assert uniform_divergence(torch.full((3, 4), 0.25)).item() == pytest.approx(0, abs=1e-6)


def loop_cluster_loss(r, r_key, temperature, queue, batch_negatives):
    losses = []
    k = len(r)
    for i in range(k):
        positive = float(r[i] @ r_key[i]) / temperature
        negatives = [queue[j] for j in range(len(queue)) if j % k != i]
        if batch_negatives:
            negatives += [r[j] for j in range(k) if j != i]
            negatives += [r_key[j] for j in range(k) if j != i]
        exps = [math.exp(float(r[i] @ n) / temperature) for n in negatives]
        losses.append(-positive + math.log(math.exp(positive) + sum(exps)))
    return sum(losses) / k


@pytest.mark.parametrize("batch_negatives", [True, False])
@pytest.mark.parametrize("n_sets", [0, 3])
def test_cluster_loss_equals_nested_loops(batch_negatives, n_sets):
    generator = torch.Generator().manual_seed(0)
    r, r_key, queue = (
        nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1)
        for n in (5, 5, 5 * n_sets)
    )
    expected = loop_cluster_loss(r, r_key, 0.4, queue, batch_negatives)
    loss = cluster_loss(r, r_key, temperature=0.4, queue=queue, batch_negatives=batch_negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_entries_of_the_same_cluster_in_the_queue_do_not_matter():
    one = torch.eye(2).repeat(2, 1)  # two sets of two clusters
    r = cluster_representations(V, W)
    row = r[:1] @ torch.eye(2)

    def first_row_loss(queue):
        full = cluster_loss(r, R_KEY, queue=queue, batch_negatives=False)
        x = r.clone().requires_grad_()
        cluster_loss(x, R_KEY, queue=queue, batch_negatives=False).backward()
        return full, x.grad[0]

    other = one.clone()
    other[0], other[2] = row[0], -row[0]  # those of cluster 0
    torch.testing.assert_close(first_row_loss(one)[1], first_row_loss(other)[1])
    other = one.clone()
    other[1] = -row[0]
    assert not torch.allclose(first_row_loss(one)[1], first_row_loss(other)[1])


def test_gumbel_samples_follow_their_probabilities():
    generator = torch.Generator().manual_seed(0)
    pi = torch.tensor([0.6, 0.3, 0.1])
    gumbel = -torch.log(-torch.log(torch.rand(20_000, 3, generator=generator)))
    sample = gumbel_softmax(pi.log().expand(20_000, 3), gumbel, temperature=0.1)
    torch.testing.assert_close(sample.sum(dim=1), torch.ones(20_000))
    shares = sample.argmax(dim=1).bincount() / 20_000
    torch.testing.assert_close(shares, pi, atol=0.015, rtol=0)
    assert sample.max(dim=1).values.mean() > 0.9


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[50.0, -50, -50], [-50, 50, -50]]).repeat(4, 1),
        torch.tensor([[400.0, 0, -400]]).repeat(8, 1),
        torch.zeros(8, 3),
    ],
    ids=["one empty cluster", "one-hot rows of one cluster", "zeros"],
)
def test_degenerate_assignments_have_finite_loss_and_gradient(logits):
    z = logits.clone().requires_grad_()
    v = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    pi = z.softmax(dim=1)
    r = cluster_representations(v, pi)
    loss = cluster_loss(r, r.detach().flip(0), temperature=0.1) + uniform_divergence(pi)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_temperature": 0.5,
    "cluster_temperature": 0.6,
    "assign_temperature": 0.2,
    "gumbel_temperature": 0.8,
    "alpha": 0.3,
    "kl_weight": 0.4,
    "normalize_prototypes": True,
    "sampled_weights": False,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.9,
    "neighbor_space": "features",
    "momentum": 0.8,
    "queue_size": 6,
    "n_cluster_sets": 2,
    "cluster_noise": 0.05,
    "batch_negatives": True,
}
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))


def objective(**settings):
    torch.manual_seed(0)
    return TwinContrastObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch(model):
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10), model.sample_noise(10, generator))


def unit(m):
    return torch.stack([row / row.norm() for row in m])


@torch.no_grad()
def expected_terms(model, data, sampled):
    """The loss once more, from the equations."""
    (query, key), (gumbel, noise) = data.views, data.noise
    v, keys = (
        unit(model.projector(model.encoder(query))),
        unit(model.key_projector(model.key_encoder(key))),
    )
    mu, mu_key = unit(model.prototypes.weight), unit(model.key_prototypes.module.weight)
    pi, pi_key = (v @ mu.T / 0.2).softmax(dim=1), (keys @ mu_key.T / 0.2).softmax(dim=1)
    c = ((v @ mu.T / 0.2 + gumbel) / 0.8).softmax(dim=1)
    r, r_key = unit((c if sampled else pi).T @ v), unit(pi_key.T @ keys)
    past = unit(model.cluster_queue.features + 0.05 * noise)
    cluster = loop_cluster_loss(r, r_key, 0.6, past, batch_negatives=True)
    e, e_key = unit(v + c @ mu), unit(keys + pi_key @ mu_key)
    instance = 0.0
    for i in range(10):
        scores = [e[i] @ k / 0.5 for k in (*e_key, *model.queue.features)]
        instance += float(torch.stack(scores).logsumexp(0) - scores[i]) / 10
    divergence = sum(float((p * (p * 3).log()).sum()) for p in pi) / 10
    return instance, cluster, divergence


@pytest.mark.parametrize("sampled", [False, True])
def test_loss_equals_the_equations(sampled):
    model = objective(sampled_weights=sampled)
    data = batch(model)
    instance, cluster, divergence = expected_terms(model, data, sampled)
    output = model(data)
    assert output.terms["instance"].item() == pytest.approx(instance, rel=1e-4)
    assert output.terms["cluster"].item() == pytest.approx(cluster, rel=1e-4)
    assert output.terms["divergence"].item() == pytest.approx(divergence, rel=1e-4)
    expected = 0.3 * cluster + 0.7 * (instance + 0.4 * divergence)
    assert output.total.item() == pytest.approx(expected, rel=1e-4)


def test_before_the_start_only_projections_are_contrasted():
    model = objective(cluster_start=0.3)
    data = batch(model)
    output = model(data)
    v = unit(model.projector(model.encoder(data.views[0])))
    keys = unit(model.key_projector(model.key_encoder(data.views[1])))
    scores = v @ torch.cat([keys, model.queue.features]).T / 0.5
    expected = nn.functional.cross_entropy(scores, torch.arange(10))
    torch.testing.assert_close(output.total, expected)
    output.total.backward()
    assert not model.prototypes.weight.grad.any()


def test_prototypes_of_both_networks_start_from_kmeans():
    model = objective(cluster_start=0.3)
    with torch.no_grad():
        model.before_epoch(0.2, RowMap(ROWS))
        assert model.started == 0
        model.before_epoch(0.3, RowMap(ROWS))
        expected = kmeans_centroids(model.project(model.encoder(ROWS)), 3)
    assert model.started == 1
    torch.testing.assert_close(model.prototypes.weight.data, expected)
    torch.testing.assert_close(model.key_prototypes.module.weight.data, expected)
    # what the queue remembers has the new numbers as well
    torch.testing.assert_close(model.cluster_queue.features, expected.repeat(2, 1))


def test_free_prototypes_keep_their_length_when_they_start_from_kmeans():
    model = objective(cluster_start=0.3, normalize_prototypes=False)
    with torch.no_grad():
        model.prototypes.weight.mul_(5)
        lengths = model.prototypes.weight.norm(dim=1)
        model.before_epoch(0.3, RowMap(ROWS))
    torch.testing.assert_close(
        model.prototypes.weight.data.norm(dim=1), lengths.mean().expand(3).detach()
    )


@pytest.mark.parametrize("n_neighbors", [0, 3])
def test_settings_of_the_paper_keep_their_prototypes_to_the_end(n_neighbors):
    model = objective()
    model.neighbors.n_neighbors = n_neighbors
    with torch.no_grad():
        model.before_epoch(0.95, RowMap(ROWS))
        model.prototypes.weight.copy_(model.prototypes.weight[:1].repeat(3, 1))  # all alike
        before = model.prototypes.weight.clone()
        model.after_training(model.encoder(ROWS), 0)
    assert torch.equal(model.prototypes.weight, before) == (n_neighbors == 0)


def test_no_gradient_reaches_momentum_network_and_queues():
    model = objective()
    data = batch(model)
    query, key = (view.requires_grad_() for view in data.views)
    model(data).total.backward()
    assert query.grad.any()
    assert key.grad is None
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    prefixes = ("encoder.", "projector.", "prototypes.")
    assert {name.split(".")[0] + "." for name in learned} == set(prefixes)
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_key_network_and_queues_follow_after_a_step():
    model = objective()
    before = model.key_prototypes.module.weight.clone()
    with torch.no_grad():
        model.prototypes.weight.add_(1)
    e_key, r_key = torch.rand(2, 4), torch.rand(3, 4)
    model.after_step((e_key, r_key), 0.5)
    expected = 0.8 * before + 0.2 * model.prototypes.weight
    torch.testing.assert_close(model.key_prototypes.module.weight.data, expected.detach())
    assert torch.equal(model.queue.features[:2], e_key)
    assert torch.equal(model.cluster_queue.features[:3], r_key)


def test_free_prototypes_keep_their_length():
    model = objective(normalize_prototypes=False)
    with torch.no_grad():
        model.prototypes.weight.mul_(3)
    torch.testing.assert_close(model.prototypes().data, model.prototypes.weight.data)
