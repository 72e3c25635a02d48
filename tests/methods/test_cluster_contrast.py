"""What is particular to cluster contrast."""

import math
from itertools import permutations

import pytest
import torch
from row_maps import RowMap
from torch import nn

from deepcluster_sk import ClusterContrast
from deepcluster_sk._networks.centroids import kmeans_centroids
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.methods.cluster_contrast import (
    ClusterContrastObjective,
    clustering_loss,
)

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_temperature": 0.5,
    "cluster_temperature": 0.3,
    "cluster_weight": 0.7,
    "cluster_form": "cross-entropy",
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.9,
    "neighbor_space": "features",
    "centroid_update": "moving-average",
    "centroid_momentum": 0.9,
    "momentum": 0.8,
    "queue_size": 6,
    "batch_negatives": True,
}
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))


def objective(**settings):
    torch.manual_seed(0)
    return ClusterContrastObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def started(**settings):
    model = objective(**settings)
    with torch.no_grad():
        model.before_epoch(0.0, RowMap(ROWS))
    return model


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def unit(vector):
    return vector / math.sqrt(sum(float(v) ** 2 for v in vector))


def loop_instance(q, k, queue, temperature, batch_negatives):
    losses = []
    for i in range(len(q)):
        positive = float(q[i] @ k[i]) / temperature
        negatives = [float(q[i] @ n) / temperature for n in queue]
        if batch_negatives:
            negatives += [float(q[i] @ k[j]) / temperature for j in range(len(k)) if j != i]
        losses.append(-positive + math.log(sum(math.exp(s) for s in [positive, *negatives])))
    return sum(losses) / len(losses)


def loop_clustering(q, k, centroids, form, temperature):
    losses = []
    for i in range(len(q)):
        nearest = max(range(len(centroids)), key=lambda c: float(k[i] @ centroids[c]))
        own = [float(q[i] @ mu) for mu in centroids]
        if form == "pull":
            losses.append(1 - own[nearest])
        else:
            exps = [math.exp(s / temperature) for s in own]
            losses.append(-math.log(exps[nearest] / sum(exps)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("form", ["pull", "cross-entropy"])
@pytest.mark.parametrize("batch_negatives", [True, False])
def test_loss_equals_nested_loops(form, batch_negatives):
    model, data = started(cluster_form=form, batch_negatives=batch_negatives), batch()
    query, key = data.views
    q = [unit(v) for v in model.projector(model.encoder(query)).detach()]
    k = [unit(v) for v in model.key_projector(model.key_encoder(key))]
    expected = loop_instance(q, k, model.queue.features, 0.5, batch_negatives)
    output = model(data)
    assert output.terms["instance"].item() == pytest.approx(expected, rel=1e-5)
    cluster = loop_clustering(q, k, model.centroids, form, 0.3)
    assert output.terms["cluster"].item() == pytest.approx(cluster, rel=1e-4)
    assert output.total.item() == pytest.approx(expected + 0.7 * cluster, rel=1e-5)


def test_pull_is_zero_only_when_every_query_equals_its_centroid():
    centroids, nearest = torch.eye(3), torch.tensor([0, 2, 2, 1])
    how = {"form": "pull"}
    assert clustering_loss(centroids[nearest], centroids, nearest, **how).item() == 0
    q = nn.functional.normalize(centroids[nearest] + 0.1, dim=1)
    assert clustering_loss(q, centroids, nearest, **how).item() > 0.001
    assert clustering_loss(-centroids[nearest], centroids, nearest, **how).item() == 2


def test_no_gradient_reaches_keys_queue_and_centroids():
    model = started()
    query, key = (view.requires_grad_() for view in batch().views)
    model(Batch((query, key), torch.arange(10))).total.backward()
    assert query.grad.any()
    assert key.grad is None
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned
    assert all(name.startswith(("encoder.", "projector.")) for name in learned)
    assert not any(buffer.requires_grad for buffer in model.buffers())
    centroids = torch.eye(3, requires_grad=True)
    q = torch.rand(4, 3, requires_grad=True)
    clustering_loss(q, centroids, torch.tensor([0, 1, 2, 0])).backward()
    assert centroids.grad is None


def test_cluster_weight_zero_is_momentum_contrast():
    model = started(cluster_weight=0.0, batch_negatives=False)
    query, key = batch().views
    q = [unit(v) for v in model.projector(model.encoder(query)).detach()]
    k = [unit(v) for v in model.key_projector(model.key_encoder(key))]
    expected = loop_instance(q, k, model.queue.features, 0.5, batch_negatives=False)
    assert model(batch()).total.item() == pytest.approx(expected, rel=1e-5)


def test_clustering_begins_with_kmeans_at_its_start():
    model = objective(cluster_start=0.3)
    with torch.no_grad():
        model.before_epoch(0.2, RowMap(ROWS))
        assert model(batch()).terms["cluster"] == 0
        model.before_epoch(0.3, RowMap(ROWS))
        expected = kmeans_centroids(model.project(model.encoder(ROWS)), 3)
    torch.testing.assert_close(model.centroids, expected)
    assert model(batch()).terms["cluster"] > 0


def test_centroids_follow_their_keys_by_a_moving_average():
    model = started()
    before = model.centroids.clone()
    keys = nn.functional.normalize(torch.rand(4, 4), dim=1)
    model.after_step((keys, torch.tensor([0, 2, 2, 0])), 0.5)
    for c, members in [(0, [0, 3]), (2, [1, 2])]:
        expected = 0.9 * before[c] + 0.1 * keys[members].mean(dim=0)
        torch.testing.assert_close(model.centroids[c], expected / expected.norm())
    torch.testing.assert_close(model.centroids[1], before[1])


def test_renewed_centroids_have_the_numbers_of_those_that_they_resemble():
    model = started(centroid_update="k-means", n_clusters=5)
    before = model.centroids.clone()
    with torch.no_grad():
        nn.init.normal_(model.encoder.weight, std=0.1)
        model.before_epoch(0.1, RowMap(ROWS))
        fresh = kmeans_centroids(model.project(model.encoder(ROWS)), 5)
    best = max(
        (fresh[list(order)] for order in permutations(range(5))),
        key=lambda ordered: (before * ordered).sum(),
    )
    torch.testing.assert_close(model.centroids, best)


def test_centroids_by_kmeans_stay_during_an_epoch_and_are_renewed_before_the_next():
    model = started(centroid_update="k-means")
    before = model.centroids.clone()
    keys = nn.functional.normalize(torch.rand(4, 4), dim=1)
    model.after_step((keys, torch.tensor([0, 2, 2, 0])), 0.5)
    assert torch.equal(model.centroids, before)
    with torch.no_grad():
        nn.init.normal_(model.encoder.weight)
        model.before_epoch(0.1, RowMap(ROWS))
        expected = kmeans_centroids(model.project(model.encoder(ROWS)), 3)
    torch.testing.assert_close(model.centroids.sort(dim=0)[0], expected.sort(dim=0)[0])


def test_key_network_and_queue_follow_after_a_step():
    model = started()
    before = model.key_encoder.module.weight.clone()
    with torch.no_grad():
        model.encoder.weight.add_(1)
    keys = nn.functional.normalize(torch.rand(2, 4), dim=1)
    model.after_step((keys, torch.tensor([0, 1])), 0.5)
    expected = 0.8 * before + 0.2 * model.encoder.weight
    torch.testing.assert_close(model.key_encoder.module.weight.data, expected.detach())
    assert torch.equal(model.queue.features[:2], keys)


def test_queue_without_keys_is_left_out():
    model = started(queue_size=0)
    query, key = batch().views
    q = [unit(v) for v in model.projector(model.encoder(query)).detach()]
    k = [unit(v) for v in model.key_projector(model.key_encoder(key))]
    expected = loop_instance(q, k, [], 0.5, batch_negatives=True)
    assert model(batch()).terms["instance"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["pull", "cross-entropy"])
def test_degenerate_queries_have_finite_loss_and_gradient(form):
    q = torch.tensor([[1.0, 0, 0]]).repeat(6, 1).requires_grad_()
    nearest = torch.ones(6, dtype=torch.int64)  # cluster 0 and 2 stay empty
    loss = clustering_loss(50 * q, torch.eye(3), nearest, form=form, temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert q.grad.isfinite().all()


def test_probabilities_are_a_softmax_over_the_centroids(few_images):
    model = ClusterContrast(3, max_epochs=3, random_state=0, device="cpu").fit(few_images)
    objective = model._objective
    objective.calibration.reset()
    features = torch.from_numpy(model.transform(few_images))
    centroids = objective.centroids[objective.cluster_of.argsort()]
    with torch.no_grad():
        for row, probabilities in zip(features, model.predict_proba(few_images), strict=True):
            z = unit(objective.projector(row[None])[0])
            exps = [math.exp(float(z @ mu) / 0.3) for mu in centroids]
            expected = [e / sum(exps) for e in exps]
            assert probabilities.tolist() == pytest.approx(expected, rel=1e-4)
