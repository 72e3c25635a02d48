"""What is particular to contrastive clustering."""

import numpy as np
import pytest
import torch
from torch import nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._contrastive_clustering import (
    ContrastiveObjective,
    cluster_loss,
    instance_loss,
)
from deepcluster_sk._objective import Batch
from deepcluster_sk.losses import negative_entropy

SETTINGS = {
    "n_clusters": 3,
    "n_heads": 2,
    "hidden_dim": 8,
    "projection_dim": 4,
    "instance_temperature": 0.5,
    "cluster_temperature": 1.0,
    "cluster_weight": 2.0,
    "entropy_weight": 0.5,
    "n_neighbors": 3,
    "neighbor_start": 0.5,
}


def objective(**settings):
    torch.manual_seed(0)
    return ContrastiveObjective(nn.Linear(6, 5), 5, **{**SETTINGS, **settings})


def batch(n_views=2):
    generator = torch.Generator().manual_seed(1)
    views = tuple(torch.randn(10, 6, generator=generator) for _ in range(n_views))
    return Batch(views, torch.arange(10))


def assignments_of(model, view, head):
    logits = model.cluster_heads(model.encoder(view))[head]
    return torch.stack([row.exp() / row.exp().sum() for row in logits])


def test_loss_is_the_weighted_sum_of_its_terms_over_views_and_heads():
    model, data = objective(), batch()
    a, b = data.views
    z_a, z_b = (
        torch.stack([z / z.norm() for z in model.instance_head(model.encoder(v))]) for v in (a, b)
    )
    expected = instance_loss(z_a, z_b, temperature=0.5)
    for head in range(2):
        c_a, c_b = assignments_of(model, a, head), assignments_of(model, b, head)
        expected = expected + 2.0 * cluster_loss(c_a, c_b) / 2
        expected = expected + 0.5 * (negative_entropy(c_a) + negative_entropy(c_b)) / 2
    torch.testing.assert_close(model(data).total, expected)


def test_neighbor_view_adds_a_cluster_pair_and_takes_a_place_in_the_entropy():
    model, data = objective(n_heads=1), batch(n_views=3)
    c_a, c_b, c_n = (assignments_of(model, view, 0) for view in data.views)
    terms = model(data).terms
    torch.testing.assert_close(terms["cluster"], cluster_loss(c_a, c_b).detach())
    torch.testing.assert_close(terms["neighbor"], cluster_loss(c_a, c_n).detach())
    entropy = (negative_entropy(c_a) + negative_entropy(c_n)).detach()
    torch.testing.assert_close(terms["entropy"], entropy)
    expected = terms["instance"] + 2.0 * (terms["cluster"] + terms["neighbor"]) + 0.5 * entropy
    torch.testing.assert_close(model(data).total.detach(), expected)


def test_neighbor_view_leaves_the_instance_loss_alone():
    model = objective()
    two, three = batch(2), batch(3)
    torch.testing.assert_close(model(two).terms["instance"], model(three).terms["instance"])


def test_loss_is_pure():
    model, data = objective(), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model(data).total, model(data).total)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_gradients_reach_encoder_and_all_heads():
    model = objective()
    model(batch()).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim == 2)


def start_neighbors(model, features, progress):
    with torch.no_grad():
        model.before_epoch(progress, lambda: features, torch.Generator().manual_seed(0))


def groups(n=12):
    """Features in three directions, and the number of each row's direction."""
    labels = torch.arange(n) % 3
    return torch.eye(5)[labels] + 0.01 * torch.rand(n, 5), labels


def test_neighbors_start_at_their_share_of_the_run_and_share_a_direction():
    model = objective()
    features, labels = groups()
    plan = torch.arange(12).view(2, 6)
    generator = torch.Generator().manual_seed(0)
    start_neighbors(model, features, progress=0.4)
    assert model.view_rows(plan, generator).shape == (2, 2, 6)
    start_neighbors(model, features, progress=0.5)
    rows = model.view_rows(plan, generator)
    assert rows.shape == (2, 3, 6)
    assert torch.equal(rows[:, 0], plan)
    assert torch.equal(rows[:, 1], plan)
    assert (rows[:, 2] != plan).all()
    assert torch.equal(labels[rows[:, 2]], labels[plan])


def test_no_neighbors_is_the_method_of_the_paper():
    model = objective(n_neighbors=0)
    start_neighbors(model, groups()[0], progress=0.9)
    rows = model.view_rows(torch.arange(12).view(2, 6), torch.Generator())
    assert rows.shape == (2, 2, 6)


def follows(outputs, labels):
    """Whether a head's clusters are the groups, up to their names."""
    pairs = set(zip(outputs.argmax(dim=1).tolist(), labels.tolist(), strict=True))
    return len(pairs) == 3 == len({cluster for cluster, _ in pairs})


def test_one_head_restarts_from_kmeans_at_the_start_of_the_stage_and_in_its_middle():
    model = objective(n_heads=3)
    nn.init.zeros_(model.cluster_heads.output.weight)  # all heads see one cluster only
    features, labels = groups()
    counts = []
    for progress in (0.4, 0.5, 0.6, 0.75, 0.9):
        start_neighbors(model, features, progress)
        counts.append(sum(follows(out, labels) for out in model.cluster_heads(features)))
    assert counts == [0, 1, 1, 2, 2]


def test_the_head_on_which_neighbors_agree_is_kept():
    model = objective(n_heads=3)
    model.head_loss.copy_(torch.tensor([1.0, 2.0, 3.0]))
    nn.init.zeros_(model.cluster_heads.output.weight)
    features, labels = groups()
    start_neighbors(model, features, progress=0.5)
    with torch.no_grad():
        model.after_training(lambda: features)
    assert follows(model.assign(features), labels)
    assert model.cluster_heads(features).shape == (1, 12, 3)
    assert model._neighbors is None


def test_agreement_is_the_mutual_information_between_neighbors():
    model = objective(n_heads=2)
    features, _ = groups()
    start_neighbors(model, features, progress=0.5)
    for head, agreement in enumerate(model._agreements(features)):
        labels = model.cluster_heads(features)[head].argmax(dim=1).tolist()
        table = np.zeros((3, 3))
        for i, neighbors in enumerate(model._neighbors.tolist()):
            for j in neighbors:
                table[labels[i], labels[j]] += 1 / (12 * 3)
        expected = sum(
            p * np.log(p / (table[a].sum() * table[:, b].sum()))
            for (a, b), p in np.ndenumerate(table)
            if p > 0
        )
        assert agreement.item() == pytest.approx(expected, abs=1e-6)


def test_without_neighbors_the_head_of_lowest_loss_is_kept():
    model = objective(n_neighbors=0)
    features, _ = groups()
    model.head_loss.copy_(torch.tensor([2.0, 1.0]))
    expected = model.cluster_heads(features)[1].softmax(dim=1)
    model.after_training(lambda: features)
    torch.testing.assert_close(model.assign(features), expected)


def test_head_losses_are_averaged_over_steps():
    model = objective()
    for _ in range(400):
        model.after_step((torch.tensor([1.0, 3.0]),), 0.5)
    torch.testing.assert_close(model.head_loss, torch.tensor([1.0, 3.0]), rtol=1e-2, atol=0)


def test_permuting_clusters_permutes_the_assignments():
    model = objective(n_heads=1)
    features, _ = groups()
    before = model.assign(features)
    model.permute_clusters(torch.tensor([2, 0, 1]))
    torch.testing.assert_close(model.assign(features), before[:, [2, 0, 1]])


@pytest.mark.parametrize(
    ("n_samples", "epochs"), [(20, 560), (256, 560), (1797, 80), (10_000, 15), (70_000, 8)]
)
def test_default_number_of_epochs_follows_the_documented_rule(n_samples, epochs):
    config = ContrastiveClustering()._train_config(n_samples, torch.device("cpu"))
    assert config.max_epochs == epochs


def test_entropy_weight_evens_out_the_shares_of_the_clusters(blobs):
    def entropy_term(entropy_weight):
        model = ContrastiveClustering(
            3, entropy_weight=entropy_weight, max_epochs=30, n_neighbors=0, random_state=0
        )
        return model.fit(blobs[0]).history_["entropy"][-1]

    assert entropy_term(5.0) < 0.5 * entropy_term(0.0)
