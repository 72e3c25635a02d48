import numpy as np
import pytest
import torch
from row_maps import RowMap
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk._networks.centroids import spherical_kmeans
from deepcluster_sk._networks.neighbor_stage import NeighborStage, start_rows
from deepcluster_sk._networks.neighbors import NeighborGraph, NeighborSearch
from deepcluster_sk._training.objective import Settings
from deepcluster_sk._training.row_map import sampled_rows

pytestmark = pytest.mark.usefixtures("full_searches")


def vectors(n=40, d=5):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, d))).float()


def expected_neighbors(rows, k):
    """The k nearest of each row."""
    nearest = []
    for i, row in enumerate(rows):
        distance = [float((row - o).norm()) if j != i else np.inf for j, o in enumerate(rows)]
        nearest.append(set(np.argsort(distance)[:k].tolist()))
    return nearest


def test_neighbors_of_a_row_are_its_nearest_others():
    rows = vectors()
    graph = NeighborGraph.among(rows, 4)
    for i, expected in enumerate(expected_neighbors(rows, 4)):
        assert set(graph.neighbors(i).tolist()) == expected


@pytest.mark.parametrize("n_threads", [1, 2])
def test_of_many_rows_nearly_all_neighbors_are_found(monkeypatch, n_threads):
    monkeypatch.setattr("deepcluster_sk._runtime.threads.available_threads", lambda: n_threads)
    rows = vectors(2000)
    exact = NeighborGraph.among(rows, 4)
    monkeypatch.setattr("deepcluster_sk._networks.neighbors._MOST_COMPARED", 1999)
    graph = NeighborGraph.among(rows, 4)
    found = [
        len(set(graph.neighbors(i).tolist()) & set(exact.neighbors(i).tolist()))
        for i in range(2000)
    ]
    assert 0.95 < np.mean(found) / 4 < 1  # no longer all rows are compared
    assert not any(i in graph.neighbors(i).tolist() for i in range(2000))


def test_edges_that_both_rows_chose_weigh_two():
    rows = vectors()
    nearest = expected_neighbors(rows, 4)
    edges = NeighborGraph.among(rows, 4).edges.toarray()
    for i in range(40):
        for j in range(40):
            assert edges[i, j] == (j in nearest[i]) + (i in nearest[j])


def test_wide_rows_are_compared_by_their_principal_components():
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(200, 3, generator=generator) @ torch.randn(3, 90, generator=generator)
    graph = NeighborGraph.among(plane, 3)  # of rank 3: nothing is lost
    for i, expected in enumerate(expected_neighbors(plane, 3)):
        assert set(graph.neighbors(i).tolist()) == expected


def test_no_row_is_its_own_neighbor_even_among_equal_rows():
    graph = NeighborGraph.among(torch.ones(6, 3), 3)
    assert not any(i in graph.neighbors(i).tolist() for i in range(6))


def test_number_of_neighbors_is_capped():
    graph = NeighborGraph.among(torch.eye(3), 10)
    assert sorted(graph.neighbors(1).tolist()) == [0, 2]


def test_neighbors_that_chose_the_row_as_well_are_drawn_twice_as_often():
    rows = vectors()
    nearest = expected_neighbors(rows, 4)
    graph = NeighborGraph.among(rows, 4)
    drawn = graph.sample(torch.arange(40).repeat(3000, 1), torch.Generator().manual_seed(0))
    assert drawn.shape == (3000, 40)
    for i in range(40):
        weights = {j: 1 + (i in nearest[j]) for j in nearest[i]}
        for j, weight in weights.items():
            share = (drawn[:, i] == j).float().mean().item()
            assert share == pytest.approx(weight / sum(weights.values()), rel=0.25)


def test_agreement_is_the_mutual_information_along_the_edges():
    graph = NeighborGraph.among(vectors(), 4)
    labels = torch.arange(40) % 3
    table = np.zeros((3, 3))
    for (i, j), weight in np.ndenumerate(graph.edges.toarray()):
        table[labels[i], labels[j]] += weight
    table /= table.sum()
    expected = sum(
        p * np.log(p / (table[a].sum() * table[:, b].sum()))
        for (a, b), p in np.ndenumerate(table)
        if p > 0
    )
    assert graph.agreement(labels) == pytest.approx(expected, abs=1e-6)


def stage(n_neighbors=2, start=0.5, *, among_inputs=False, n_clusters=2):
    space = "inputs" if among_inputs else "features"
    return NeighborStage(
        Settings(
            n_neighbors=n_neighbors,
            neighbor_start=start,
            neighbor_space=space,
            n_clusters=n_clusters,
            join=False,
        )
    )


def searches(neighbors, times):
    """At which times features are returned, that is, searched."""
    rows = vectors(12)
    found = [neighbors.search(t, RowMap(rows), nn.Identity()) is not None for t in times]
    return [t for t, hit in zip(times, found, strict=True) if hit]


def test_neighbors_are_searched_at_their_start_and_halfway_to_the_end():
    times = [0, 0.3, 0.5, 0.6, 0.74, 0.75, 0.9]
    assert searches(stage(), times) == [0.5, 0.75]
    assert searches(stage(0), times) == []


def test_more_searches_are_spread_evenly_over_what_is_left():
    neighbors = NeighborStage(
        Settings(
            n_neighbors=2, neighbor_start=0.2, neighbor_space="features", n_clusters=2, join=False
        ),
        n_searches=4,
    )
    assert searches(neighbors, [0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) == [0.2, 0.4, 0.6, 0.8]


def test_neighbors_among_inputs_are_searched_once():
    neighbors = stage(among_inputs=True)
    assert searches(neighbors, [0.0]) == []
    graph = neighbors.graph
    assert searches(neighbors, [0.3, 0.5, 0.75, 0.9]) == []
    assert neighbors.graph is graph is not None


@pytest.mark.parametrize(("n_clusters", "expected"), [(1, 10), (5, 8), (20, 3)])
def test_neighbors_among_inputs_are_at_most_half_of_a_cluster(n_clusters, expected):
    neighbors = stage(10, among_inputs=True, n_clusters=n_clusters)
    neighbors.search(0.0, RowMap(vectors(80)), nn.Identity())
    assert len(neighbors.graph.neighbors(0)) == expected


@pytest.mark.parametrize(("n_clusters", "expected"), [(1, 10), (5, 8), (20, 3)])
def test_neighbors_among_features_are_at_most_a_twelfth_of_a_cluster(n_clusters, expected):
    neighbors = stage(10, n_clusters=n_clusters)
    neighbors.search(0.5, RowMap(vectors(480)), nn.Identity())
    assert len(neighbors.graph.neighbors(0)) == expected


def test_inputs_have_partitions():
    rows, labels = directions(60)
    neighbors = stage(3, among_inputs=True, n_clusters=3)
    neighbors.search(0.0, RowMap(rows), nn.Identity())
    assert adjusted_rand_score(labels, neighbors.partitions[0]) == 1


@pytest.mark.parametrize(("n", "is_small"), [(60, True), (357, True), (360, False)])
def test_features_have_partitions_in_the_end_where_clusters_are_small(n, is_small):
    rows, labels = directions(n)
    neighbors = stage(3, n_clusters=3)
    neighbors.search(0.5, RowMap(rows), nn.Identity())
    assert neighbors.partitions is None
    neighbors.search(0.75, RowMap(rows), nn.Identity())
    assert (neighbors.partitions is not None) == is_small
    if is_small:
        assert adjusted_rand_score(labels, neighbors.new_labels(None, rows)) == 1


@pytest.mark.parametrize(("among_inputs", "first"), [(False, 0.5), (True, 0.0)])
def test_second_view_shows_a_neighbor_from_the_stage_on(among_inputs, first):
    neighbors, plan = stage(among_inputs=among_inputs), torch.arange(12).view(3, 4)
    for progress in (0.0, 0.4, 0.5, 0.6):
        searches(neighbors, [progress])
        rows = neighbors.view_rows(plan, torch.Generator().manual_seed(0))
        assert rows.shape == (3, 2, 4)
        assert torch.equal(rows[:, 0], plan)
        assert (rows[:, 1] != plan).all() == (progress >= first)


def test_neighbors_among_inputs_are_those_of_the_flattened_samples():
    rows = vectors(12, 6)
    neighbors = stage(among_inputs=True)
    neighbors.search(0.0, RowMap(rows.view(12, 1, 2, 3)), nn.Identity())
    for i, expected in enumerate(expected_neighbors(rows, 2)):
        assert set(neighbors.graph.neighbors(i).tolist()) == expected


class Widths(RowMap):
    """Keep the shape of all that is collected."""

    def __init__(self, rows, sampled=None):
        super().__init__(rows, sampled)
        self.collected = []

    def __call__(self, function):
        values = super().__call__(function)
        self.collected.append(tuple(values.shape))
        return values

    def on_sampled(self, function):
        values = super().on_sampled(function)
        self.collected.append(tuple(values.shape))
        return values


def wide_rows(n=300, d=100):
    """Rows far from zero whose columns differ in spread, so that the last ones are left out."""
    return (vectors(n, d) * torch.linspace(1, 0.3, d) + torch.linspace(-3, 3, d)).reshape(n, -1)


def test_wide_inputs_are_searched_by_their_principal_components_and_never_collected():
    rows = wide_rows()
    components = PCA(64, svd_solver="covariance_eigh").fit_transform(rows.double().numpy())
    map_all = Widths(rows.view(300, 1, 10, 10))
    neighbors = stage(5, among_inputs=True)
    neighbors.search(0.0, map_all, nn.Identity())
    for i, expected in enumerate(expected_neighbors(torch.from_numpy(components), 5)):
        assert set(neighbors.graph.neighbors(i).tolist()) == expected
    assert map_all.collected == [(300, 1), (300, 64)]


def test_wide_inputs_outside_of_the_sample_are_projected_as_those_inside():
    rows, sampled = wide_rows(), torch.arange(0, 300, 2)
    pca = PCA(64, svd_solver="covariance_eigh").fit(rows[sampled].double().numpy())
    outside = torch.from_numpy(pca.transform(rows.double().numpy()))
    nearest = sampled[torch.cdist(outside, outside[sampled]).argsort(dim=1)[:, :3]]
    map_all = Widths(rows, sampled)
    neighbors = stage(3, among_inputs=True)
    neighbors.search(0.0, map_all, nn.Identity())
    shown = neighbors.view_rows(torch.arange(300).repeat(50, 1), torch.Generator().manual_seed(0))
    for row in range(300):
        assert set(shown[:, 1, row].tolist()) == set(nearest[row].tolist())
    assert map_all.collected == [(150, 1), (150, 64), (300, 3)]


@pytest.mark.parametrize("shape", [(90, 100), (300, 100)])
@pytest.mark.parametrize("one_length", [True, False])
def test_components_of_rows_of_one_length_are_compared_by_the_cosine(one_length, shape):
    rows = wide_rows(*shape)
    rows = nn.functional.normalize(rows - rows.mean(dim=0), dim=1) * 10
    rows[0] = 0  # a row that equals the mean has no direction
    if not one_length:
        rows *= torch.linspace(0.5, 2, len(rows))[:, None]
    pca = PCA(64, svd_solver="covariance_eigh").fit(rows.double().numpy())
    seen = torch.from_numpy(pca.transform(rows.double().numpy()))
    seen = nn.functional.normalize(seen, dim=1) if one_length else seen
    sampled = torch.arange(1, len(rows), 2)
    neighbors = stage(3, among_inputs=True)
    neighbors.search(0.0, RowMap(rows), nn.Identity())
    for i, expected in enumerate(expected_neighbors(seen, 3)):
        assert set(neighbors.graph.neighbors(i).tolist()) == expected
    search = NeighborSearch(rows[sampled], 3, by_direction=one_length)
    assert np.allclose(np.linalg.norm(search.rows, axis=1), 1) == one_length
    own = search.nearest(rows[sampled])[:, 0]
    assert torch.equal(own, torch.arange(len(sampled)))


@pytest.mark.parametrize("shape", [(90, 90), (70, 100), (60, 100), (300, 64)])
def test_inputs_that_are_few_or_narrow_are_searched_as_they_are(shape):
    rows = wide_rows(*shape)
    neighbors = stage(among_inputs=True)
    neighbors.search(0.0, RowMap(rows), nn.Identity())
    graph = NeighborGraph.among(rows, 2)
    for i in range(len(rows)):
        assert neighbors.graph.neighbors(i).tolist() == graph.neighbors(i).tolist()


def test_wide_inputs_that_are_all_alike_have_neighbors():
    neighbors = stage(among_inputs=True)
    neighbors.search(0.0, RowMap(torch.full((200, 70), 7.0)), nn.Identity())
    assert all(len(neighbors.graph.neighbors(i)) >= 2 for i in range(200))


def test_neighbors_among_features_are_compared_by_the_cosine():
    rows = vectors(12)
    lengths = torch.linspace(0.1, 50, 12)[:, None]
    neighbors = stage()
    neighbors.search(0.5, RowMap(rows), lambda x: x * lengths)
    directions = torch.stack([row / row.norm() for row in rows])
    for i, expected in enumerate(expected_neighbors(directions, 2)):
        assert set(neighbors.graph.neighbors(i).tolist()) == expected


def test_end_forgets_the_neighbors():
    neighbors = stage()
    searches(neighbors, [0.5])
    assert neighbors.graph is not None
    neighbors.end()
    assert neighbors.graph is None


def directions(n=30):
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(torch.eye(3)[labels] + 0.05 * noise, dim=1), labels


def test_kmeans_takes_over_only_where_neighbors_agree_on_it_more():
    rows, labels = directions()
    neighbors = stage(3, n_clusters=3)
    assert adjusted_rand_score(labels, neighbors.new_labels(None, rows)) == 1  # none in use
    blind = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 0, 0], [0, -1.0, 0]])
    assert neighbors.new_labels(rows @ blind.T, rows) is None  # nothing can tell
    neighbors.search(0.5, RowMap(rows), nn.Identity())
    assert adjusted_rand_score(labels, neighbors.new_labels(rows @ blind.T, rows)) == 1
    assert neighbors.new_labels(rows, rows) is None


@pytest.mark.parametrize("n_neighbors", [0, 3])
def test_starts_are_partitions_of_a_graph_and_kmeans_in_turns(n_neighbors):
    features, labels = directions(60)
    neighbors = stage(n_neighbors, n_clusters=3)
    rows = start_rows(60)
    found = neighbors.starts(features[rows], 5)
    assert found.shape == (5, 60)
    for of_rows in found:
        assert adjusted_rand_score(labels[rows], of_rows) == 1
    for number, of_rows in enumerate(found[1::2]):
        expected = spherical_kmeans(features[rows], 3, seed=number)
        assert torch.equal(of_rows, expected)


def test_starts_are_those_of_some_rows(monkeypatch):
    monkeypatch.setattr("deepcluster_sk._networks.neighbor_stage._START_ROWS", 40)
    features, labels = directions(90)
    for neighbors in (stage(3, n_clusters=3), stage(3, among_inputs=True, n_clusters=3)):
        neighbors.search(0.0, RowMap(features), nn.Identity())
        rows = start_rows(90)
        found = neighbors.starts(features[rows], 2)
        assert len(rows.unique()) == 40
        assert all(adjusted_rand_score(labels[rows], of_rows) == 1 for of_rows in found)


def test_where_the_graph_decides_the_starts_are_its_partitions():
    rows, _ = directions(60)
    neighbors = stage(3, among_inputs=True, n_clusters=3)
    neighbors.search(0.0, RowMap(rows), nn.Identity())
    n_found = len(neighbors.partitions)
    numbers = start_rows(60)
    found = neighbors.starts(rows[numbers], n_found + 1)
    expected = torch.cat([neighbors.partitions, neighbors.partitions[:1]])[:, numbers]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("judged", "every"), [(360, 1), (359, 2), (90, 4)])
def test_assignments_are_as_sure_as_a_graph_of_some_rows_tells(monkeypatch, judged, every):
    monkeypatch.setattr("deepcluster_sk._networks.neighbor_stage._JUDGED_ROWS", judged)
    rows, labels = directions(360)
    neighbors = stage(10, n_clusters=3)
    assert neighbors.agreement(labels, rows, 3, 0) is None
    neighbors.search(0.5, RowMap(rows), nn.Identity())
    wrong = labels.clone()
    wrong[:60] = 0  # of which the first third is right
    some, agreed = neighbors.agreement(wrong, rows, 3, 0)
    assert len(agreed) == 360 // every
    is_wrong = (wrong != labels)[some]
    assert agreed[is_wrong].mean() < 0.25
    assert agreed[~is_wrong].mean() > 0.75


def test_clusters_of_inputs_are_the_best_partition_of_their_graph():
    rows, labels = directions(60)
    neighbors = stage(3, among_inputs=True, n_clusters=3)
    neighbors.search(0.0, RowMap(rows), nn.Identity())
    for logits in (None, torch.rand(60, 3)):
        found = neighbors.new_labels(logits, torch.rand(60, 4))
        assert adjusted_rand_score(labels, found) == 1


@pytest.mark.parametrize("sampled", [None, torch.arange(0, 30, 2)])
@pytest.mark.parametrize("among_inputs", [False, True])
def test_a_stage_goes_on_from_its_state(among_inputs, sampled):
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    map_all = RowMap(vectors, sampled)

    def rows(of):
        plan = torch.arange(30).view(3, 10)
        return of.view_rows(plan, torch.Generator().manual_seed(1)).tolist()

    for progress in (0.0, 0.5, 0.9):
        first, other = (stage(3, 0.4, among_inputs=among_inputs) for _ in range(2))
        first.search(progress, map_all, nn.Identity())
        other.load_state(first.state())
        assert rows(other) == rows(first)
        assert (other.partitions is None) == (first.partitions is None)
        if first.partitions is not None:
            assert torch.equal(other.partitions, first.partitions)
        # what was searched is not searched again
        assert other.search(progress, map_all, nn.Identity()) is None


@pytest.mark.parametrize("among_inputs", [False, True])
def test_of_many_rows_every_one_is_shown_with_its_nearest_sampled_ones(among_inputs):
    rows, sampled = vectors(40), torch.arange(1, 40, 2)
    neighbors = stage(3, among_inputs=among_inputs)
    neighbors.search(0.5, RowMap(rows, sampled), nn.Identity())
    seen = rows if among_inputs else rows / rows.norm(dim=1, keepdim=True)
    nearest = sampled[torch.cdist(seen, seen[sampled]).argsort(dim=1)[:, :3]]
    plan = torch.arange(40).repeat(50).view(50, 40)
    shown = neighbors.view_rows(plan, torch.Generator().manual_seed(0))
    assert torch.equal(shown[:, 0], plan)
    for row in range(40):
        assert set(shown[:, 1, row].tolist()) == set(nearest[row].tolist())
    drawn, degrees = neighbors.draw(plan, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, shown[:, 1])
    within = torch.cdist(seen[sampled], seen[sampled]).argsort(dim=1)[:, 1:4]
    joined = torch.zeros(20, 20, dtype=torch.bool).scatter_(1, within, True)
    expected = torch.zeros(40, dtype=torch.int64)
    expected[sampled] = (joined | joined.T).sum(dim=1)
    assert torch.equal(degrees, expected[drawn])
    neighbors.end()
    assert torch.equal(neighbors.view_rows(plan, torch.Generator())[:, 1], plan)


def test_rows_are_sampled_only_where_they_are_too_many():
    assert sampled_rows(70_000) is None
    rows = sampled_rows(200_000)
    assert len(rows) == 70_000 == len(rows.unique())
    assert torch.equal(rows, rows.sort().values)
    assert 0 <= rows[0] < rows[-1] < 200_000
    assert torch.equal(rows, sampled_rows(200_000))
