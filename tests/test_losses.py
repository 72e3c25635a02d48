"""Losses against nested loops written from the equations, and against published values."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deepcluster_sk import losses
from deepcluster_sk.losses import (
    info_nce,
    inner_products,
    negative_entropy,
    nt_xent,
    sinkhorn,
    swapped_prediction,
    symmetric_info_nce,
)
from deepcluster_sk.methods.cluster_contrast import clustering_loss
from deepcluster_sk.methods.consensus_clustering import projected_scores
from deepcluster_sk.methods.contrastive_clustering import cluster_loss, instance_loss
from deepcluster_sk.methods.contrastive_embedded_clustering import student_t
from deepcluster_sk.methods.information_maximization_clustering import information_loss
from deepcluster_sk.methods.twin_contrast_clustering import cluster_representations

REFERENCE = json.loads((Path(__file__).parent / "files" / "cc_reference.json").read_text("utf-8"))
# batch size, projection dimension, clusters, tau_I, tau_C
GRID = [
    (4, 8, 3, 0.5, 1.0),
    (16, 128, 10, 0.5, 1.0),
    (64, 64, 20, 0.5, 1.0),
    (32, 16, 5, 0.1, 0.5),
    (5, 3, 1, 0.2, 0.7),
]


def loop_nt_xent(a, b, temperature):
    """Eq. (1)-(3): every vector against all others, one at a time."""
    vectors = np.concatenate([a, b])
    n = len(a)
    losses = []
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        positive = vectors[i] @ vectors[partner] / temperature
        others = [vectors[i] @ vectors[j] / temperature for j in range(2 * n) if j != i]
        losses.append(-positive + math.log(sum(math.exp(s) for s in others)))
    return sum(losses) / len(losses)


def loop_cluster_loss(c_a, c_b, temperature):
    """Eq. (4)-(6): the columns, normalised, as vectors."""
    columns_a = [column / math.sqrt(sum(column**2)) for column in c_a.T]
    columns_b = [column / math.sqrt(sum(column**2)) for column in c_b.T]
    return loop_nt_xent(np.array(columns_a), np.array(columns_b), temperature)


def loop_negative_entropy(c):
    total = math.log(c.shape[1])
    for k in range(c.shape[1]):
        share = sum(c[i, k] for i in range(len(c))) / c.sum()
        total += share * math.log(share)
    return total


def random_case(batch, dim, n_clusters, seed=0):
    rng = np.random.default_rng(seed)
    z = [rng.normal(size=(batch, dim)) for _ in range(2)]
    z = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in z]
    logits = [2 * rng.normal(size=(batch, n_clusters)) for _ in range(2)]
    c = [np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in logits]
    return z, c


def tensor(values, requires_grad=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=requires_grad)


@pytest.mark.parametrize(("batch", "dim", "n_clusters", "tau_i", "tau_c"), GRID)
def test_losses_equal_nested_loops(batch, dim, n_clusters, tau_i, tau_c):
    (z_a, z_b), (c_a, c_b) = random_case(batch, dim, n_clusters)
    instance = instance_loss(tensor(z_a), tensor(z_b), temperature=tau_i)
    cluster = cluster_loss(tensor(c_a), tensor(c_b), temperature=tau_c)
    assert instance.item() == pytest.approx(loop_nt_xent(z_a, z_b, tau_i), rel=1e-12)
    assert cluster.item() == pytest.approx(loop_cluster_loss(c_a, c_b, tau_c), rel=1e-12, abs=1e-12)
    expected = loop_negative_entropy(c_a)
    assert negative_entropy(tensor(c_a)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", REFERENCE, ids=["case0", "case1"])
def test_losses_and_gradients_equal_the_official_code(case):
    z_a, z_b = tensor(case["z_a"], True), tensor(case["z_b"], True)
    c_a, c_b = tensor(case["c_a"], True), tensor(case["c_b"], True)
    instance = instance_loss(z_a, z_b, temperature=case["instance_temperature"])
    cluster = cluster_loss(c_a, c_b, temperature=case["cluster_temperature"])
    cluster = cluster + negative_entropy(c_a) + negative_entropy(c_b)
    (instance + cluster).backward()
    assert instance.item() == pytest.approx(case["instance_loss"], rel=1e-10)
    assert cluster.item() == pytest.approx(case["cluster_loss_with_entropy"], rel=1e-10)
    for name, value in [("z_a", z_a), ("z_b", z_b), ("c_a", c_a), ("c_b", c_b)]:
        np.testing.assert_allclose(value.grad, case[f"grad_{name}"], rtol=1e-8, atol=1e-12)


def test_gradients_equal_finite_differences():
    (z_a, z_b), (c_a, c_b) = random_case(6, 4, 3)
    z = tensor(z_a, True), tensor(z_b, True)
    c = tensor(c_a, True), tensor(c_b, True)
    assert torch.autograd.gradcheck(lambda a, b: instance_loss(a, b, temperature=0.5), z)
    assert torch.autograd.gradcheck(lambda a, b: cluster_loss(a, b, temperature=1.0), c)
    assert torch.autograd.gradcheck(negative_entropy, c[:1])


def test_identical_projections_give_log_of_the_number_of_others():
    z = torch.ones(7, 4) / 2
    assert instance_loss(z, z).item() == pytest.approx(math.log(13))


def test_uniform_assignments_give_log_of_the_number_of_other_clusters():
    c = torch.full((20, 10), 0.1)
    assert cluster_loss(c, c).item() == pytest.approx(2.9444, abs=1e-4)


def test_orthogonal_pair_has_the_published_instance_loss():
    z = torch.eye(2)
    assert instance_loss(z, z, temperature=0.5).item() == pytest.approx(0.239545, abs=1e-6)


def test_balanced_one_hot_assignments_reach_the_published_minimum():
    c = torch.eye(10).repeat(3, 1)
    assert cluster_loss(c, c).item() == pytest.approx(2.031016, abs=1e-6)
    assert negative_entropy(c).item() == pytest.approx(0, abs=1e-6)


def test_lopsided_assignments_have_the_published_entropy_term():
    c = torch.tensor([[0.98, 0.01, 0.01]]).repeat(8, 1)
    assert 2 * negative_entropy(c).item() == pytest.approx(1.973420, abs=1e-5)


def test_worked_example_has_the_published_instance_loss():
    z_a = torch.nn.functional.normalize(tensor([[3, 4], [1, 0], [0, 2]]))
    z_b = torch.nn.functional.normalize(tensor([[4, 3], [1, 1], [-1, 2]]))
    assert instance_loss(z_a, z_b, temperature=0.5).item() == pytest.approx(1.236668, abs=1e-6)


def test_worked_example_has_the_published_cluster_loss():
    c_a = tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
    c_b = tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.4, 0.4, 0.2]])
    assert cluster_loss(c_a, c_b).item() == pytest.approx(1.282764, abs=1e-6)
    assert negative_entropy(c_a).item() == pytest.approx(0.016417, abs=1e-6)
    assert negative_entropy(c_b).item() == pytest.approx(0.023103, abs=1e-6)


def test_nt_xent_is_symmetric_in_its_views():
    (z_a, z_b), _ = random_case(9, 5, 2)
    forward = nt_xent(tensor(z_a), tensor(z_b), temperature=0.3)
    assert forward.item() == pytest.approx(
        nt_xent(tensor(z_b), tensor(z_a), temperature=0.3).item()
    )


def test_cluster_loss_ignores_the_scale_of_a_column():
    _, (c_a, c_b) = random_case(12, 4, 5)
    c = tensor(c_a, True)
    cluster_loss(c, tensor(c_b)).backward()
    np.testing.assert_allclose((c * c.grad).sum(dim=0).detach(), np.zeros(5), atol=1e-12)


def test_cluster_loss_is_unchanged_by_renumbering_both_views_and_raised_by_one():
    c = 0.9 * torch.eye(4, dtype=torch.float64).repeat(5, 1) + 0.025
    order = torch.tensor([2, 0, 3, 1])
    same = cluster_loss(c[:, order], c[:, order])
    assert same.item() == pytest.approx(cluster_loss(c, c).item())
    assert cluster_loss(c[:, order], c).item() > cluster_loss(c, c).item() + 0.5


def test_one_cluster_gives_zero_loss():
    c = torch.ones(6, 1)
    assert cluster_loss(c, c).item() == pytest.approx(0, abs=1e-6)
    assert negative_entropy(c).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[50.0, -50.0, -50.0], [-50.0, 50.0, -50.0]]).repeat(4, 1),
        torch.tensor([[400.0, 0.0, -400.0]]).repeat(8, 1),
        torch.full((8, 3), 50.0),
    ],
    ids=["one empty cluster", "one-hot rows of one cluster", "large equal logits"],
)
def test_degenerate_assignments_have_finite_loss_and_gradient(logits):
    logits = logits.clone().requires_grad_()
    c = logits.softmax(dim=1)
    loss = cluster_loss(c, c.flip(0)) + negative_entropy(c)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_inputs_are_computed_in_float32():
    (z_a, z_b), (c_a, _) = random_case(32, 16, 4)
    z = tensor(z_a).bfloat16(), tensor(z_b).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = instance_loss(*z, temperature=0.5)
        entropy = negative_entropy(tensor(c_a).bfloat16())
    assert loss.dtype == entropy.dtype == torch.float32
    expected = loop_nt_xent(z[0].double().numpy(), z[1].double().numpy(), 0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def loop_info_nce(queries, keys, temperature, extra=(), excluded=None, batch_negatives=True):
    losses = []
    for i, q in enumerate(queries):
        positive = q @ keys[i] / temperature
        others = [q @ k / temperature for j, k in enumerate(keys) if j != i and batch_negatives]
        others += [
            q @ k / temperature
            for j, k in enumerate(extra)
            if excluded is None or not excluded[i][j]
        ]
        losses.append(-positive + math.log(sum(math.exp(s) for s in [positive, *others])))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("batch_negatives", [True, False])
@pytest.mark.parametrize("n_extra", [0, 7])
def test_info_nce_equals_nested_loops(batch_negatives, n_extra):
    rng = np.random.default_rng(0)
    queries, keys, extra = (rng.normal(size=(n, 4)) for n in (5, 5, n_extra))
    excluded = rng.random((5, n_extra)) < 0.3
    loss = info_nce(
        tensor(queries),
        tensor(keys),
        temperature=0.4,
        extra_keys=tensor(extra),
        excluded=torch.from_numpy(excluded),
        batch_negatives=batch_negatives,
    )
    expected = loop_info_nce(queries, keys, 0.4, extra, excluded, batch_negatives)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_info_nce_of_leading_axes_are_independent_problems():
    a, b = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    losses = info_nce(a, b, temperature=0.3)
    for i in range(3):
        torch.testing.assert_close(losses[i], info_nce(a[i], b[i], temperature=0.3))


def test_info_nce_gradients_equal_finite_differences():
    rng = np.random.default_rng(0)
    q, k, extra = (tensor(rng.normal(size=(n, 3)), True) for n in (4, 4, 6))
    assert torch.autograd.gradcheck(
        lambda q, k, e: info_nce(q, k, temperature=0.5, extra_keys=e), (q, k, extra)
    )


@pytest.mark.parametrize("scale", [1, 50])
def test_symmetric_info_nce_is_the_mean_of_both_directions(scale):
    rng = np.random.default_rng(0)
    a, b = (tensor(rng.normal(size=(3, 5, 4)) * scale) for _ in range(2))
    loss = symmetric_info_nce(a, b, temperature=0.4)
    there, back = info_nce(a, b, temperature=0.4), info_nce(b, a, temperature=0.4)
    torch.testing.assert_close(loss, (there + back) / 2, rtol=1e-12, atol=0)


def test_symmetric_info_nce_gradients_equal_finite_differences():
    rng = np.random.default_rng(0)
    a, b = (tensor(rng.normal(size=(4, 3)), True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: symmetric_info_nce(a, b, temperature=0.5), (a, b))


def test_info_nce_of_identical_vectors_is_the_log_of_the_number_of_keys():
    z = torch.ones(7, 4) / 2
    loss = info_nce(z, z, temperature=0.1, extra_keys=z[:3])
    assert loss.item() == pytest.approx(math.log(10), abs=1e-5)
    assert info_nce(z, z, temperature=0.1, batch_negatives=False).item() == 0


# ---- gradients that are written out


def step_by_step(loss, *args, **kwargs):
    """A loss with torch's own logarithm of sums, differentiated by torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_logsumexp", lambda x, *, dim: torch.logsumexp(x, dim))
        return loss(*args, **kwargs)


def nt_xent_step_by_step(a, b, *, temperature):
    z = torch.cat([a, b], dim=-2)
    similarity = z @ z.mT / temperature
    itself = torch.eye(z.shape[-2], dtype=torch.bool)
    partner = torch.cat([b, a], dim=-2)
    positive = (z * partner).sum(dim=-1) / temperature
    others = similarity.masked_fill(itself, float("-inf"))
    return (torch.logsumexp(others, dim=-1) - positive).mean(dim=-1)


SHAPES = [(1, 3), (5, 3), (2, 4, 3), (2, 3, 1, 4)]


def pairs(shape):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loss", [nt_xent, info_nce, symmetric_info_nce])
def test_gradients_are_those_of_finite_differences(loss, shape):
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, temperature=0.7), pairs(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_losses_and_gradients_equal_those_of_single_steps(shape, temperature):
    cases = [(nt_xent, nt_xent_step_by_step)]
    cases += [(loss, partial(step_by_step, loss)) for loss in (info_nce, symmetric_info_nce)]
    for loss, reference in cases:
        inputs = [F.normalize(x, dim=-1) for x in pairs(shape)]
        found, expected = (f(*inputs, temperature=temperature) for f in (loss, reference))
        torch.testing.assert_close(found, expected)
        ours, theirs = (torch.autograd.grad(x.sum(), inputs) for x in (found, expected))
        assert all(x.isfinite().all() for x in ours)
        torch.testing.assert_close(ours, theirs)


# ---- codes and their prediction


def loop_sinkhorn(scores, epsilon, n_iterations):
    """Scale the entries of the matrix one at a time."""
    n, k = scores.shape
    q = [[math.exp(scores[i, j] / epsilon) for j in range(k)] for i in range(n)]
    for _ in range(n_iterations):
        for j in range(k):
            mass = sum(q[i][j] for i in range(n)) * k
            for i in range(n):
                q[i][j] /= mass
        for i in range(n):
            mass = sum(q[i]) * n
            q[i] = [value / mass for value in q[i]]
    return np.array([[value / sum(row) for value in row] for row in q])


def random_scores(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


@pytest.mark.parametrize(("n", "k"), [(8, 3), (5, 5), (4, 9), (6, 1)])
@pytest.mark.parametrize(("epsilon", "n_iterations"), [(0.05, 3), (0.3, 1), (1.0, 7)])
def test_sinkhorn_equals_a_plain_loop(n, k, epsilon, n_iterations):
    scores = random_scores(n, k)
    codes = sinkhorn(scores, epsilon=epsilon, n_iterations=n_iterations)
    expected = loop_sinkhorn(scores.numpy(), epsilon, n_iterations)
    np.testing.assert_allclose(codes, expected, rtol=1e-9)


def test_many_iterations_of_sinkhorn_give_every_prototype_the_same_mass():
    scores = random_scores(60, 6) + torch.arange(6)  # all prefer the last one
    codes = sinkhorn(scores, epsilon=0.2, n_iterations=200)
    np.testing.assert_allclose(codes.sum(dim=1), np.ones(60), rtol=1e-12)
    np.testing.assert_allclose(codes.sum(dim=0), np.full(6, 10.0), rtol=1e-6)
    few = sinkhorn(scores, epsilon=0.2)
    np.testing.assert_allclose(few.sum(dim=1), np.ones(60), rtol=1e-12)


def test_sinkhorn_treats_leading_axes_as_independent():
    scores = random_scores(2, 7, 4)
    for whole, part in zip(sinkhorn(scores), scores, strict=True):
        torch.testing.assert_close(whole, sinkhorn(part))


def test_codes_of_equal_scores_are_uniform():
    torch.testing.assert_close(sinkhorn(torch.zeros(4, 5)), torch.full((4, 5), 0.2))


def test_codes_of_large_scores_are_finite():
    scores = torch.tensor([[400.0, 0, -400], [400, 0, -400], [-400, 0, 400]])
    codes = sinkhorn(scores)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(3))


def test_no_gradient_reaches_the_scores_of_codes():
    scores = random_scores(5, 3).requires_grad_()
    assert not sinkhorn(scores).requires_grad


def test_sinkhorn_in_half_precision_is_computed_in_float32():
    scores = random_scores(9, 4).bfloat16()
    codes = sinkhorn(scores)
    assert codes.dtype == torch.float32
    np.testing.assert_allclose(codes, loop_sinkhorn(scores.double().numpy(), 0.05, 3), rtol=1e-4)


def loop_swapped(scores, codes, temperature):
    losses = []
    for c in range(len(codes)):
        for v in range(len(scores)):
            if v == c:
                continue
            for i in range(scores.shape[1]):
                exps = [math.exp(s / temperature) for s in scores[v, i]]
                losses.append(
                    -sum(
                        float(q) * math.log(e / sum(exps))
                        for q, e in zip(codes[c, i], exps, strict=True)
                    )
                )
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("n_views", "n_coded"), [(2, 2), (2, 1), (5, 2), (3, 3)])
def test_swapped_prediction_equals_nested_loops(n_views, n_coded):
    scores = random_scores(n_views, 6, 4)
    codes = sinkhorn(random_scores(n_coded, 6, 4, seed=1))
    loss = swapped_prediction(scores, codes, temperature=0.3)
    assert loss.item() == pytest.approx(loop_swapped(scores, codes, 0.3), rel=1e-9)


def test_swapped_prediction_uses_the_same_codes_for_all_leading_axes():
    scores, codes = random_scores(4, 2, 6, 3), sinkhorn(random_scores(2, 6, 3, seed=1))
    losses = swapped_prediction(scores, codes, temperature=0.1)
    expected = [loop_swapped(some, codes, 0.1) for some in scores]
    assert losses.tolist() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_swapped_prediction_equals_finite_differences():
    scores = random_scores(3, 4, 3).requires_grad_()
    codes = sinkhorn(random_scores(2, 4, 3, seed=1))
    assert torch.autograd.gradcheck(
        lambda s: swapped_prediction(s, codes, temperature=0.5), (scores,)
    )


def test_swapped_prediction_of_equal_scores_is_log_of_the_number_of_prototypes():
    zeros = torch.zeros(2, 5, 7)
    loss = swapped_prediction(zeros, sinkhorn(zeros), temperature=0.1)
    assert loss.item() == pytest.approx(math.log(7))


def test_swapped_prediction_of_large_scores_has_finite_loss_and_gradient():
    scores = torch.tensor([[50.0, -50, -50], [-50, 50, -50]]).repeat(2, 3, 1).requires_grad_()
    loss = swapped_prediction(scores, sinkhorn(scores.flip(0)), temperature=0.1)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


# ---- half precision

OF_PRODUCTS = {
    "inner_products": lambda x, y: inner_products(x, y),
    "cluster_representations": lambda x, y: cluster_representations(x, y.softmax(dim=1)),
    "student_t": lambda x, y: student_t(x, y[:4]),
    "information_loss": lambda x, y: information_loss(x.softmax(dim=1), y.softmax(dim=1)),
    "projected_scores": lambda x, y: projected_scores(x, y[:4], torch.stack([y[:6], y[2:8]])),
    "pull": lambda x, y: clustering_loss(x, y[:4], torch.zeros(8, dtype=int), form="pull"),
    "cross-entropy": lambda x, y: clustering_loss(x, y[:4], torch.zeros(8, dtype=int)),
}


@pytest.mark.parametrize("name", OF_PRODUCTS)
def test_products_in_a_step_of_half_precision_are_in_full_precision(name):
    x, y = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    expected = OF_PRODUCTS[name](x, y)
    with torch.autocast("cpu", torch.bfloat16):
        found = OF_PRODUCTS[name](x, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_inner_products_are_those_of_all_pairs_of_rows():
    x, y = torch.randn(3, 4, 5), torch.randn(3, 2, 5, dtype=torch.float64)
    found = inner_products(x, y)
    assert found.dtype == torch.float64
    for problem in range(3):
        for i in range(4):
            for j in range(2):
                product = sum(x[problem, i, k].double() * y[problem, j, k] for k in range(5))
                assert found[problem, i, j] == pytest.approx(product.item())
    half = inner_products(x[0].bfloat16(), x[0].bfloat16())
    assert half.dtype == torch.float32
