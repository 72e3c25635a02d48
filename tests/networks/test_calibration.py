"""Confidence that is as high as clusters are stable."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.datasets import make_blobs

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._networks.calibration import Calibration, agreement
from deepcluster_sk._networks.neighbors import NeighborGraph

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FAST = {"max_epochs": 3, "random_state": 0, "device": "cpu"}


def soft_assignments(n=300, n_clusters=4, sharpness=6.0):
    generator = torch.Generator().manual_seed(0)
    return (sharpness * torch.randn(n, n_clusters, generator=generator)).softmax(dim=1)


def fitted(assignments, agreed=0.6):
    calibration = Calibration(assignments.shape[1])
    calibration.fit(assignments, np.broadcast_to(agreed, len(assignments)))
    return calibration


def test_at_first_assignments_stay_as_they_are():
    assignments = soft_assignments()
    assert Calibration(4)(assignments) is assignments


def test_labels_stay_and_rows_sum_to_one():
    assignments = soft_assignments()
    calibrated = fitted(assignments)(assignments)
    torch.testing.assert_close(calibrated.sum(dim=1), torch.ones(len(calibrated)))
    np.testing.assert_array_equal(calibrated.argmax(dim=1), assignments.argmax(dim=1))


def test_the_value_of_a_row_does_not_depend_on_other_rows():
    assignments = soft_assignments()
    calibration = fitted(assignments)
    alone = torch.cat([calibration(row[None]) for row in assignments])
    torch.testing.assert_close(alone, calibration(assignments), rtol=0, atol=0)


@pytest.mark.parametrize("sharpness", [0.5, 6.0])
def test_the_mean_confidence_of_a_cluster_becomes_its_mean_agreement(sharpness):
    assignments = soft_assignments(n=4000, sharpness=sharpness)
    labels = assignments.argmax(dim=1).numpy()
    agreed = np.array([0.5, 0.6, 0.7, 0.8])[labels]
    confidence = fitted(assignments, agreed)(assignments).amax(dim=1).numpy()
    for cluster in range(4):
        assert confidence[labels == cluster].mean() == pytest.approx(0.5 + cluster / 10, abs=0.02)


def test_temperatures_follow_the_formula():
    assignments = soft_assignments(n=20)
    calibration = fitted(assignments, np.linspace(0.4, 0.9, 20))
    t, of_clusters = float(calibration.common.exp()), calibration.of_clusters.exp().tolist()
    for row, found in zip(assignments.double(), calibration(assignments), strict=True):
        z = row.log()
        weights = (z / t).softmax(dim=0).tolist()
        temperature = np.prod([t_k**w for w, t_k in zip(weights, of_clusters, strict=True)])
        torch.testing.assert_close(
            found.double(), (z / temperature).softmax(dim=0), rtol=1e-4, atol=1e-6
        )


def test_temperatures_are_in_the_state_and_older_states_have_none():
    assignments = soft_assignments()
    calibration, opened = fitted(assignments), Calibration(4)
    opened.load_state_dict(calibration.state_dict())
    torch.testing.assert_close(opened(assignments), calibration(assignments), rtol=0, atol=0)
    opened.load_state_dict({})
    assert opened(assignments) is assignments


def test_agreement_is_that_of_nested_loops():
    rng = np.random.default_rng(0)
    labels, others = rng.integers(0, 3, 30), [rng.integers(0, 4, 30), rng.integers(0, 2, 30)]
    edges = NeighborGraph.among(torch.from_numpy(rng.random((30, 2))).float(), 4).edges
    weights = csr_array(edges).toarray()
    for row, found in enumerate(agreement(labels, edges, others)):
        inside = sum(w for j, w in enumerate(weights[row]) if labels[j] == labels[row])
        overlaps = []
        for other in others:
            a = {j for j in range(30) if labels[j] == labels[row]}
            b = {j for j in range(30) if other[j] == other[row]}
            overlaps.append(len(a & b) / (len(a) * len(b)) ** 0.5)
        assert found == pytest.approx(inside / weights[row].sum() * np.mean(overlaps))


def confidence(X, **params):
    model = ContrastiveClustering(3, **{**FAST, **params}).fit(X)
    return model.predict_proba(X).max(axis=1).mean()


def test_confidence_is_high_for_separate_clusters_and_low_for_noise():
    blobs, _ = make_blobs(300, 5, centers=3, cluster_std=0.3, random_state=0)
    noise = np.random.default_rng(0).normal(size=(300, 40))
    assert confidence(blobs.astype(np.float32)) > 0.98
    assert confidence(noise) < 0.6
    assert confidence(noise, n_neighbors=0) > confidence(noise)


@pytest.mark.parametrize("images", [True, False])
def test_small_networks_for_images_are_calibrated_as_well(images):
    X = np.random.default_rng(0).random((400, 8, 8)).astype(np.float32)
    model = ContrastiveClustering(3, **{**FAST, "max_epochs": 6}).fit(X if images else X[:, 0])
    assert model._objective.calibration.changes


def test_one_cluster_and_neighbors_left_out_are_not_calibrated():
    X = np.random.default_rng(0).random((40, 5))
    for params in ({"n_clusters": 1}, {"n_neighbors": 0}):
        model = ContrastiveClustering(**{"n_clusters": 3, **FAST, **params}).fit(X)
        assert not model._objective.calibration.changes
