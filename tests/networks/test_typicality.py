"""Log-densities of features, against SciPy's von Mises-Fisher distribution."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import vonmises_fisher

from deepcluster_sk._networks.typicality import Typicality


def clustered_features(seed=0, dim=5):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, dim))
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    features = 4 * centers[labels] + rng.normal(size=(100, dim))
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def fitted(features, labels, n_groups=3):
    typical = Typicality(n_groups, features.shape[1])
    typical.fit(features, labels, n_groups)
    return typical


def test_scores_are_log_densities_of_a_mixture_up_to_a_constant():
    features, labels = clustered_features()
    typical = fitted(features, labels)
    units = features.double().numpy()
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    terms = []
    for cluster in range(3):
        mean = units[labels.numpy() == cluster].sum(axis=0)
        component = vonmises_fisher(mean / np.linalg.norm(mean), float(typical.concentration))
        terms.append(np.log((labels.numpy() == cluster).mean()) + component.logpdf(units))
    difference = typical(features).numpy() - logsumexp(terms, axis=0)
    np.testing.assert_allclose(difference, difference[0], atol=1e-4)


def test_concentration_is_near_that_of_the_sample():
    mean = np.array([1.0, 0.0, 0.0, 0.0])
    units = vonmises_fisher(mean, 20.0).rvs(4000, random_state=np.random.default_rng(0))
    typical = fitted(torch.from_numpy(units), torch.zeros(4000, dtype=torch.int64), n_groups=1)
    assert float(typical.concentration) == pytest.approx(20, rel=0.05)
    np.testing.assert_allclose(typical.directions[0].numpy(), mean, atol=0.02)


def test_lengths_of_features_do_not_matter():
    features, labels = clustered_features()
    typical = fitted(features, labels)
    torch.testing.assert_close(typical(3 * features), typical(features))


def test_what_lies_between_the_clusters_is_less_typical():
    features, labels = clustered_features()
    typical = fitted(features, labels)
    between = -features.mean(dim=0, keepdim=True)
    assert typical(between) < typical(features).min()


def test_an_empty_cluster_makes_nothing_typical():
    features, labels = clustered_features()
    torch.testing.assert_close(
        fitted(features, labels, n_groups=4)(features), fitted(features, labels)(features)
    )


def test_features_that_are_all_alike_have_finite_scores():
    features = torch.ones(10, 4)
    assert fitted(features, torch.zeros(10, dtype=torch.int64), 1)(features).isfinite().all()
