import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn

from deepcluster_sk._networks.centroids import (
    centroids_of,
    gather_around_centroids,
    kmeans_centroids,
    spherical_kmeans,
)
from deepcluster_sk._networks.modules import projection_head

pytestmark = pytest.mark.usefixtures("full_searches")


def directions(n=30):
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(torch.eye(3)[labels] + 0.05 * noise, dim=1), labels


def test_spherical_kmeans_ignores_the_length_of_rows():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90)
    rows = np.eye(3)[y] + 0.05 * rng.normal(size=(90, 3))
    rows *= rng.uniform(0.1, 50, size=(90, 1))
    labels = spherical_kmeans(torch.from_numpy(rows).float(), 3)
    assert adjusted_rand_score(y, labels) == 1
    assert torch.equal(labels, spherical_kmeans(torch.from_numpy(rows).float(), 3))


@pytest.mark.parametrize("n_clusters", [1, 4])
def test_spherical_kmeans_of_equal_rows_is_silent(n_clusters):
    assert len(spherical_kmeans(torch.ones(8, 2), n_clusters)) == 8


def test_kmeans_centroids_are_the_mean_directions():
    rows, labels = directions()
    centroids = kmeans_centroids(rows, 3)
    expected = torch.stack([rows[labels == k].mean(dim=0) for k in range(3)])
    expected = expected / expected.norm(dim=1, keepdim=True)
    order = (centroids @ expected.T).argmax(dim=0)
    torch.testing.assert_close(centroids[order], expected)


def test_centroids_of_clusters_are_their_mean_directions():
    rows, labels = directions()
    lengths = torch.linspace(0.1, 50, 30)[:, None]
    centroids = centroids_of(lengths * rows, labels, 4)
    for k in range(3):
        mean = rows[labels == k].mean(dim=0)
        torch.testing.assert_close(centroids[k], mean / mean.norm())
    assert (centroids[3] == 0).all()  # empty


@pytest.mark.parametrize(("n", "apart"), [(300, 3), (4500, 5)], ids=["whole", "batches"])
def test_projections_gather_around_the_centroids_of_their_clusters(n, apart, full_searches):
    torch.manual_seed(0)
    features, labels = torch.randn(n, 8), torch.randint(3, (n,))
    features += apart * torch.eye(8)[labels]
    projector = projection_head(8, 64, 4)

    def right():
        vectors = nn.functional.normalize(projector(features), dim=1)
        nearest = (vectors @ centroids_of(vectors, labels, 3).T).argmax(dim=1)
        return (nearest == labels).float().mean()

    before = right()
    with torch.no_grad():  # as after a training
        gather_around_centroids(projector, features, labels, 3, temperature=0.1)
    assert before < 0.9
    assert right() > 0.97
