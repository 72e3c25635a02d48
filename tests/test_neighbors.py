import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from deepcluster_sk._neighbors import nearest_neighbors, spherical_kmeans


def test_neighbors_are_the_most_similar_rows_by_the_cosine():
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 5))).float()
    found = nearest_neighbors(features, 4)
    for i, row in enumerate(features):
        cosine = [
            float(row @ other / (row.norm() * other.norm())) if j != i else -2.0
            for j, other in enumerate(features)
        ]
        assert found[i].tolist() == np.argsort(cosine)[::-1][:4].tolist()


def test_no_row_is_its_own_neighbor_even_among_equal_rows():
    found = nearest_neighbors(torch.ones(6, 3), 3)
    assert (found != torch.arange(6)[:, None]).all()


def test_number_of_neighbors_is_capped():
    assert nearest_neighbors(torch.eye(3), 10).shape == (3, 2)


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
