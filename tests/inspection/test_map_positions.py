"""Places on the map: neighbours stay neighbours."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from deepcluster_sk._inspection import map_positions as module
from deepcluster_sk._inspection.map_positions import map_positions

PIXELS = load_digits().data[:600].astype(np.float32)
CLASSES = load_digits().target[:600]


def agreement(places):
    """Share of the ten nearest samples that are of the same class."""
    search = NearestNeighbors(n_neighbors=11).fit(places)
    nearest = search.kneighbors(places, return_distance=False)[:, 1:]
    return (CLASSES[nearest] == CLASSES[:, None]).mean()


def test_neighbours_are_kept_better_than_by_principal_components():
    places = map_positions(PIXELS)
    linear = PCA(2).fit_transform(PIXELS)
    assert places.shape == (600, 2)
    assert places.dtype == np.float32
    assert trustworthiness(PIXELS, places, n_neighbors=10) > 0.95
    assert trustworthiness(PIXELS, linear, n_neighbors=10) < 0.9
    assert agreement(places) > agreement(linear) + 0.2


def test_of_many_samples_a_part_is_embedded_and_the_others_are_put_between(monkeypatch):
    monkeypatch.setattr(module, "MAX_EMBEDDED", 200)
    places = map_positions(PIXELS)
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) > 550
    assert agreement(places) > agreement(PCA(2).fit_transform(PIXELS)) + 0.1


def test_equal_features_give_equal_places():
    np.testing.assert_array_equal(map_positions(PIXELS[:100]), map_positions(PIXELS[:100]))


def test_the_first_axis_is_the_longer_one():
    spread = map_positions(PIXELS).std(axis=0)
    assert spread[0] >= spread[1]


def test_samples_without_features_have_no_place():
    features = PIXELS[:50].copy()
    features[[3, 7], 0] = [np.nan, np.inf]
    places = map_positions(features)
    assert np.flatnonzero(np.isnan(places).any(axis=1)).tolist() == [3, 7]
    np.testing.assert_array_equal(
        np.delete(places, [3, 7], axis=0), map_positions(np.delete(features, [3, 7], axis=0))
    )


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 3), (3, 3), (4, 1), (30, 1), (5, 200)])
def test_few_samples_and_few_features_have_places(shape):
    places = map_positions(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()


def test_samples_that_are_all_alike_have_places():
    assert np.isfinite(map_positions(np.ones((40, 5), np.float32))).all()
