import numpy as np
import pytest
import torch
from row_maps import RowMap
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk._networks.cluster_heads import ClusterHeads
from deepcluster_sk._networks.modules import projection_head
from deepcluster_sk._networks.neighbor_stage import NeighborStage
from deepcluster_sk._networks.neighbors import NeighborGraph
from deepcluster_sk._training.objective import Settings

pytestmark = pytest.mark.usefixtures("full_searches")


def test_one_head_is_a_projection_head():
    torch.manual_seed(0)
    alone = projection_head(6, 5, 3)
    torch.manual_seed(0)
    parallel = ClusterHeads(6, 5, 3, n_heads=1)
    x = torch.rand(4, 6)
    torch.testing.assert_close(parallel(x)[0], alone(x))


def test_heads_are_computed_side_by_side():
    heads = ClusterHeads(6, 5, 3, n_heads=4)
    x = torch.rand(7, 6)
    outputs = heads(x)
    assert outputs.shape == (4, 7, 3)
    hidden = heads.hidden(x)
    for head in range(4):
        rows = slice(3 * head, 3 * head + 3)
        expected = hidden @ heads.output.weight[rows].T + heads.output.bias[rows]
        torch.testing.assert_close(outputs[head], expected)


@pytest.mark.parametrize(("width", "n_layers", "n_linear"), [(5, 1, 1), (5, 3, 3), (0, 2, 0)])
def test_hidden_layers_have_one_width_and_end_in_a_relu(width, n_layers, n_linear):
    heads = ClusterHeads(6, width, 3, n_heads=2, n_hidden_layers=n_layers)
    linear = [layer for layer in heads.hidden.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [width] * n_linear
    x = expected = torch.randn(7, 6)
    for layer in linear:
        expected = (expected @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(heads.hidden(x), expected)
    assert heads(x).shape == (2, 7, 3)


def test_selected_outputs_become_the_only_head_in_their_order():
    heads = ClusterHeads(6, 5, 3, n_heads=2)
    x = torch.rand(7, 6)
    before = heads(x)
    heads.select(torch.tensor([5, 3, 4]))
    torch.testing.assert_close(heads(x), before[1:, :, [2, 0, 1]])


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (1, 2)])
def test_imitating_head_reproduces_the_labels_and_leaves_the_others(present):
    rng = np.random.default_rng(0)
    labels = rng.choice(present, size=90)
    centers = 4 * rng.normal(size=(3, 6))
    x = torch.from_numpy(centers[labels] + 0.1 * rng.normal(size=(90, 6))).float()
    heads = ClusterHeads(6, 16, 3, n_heads=2)
    before = heads(x).detach()
    with torch.no_grad():
        heads.imitate(1, x, torch.from_numpy(labels))
    after = heads(x)
    torch.testing.assert_close(after[0], before[0])
    np.testing.assert_array_equal(after[1].argmax(dim=1), labels)


def test_without_hidden_features_a_head_is_linear():
    heads = ClusterHeads(6, 0, 3)
    x = torch.rand(4, 6)
    torch.testing.assert_close(heads(x)[0], x @ heads.output.weight.T + heads.output.bias)


def groups(n=60):
    """Features in three directions, and the number of each row's direction."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    return torch.eye(5)[labels] + 0.01 * torch.rand(n, 5, generator=generator), labels


def blind_heads(n_heads, **kwargs):
    """Heads that see one cluster only."""
    heads = ClusterHeads(5, 8, 3, n_heads, **kwargs)
    nn.init.zeros_(heads.output.weight)
    return heads


def stage(n_neighbors=3, n_clusters=3, space="features"):
    return NeighborStage(
        Settings(
            n_neighbors=n_neighbors,
            neighbor_start=0.5,
            neighbor_space=space,
            n_clusters=n_clusters,
            join=False,
        )
    )


def judged_by(features):
    neighbors = stage()
    neighbors.graph = NeighborGraph.among(features, 3)
    return neighbors


def count_that_see(heads, features, labels):
    return sum(adjusted_rand_score(labels, out.argmax(dim=1)) == 1 for out in heads(features))


def run_epochs(heads, features, times, space="features"):
    neighbors = stage(space=space)
    for progress in times:
        with torch.no_grad():
            heads.before_epoch(progress, RowMap(features), nn.Identity(), neighbors)
    return neighbors


@pytest.mark.parametrize("n_heads", [1, 3])
def test_late_heads_all_start_from_partitions(n_heads):
    features, labels = groups()
    heads = blind_heads(n_heads, start=0.3)
    assert heads.started == 0
    run_epochs(heads, features, [0, 0.2])
    assert heads.started == count_that_see(heads, features, labels) == 0
    run_epochs(heads, features, [0.3])
    assert heads.started == 1
    assert count_that_see(heads, features, labels) == n_heads


def test_heads_start_unsure_of_their_partition():
    features, labels = groups()
    torch.manual_seed(4)  # some random hidden layers hardly tell the groups apart
    heads = blind_heads(3, start=0.3)
    run_epochs(heads, features, [0.3])
    logits = heads(features)
    torch.testing.assert_close(logits.std(dim=2).mean(dim=1), torch.full((3,), 0.5))
    assert logits.softmax(dim=2).max() < 0.6
    with torch.no_grad():
        heads.imitate(0, features, labels)
        assert heads(features)[0].softmax(dim=1).max(dim=1).values.min() > 0.68


def test_heads_encode_only_the_rows_that_they_start_from(monkeypatch):
    monkeypatch.setattr("deepcluster_sk._networks.neighbor_stage._START_ROWS", 40)
    features, labels = groups(90)
    heads, encoded = blind_heads(2, start=0.3), []

    def encoder(x):
        encoded.append(len(x))
        return x

    with torch.no_grad():
        heads.before_epoch(0.3, RowMap(features), encoder, stage())
    assert encoded == [40]
    assert count_that_see(heads, features, labels) == 2


def test_heads_start_once():
    features, _ = groups()
    heads = blind_heads(2, start=0.3)
    run_epochs(heads, features, [0.3])
    nn.init.zeros_(heads.output.weight)
    run_epochs(heads, features, [0.5, 0.75, 0.9])
    assert not heads.output.weight.any()


def test_heads_that_start_at_once_keep_their_random_weights():
    features, _ = groups()
    heads = ClusterHeads(5, 8, 3, 2)
    before = heads.output.weight.clone()
    run_epochs(heads, features, [0, 0.5, 0.75])
    assert torch.equal(heads.output.weight, before)


def test_the_head_on_which_neighbors_agree_is_kept():
    features, labels = groups()
    heads = blind_heads(3)
    with torch.no_grad():
        heads.imitate(1, features, labels)
        heads.keep_one(features, judged_by(features))
    assert heads(features).shape == (1, 60, 3)
    assert count_that_see(heads, features, labels) == 1


@pytest.mark.parametrize("n_heads", [1, 3])
def test_without_neighbors_a_head_is_kept_all_the_same(n_heads):
    features, labels = groups()
    heads = blind_heads(n_heads)
    with torch.no_grad():
        heads.imitate(n_heads - 1, features, labels)
        heads.keep_one(features, stage(0))
    assert heads(features).shape == (1, 60, 3)
    assert count_that_see(heads, features, labels) == 1


def test_heads_that_never_started_do_so_in_the_end():
    features, labels = groups()
    heads = blind_heads(2, start=0.9)
    with torch.no_grad():
        heads.keep_one(features, judged_by(features))
    assert count_that_see(heads, features, labels) == 1


def test_heads_that_never_started_imitate_the_partition_that_decides():
    features, labels = groups()
    heads = blind_heads(2, start=0.9)
    neighbors = run_epochs(heads, features, [0.0], space="inputs")
    with torch.no_grad():
        heads.keep_one(features, neighbors)
    assert heads.started == 1
    assert count_that_see(heads, features, labels) == 1


def test_heads_start_from_partitions_of_the_inputs():
    features, _ = groups()
    heads = blind_heads(3, start=0.3)
    neighbors = run_epochs(heads, features, [0.0, 0.3], space="inputs")
    with torch.no_grad():
        outputs = heads(features).argmax(dim=2)
    for head in range(3):
        assert adjusted_rand_score(neighbors.partitions[head], outputs[head]) == 1


def test_the_head_that_is_kept_imitates_the_best_partition_of_the_inputs():
    features, labels = groups()
    heads = blind_heads(3)
    neighbors = run_epochs(heads, features, [0.0], space="inputs")
    with torch.no_grad():
        heads.imitate(1, features, (labels + 1) % 2)  # two clusters of three
        heads.keep_one(features, neighbors)
    assert count_that_see(heads, features, labels) == 1


@pytest.mark.parametrize("n_clusters", [1, 3])
def test_heads_start_on_equal_rows_as_on_others(n_clusters):
    heads = ClusterHeads(5, 8, n_clusters, 2, start=0.1)
    with torch.no_grad():
        heads.before_epoch(0.2, RowMap(torch.ones(9, 5)), nn.Identity(), stage(0, n_clusters))
    assert heads.started == 1
    assert heads(torch.ones(9, 5)).isfinite().all()
