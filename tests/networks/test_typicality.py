"""Log-densities of vectors, against SciPy's normal distributions."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._networks import neighbor_objective
from deepcluster_sk._networks.typicality import Typicality


def clustered(seed=0, dim=5):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, dim))
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    vectors = 4 * centers[labels] + rng.normal(size=(100, dim))
    return torch.from_numpy(vectors).float(), torch.from_numpy(labels)


def fitted(vectors, labels, n_groups=3):
    typical = Typicality()
    typical.fit(typical.moments(vectors, labels, n_groups))
    return typical


def test_scores_are_log_densities_of_a_mixture_of_normal_distributions():
    vectors, labels = clustered()
    rows = vectors.double().numpy()
    means = [rows[labels == cluster].mean(axis=0) for cluster in range(3)]
    variance = np.mean(
        [(row - means[cluster]) ** 2 for row, cluster in zip(rows, labels, strict=True)]
    )
    terms = [
        np.log(share) + multivariate_normal(mean, variance).logpdf(rows)
        for share, mean in zip([0.6, 0.3, 0.1], means, strict=True)
    ]
    found = fitted(vectors, labels)(vectors)
    np.testing.assert_allclose(found.numpy(), logsumexp(terms, axis=0), rtol=1e-5)


def test_moments_of_parts_add_up():
    vectors, labels = clustered()
    typical = Typicality()
    parts = typical.moments(vectors[:33], labels[:33], 3) + typical.moments(
        vectors[33:], labels[33:], 3
    )
    torch.testing.assert_close(parts, typical.moments(vectors, labels, 3))


def test_scores_do_not_depend_on_the_pieces_that_moments_are_taken_of(few_images, monkeypatch):
    model = ContrastiveClustering(2, max_epochs=1, random_state=0)
    scores = model.fit(few_images).score_samples(few_images)
    monkeypatch.setattr(neighbor_objective, "_ROWS_AT_ONCE", 7)
    in_pieces = model.fit(few_images).score_samples(few_images)
    np.testing.assert_allclose(in_pieces, scores, rtol=1e-5)


def test_a_score_does_not_depend_on_the_rows_beside_it():
    vectors, labels = clustered(dim=40)
    typical = fitted(vectors, labels)
    assert typical(vectors)[7] == typical(vectors[7:8])[0]


@pytest.mark.parametrize("how", ["far away", "on the other side"])
def test_what_is_far_from_all_clusters_is_less_typical(how):
    vectors, labels = clustered()
    odd = 30 * torch.ones(1, 5) if how == "far away" else -vectors.mean(dim=0, keepdim=True)
    typical = fitted(vectors, labels)
    assert typical(odd) < typical(vectors).quantile(0.1)


def test_an_empty_cluster_makes_nothing_typical():
    vectors, labels = clustered()
    torch.testing.assert_close(
        fitted(vectors, labels, n_groups=4)(vectors), fitted(vectors, labels)(vectors)
    )


def test_vectors_that_are_all_alike_have_finite_scores():
    vectors = torch.ones(10, 4)
    assert fitted(vectors, torch.zeros(10, dtype=torch.int64), 1)(vectors).isfinite().all()
