"""What is particular to consensus clustering."""

import math

import pytest
import torch
import torch.nn.functional as F
from row_maps import RowMap
from torch import nn

from deepcluster_sk import ConsensusClustering
from deepcluster_sk._networks.centroids import kmeans_centroids
from deepcluster_sk._training.objective import Batch, Settings
from deepcluster_sk.losses import sinkhorn, swapped_prediction
from deepcluster_sk.methods.consensus_clustering import (
    ConsensusObjective,
    RandomProjections,
    consensus_loss,
    instance_loss,
    projected_scores,
)

SETTINGS = {
    "n_clusters": 3,
    "join": False,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_dim": 3,
    "n_transforms": 5,
    "transform_dim": 2,
    "consensus_weight": 0.7,
    "swapped_weight": 0.3,
    "instance_temperature": 0.5,
    "code_temperature": 0.2,
    "sinkhorn_epsilon": 0.1,
    "queue_size": 6,
    "cluster_start": 0.0,
    "n_neighbors": 3,
    "neighbor_start": 0.9,
    "neighbor_space": "features",
}
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(3))


def objective(**settings):
    torch.manual_seed(0)
    return ConsensusObjective(nn.Linear(6, 5), 5, Settings(**{**SETTINGS, **settings}))


def batch():
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(10))


def unit(vector):
    return vector / math.sqrt(sum(float(v) ** 2 for v in vector))


def random_case():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 7, 4), (3, 4), (5, 2, 4)
    z, prototypes, transforms = (
        torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes
    )
    return z, F.normalize(prototypes, dim=1), transforms


def loop_consensus(z, prototypes, codes, transforms, temperature):
    losses = []
    for transform in transforms:
        c = [unit(transform @ mu) for mu in prototypes]
        for own, other in [(0, 1), (1, 0)]:
            for i in range(z.shape[1]):
                projected = unit(transform @ z[own, i])
                exps = [math.exp(float(projected @ mu) / temperature) for mu in c]
                losses.append(
                    -sum(
                        float(q) * math.log(e / sum(exps))
                        for q, e in zip(codes[other, i], exps, strict=True)
                    )
                )
    return sum(losses) / len(losses)


def loop_instance(a, b, queue, temperature):
    losses = []
    for own, other in [(a, b), (b, a)]:
        for i in range(len(own)):
            similarity = [float(own[i] @ row) / temperature for row in [*other, *queue]]
            losses.append(-similarity[i] + math.log(sum(math.exp(s) for s in similarity)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_consensus_loss_equals_nested_loops(temperature):
    z, prototypes, transforms = random_case()
    codes = sinkhorn(F.normalize(z, dim=-1) @ prototypes.T)
    loss = consensus_loss(z, prototypes, codes, transforms, temperature=temperature)
    expected = loop_consensus(z, prototypes, codes, transforms, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_consensus_loss_has_the_value_worked_out_by_hand():
    # in the first axis alone, both samples look like the first prototype or its opposite
    z = torch.tensor([[[1.0, 1], [-1, 1]]] * 2)
    codes = torch.eye(2).repeat(2, 1, 1)
    first_axis = torch.tensor([[[1.0, 0]]])
    prototypes = torch.tensor([[1.0, 0], [-1, 0]])
    expected = math.log(1 + math.exp(-2 / 0.5))
    loss = consensus_loss(z, prototypes, codes, first_axis, temperature=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("with_queue", [True, False])
def test_instance_loss_equals_nested_loops(with_queue):
    z, _, _ = random_case()
    a, b = F.normalize(z, dim=-1)
    queue = F.normalize(torch.rand(3, 4, dtype=torch.float64), dim=1) if with_queue else None
    loss = instance_loss(a, b, temperature=0.4, queue=queue)
    expected = loop_instance(a, b, queue if with_queue else [], 0.4)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_scores_of_a_rotation_are_cosines():
    z, prototypes, _ = random_case()
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    expected = F.normalize(z, dim=-1) @ prototypes.T
    torch.testing.assert_close(projected_scores(z, prototypes, rotation[None])[0], expected)


def test_gradients_equal_finite_differences():
    z, prototypes, transforms = random_case()
    codes = sinkhorn(F.normalize(z, dim=-1) @ prototypes.T)
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: consensus_loss(z, prototypes, codes, transforms, temperature=0.5), (z,)
    )
    assert torch.autograd.gradcheck(lambda z: instance_loss(z[0], z[1]), (z,))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 50.0])
def test_degenerate_projections_have_finite_loss_and_gradient(scale):
    z = (scale * torch.ones(2, 6, 4)).requires_grad_()
    prototypes, transforms = torch.eye(4)[:3], RandomProjections(5, 2, 4).weight
    codes = sinkhorn(F.normalize(z, dim=-1) @ prototypes.T)
    loss = consensus_loss(z, prototypes, codes, transforms, temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def expected_terms(model, views, queue):
    h = [[unit(v) for v in model.instance_head(model.encoder(x)).detach()] for x in views]
    z = torch.stack([model.projector(model.encoder(x)) for x in views]).detach()
    mu = torch.stack([unit(v) for v in model.prototypes.weight.detach()])
    scores = F.normalize(z, dim=-1) @ mu.T
    codes = torch.stack([sinkhorn(some, epsilon=0.1) for some in scores])
    instance = loop_instance(*h, queue, 0.5)
    consensus = loop_consensus(z, mu, codes, model.transforms.weight, 0.2)
    return instance, consensus, swapped_prediction(scores, codes, temperature=0.2).item()


@pytest.mark.parametrize("queue_size", [6, 0])
def test_loss_is_the_weighted_sum_of_its_terms(queue_size):
    model, data = objective(queue_size=queue_size), batch()
    queue = model.queue.features if queue_size else []
    instance, consensus, swapped = expected_terms(model, data.views, queue)
    output = model(data)
    assert output.terms["instance"].item() == pytest.approx(instance, rel=1e-5)
    assert output.terms["consensus"].item() == pytest.approx(consensus, rel=1e-4)
    expected = instance + 0.7 * consensus + 0.3 * swapped
    assert output.total.item() == pytest.approx(expected, rel=1e-5)


def test_before_their_start_the_prototypes_do_not_count():
    model, data = objective(cluster_start=0.5), batch()
    instance, _, _ = expected_terms(model, data.views, model.queue.features)
    output = model(data)
    assert output.total.item() == pytest.approx(instance, rel=1e-5)
    output.total.backward()
    assert not model.prototypes.weight.grad.any()


def test_the_consensus_does_not_move_the_prototypes():
    model = objective(swapped_weight=0.0)
    model(batch()).total.backward()
    assert not model.prototypes.weight.grad.any()
    assert model.projector[0].weight.grad.any()
    moving = objective(swapped_weight=1.0)
    moving(batch()).total.backward()
    assert moving.prototypes.weight.grad.any()


def test_no_gradient_reaches_queue_and_random_projections():
    model = objective()
    model(batch()).total.backward()
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_random_projections_keep_lengths_in_the_mean():
    torch.manual_seed(0)
    maps = RandomProjections(400, 8, 16).weight
    lengths = (maps @ unit(torch.arange(1.0, 17))).square().sum(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.1)


def test_prototypes_begin_with_kmeans_at_their_start():
    model = objective(cluster_start=0.3)
    with torch.no_grad():
        model.before_epoch(0.2, RowMap(ROWS))
        assert model(batch()).terms["consensus"] == 0
        model.before_epoch(0.3, RowMap(ROWS))
        expected = kmeans_centroids(model.project(model.encoder(ROWS)), 3)
    torch.testing.assert_close(model.prototypes(), expected)
    assert model(batch()).terms["consensus"] > 0


def test_queue_follows_after_a_step():
    model = objective()
    output = model(batch())
    h_b = model.instance_head(model.encoder(batch().views[1])).detach()
    model.after_step(output.carry, 0.5)
    expected = F.normalize(h_b, dim=1)[-6:]  # ten rows on a queue of six
    by_first = [rows[rows[:, 0].argsort()] for rows in (model.queue.features, expected)]
    torch.testing.assert_close(*by_first)


def test_probabilities_are_a_softmax_over_the_prototypes(few_images):
    model = ConsensusClustering(3, max_epochs=3, random_state=0, device="cpu").fit(few_images)
    objective = model._objective
    objective.calibration.reset()
    features = torch.from_numpy(model.transform(few_images))
    prototypes = objective.prototypes()[objective.cluster_of.argsort()]
    with torch.no_grad():
        for row, probabilities in zip(features, model.predict_proba(few_images), strict=True):
            z = unit(objective.projector(row[None])[0])
            exps = [math.exp(float(z @ mu) / 0.1) for mu in prototypes]
            expected = [e / sum(exps) for e in exps]
            assert probabilities.tolist() == pytest.approx(expected, rel=1e-4)
