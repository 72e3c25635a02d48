import numpy as np
import pytest

from deepcluster_sk._networks.neighbor_cells import neighbor_cells


def vectors(n, d=3):
    return np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("n", [256, 3000])
def test_every_vector_is_in_one_cell_and_compared_with_itself(n):
    cells = neighbor_cells(vectors(n), 1)
    assert sorted(np.concatenate([own for own, _ in cells]).tolist()) == list(range(n))
    for own, compared in cells:
        assert np.isin(own, compared).all()
        assert (np.diff(compared) > 0).all()


def test_a_small_part_of_the_vectors_is_compared():
    rows = vectors(20_000)
    shares = [(len(own), len(compared) / 20_000) for own, compared in neighbor_cells(rows, 11)]
    assert sum(n * share for n, share in shares) / 20_000 < 0.2


def test_vectors_are_compared_with_those_around_them():
    rows = vectors(5000)
    for own, compared in neighbor_cells(rows, 11)[:20]:
        distances = np.linalg.norm(rows - rows[own].mean(axis=0), axis=1)
        nearer = np.flatnonzero(distances < np.median(distances[own]))
        assert np.isin(nearer, compared).all()


def test_vectors_are_compared_with_as_many_as_asked_for():
    assert min(len(compared) for _, compared in neighbor_cells(vectors(300), 200)) >= 200


def test_vectors_that_are_all_alike_are_compared_with_each_other():
    cells = neighbor_cells(np.ones((300, 3), dtype=np.float32), 11)
    assert sum(len(own) for own, _ in cells) == 300
    assert min(len(compared) for _, compared in cells) == 300
