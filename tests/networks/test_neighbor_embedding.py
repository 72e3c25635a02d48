import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import normalized_mutual_info_score
from sklearn.neighbors import kneighbors_graph

from deepcluster_sk._networks.neighbor_embedding import components_of, embedded, gradient

pytestmark = pytest.mark.usefixtures("full_searches")


def graph(rows, n_neighbors=10):
    nearest = csr_array(kneighbors_graph(rows, n_neighbors))
    return csr_array(nearest + nearest.T)


def loss_of_row(z, i, position, weights, others):
    """UMAP's loss of one row where it is put: the edges, and five random rows for each edge."""
    loss = torch.zeros((), dtype=torch.float64)
    neighbors = weights[i].nonzero().flatten().tolist()
    for j in neighbors:
        loss = loss + weights[i, j] * torch.log(1 + (position - z[j]).square().sum())
    for other in others:
        if other != i:
            squared = (position - z[other]).square().sum()
            not_joined = torch.log(squared + 1e-3) - torch.log(1 + squared)
            loss = loss - 5 * len(neighbors) / len(others) * not_joined
    return loss


def test_gradient_is_that_of_the_loss():
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    edges = csr_array(graph(rows, 5), dtype=np.float32)
    others = np.random.default_rng(1).integers(40, size=16)
    piece = slice(10, 25)
    found = gradient(rows, piece, edges[piece], others)
    z, weights = torch.from_numpy(rows).double(), torch.from_numpy(edges.toarray()).double()
    for i in range(10, 25):
        position = z[i].clone().requires_grad_()
        loss_of_row(z, i, position, weights, others.tolist()).backward()
        np.testing.assert_allclose(found[i - 10], position.grad, rtol=1e-3, atol=1e-3)


def test_embedding_parts_what_is_not_joined():
    X, y = make_blobs(300, centers=5, n_features=8, cluster_std=0.5, random_state=0)
    embedding = embedded(graph(X), X.astype(np.float32), seed=0)
    assert embedding.shape == (300, 8)
    assert embedding.dtype == np.float32
    gap = min(
        np.linalg.norm(embedding[y == a].mean(axis=0) - embedding[y == b].mean(axis=0))
        for a in range(5)
        for b in range(a)
    )
    width = max(embedding[y == a].std(axis=0).max() for a in range(5))
    assert gap > 10 * width


def test_kmeans_finds_more_in_the_embedding_than_in_the_rows():
    X, y = load_digits(return_X_y=True)
    X = X[:600].astype(np.float32)
    embedding = embedded(graph(X), X, seed=0)
    assert embedding.shape == (600, 10)
    in_rows, in_embedding = (
        normalized_mutual_info_score(y[:600], KMeans(10, n_init=5, random_state=0).fit_predict(of))
        for of in (X, embedding)
    )
    assert in_embedding > in_rows + 0.05


def test_embedding_depends_on_the_seed_alone():
    X = make_blobs(700, centers=5, random_state=0)[0].astype(np.float32)
    edges = graph(X)
    first = embedded(edges, X, seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        np.testing.assert_array_equal(first, embedded(edges, X, seed=0))
    finally:
        torch.set_num_threads(threads)
    assert (first != embedded(edges, X, seed=1)).any()


@pytest.mark.parametrize("n_rows", [2, 3, 50])
def test_rows_that_are_all_alike_are_embedded(n_rows):
    X = np.ones((n_rows, 4), dtype=np.float32)
    embedding = embedded(graph(X, min(10, n_rows - 1)), X, seed=0)
    assert embedding.shape == (n_rows, min(n_rows, 4))
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize("shape", [(12, 90), (90, 12)])
def test_components_of_wide_and_of_long_rows_are_those_of_the_covariances(shape):
    rows = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
    found = components_of(3, shape).fit_transform(rows)
    centred = rows - rows.mean(axis=0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, :-4:-1]
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ directions), atol=1e-8)
