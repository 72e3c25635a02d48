"""The map of samples for notebooks."""

import re
from html import unescape

import numpy as np
import pytest
from report_pages import Page, fixed, placed
from sklearn.cluster import KMeans
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import cluster_map


def some_map(**options):
    labels = np.arange(90) % 3
    model = placed(labels, np.linspace(0.6, 1, 90))
    return cluster_map(model, np.zeros((90, 8, 8)), **options)


def test_map_is_a_page_that_loads_nothing(tmp_path):
    shown = some_map(y=np.arange(90) % 2, names=[f"<{i}>" for i in range(90)])
    page = Page(shown.save(tmp_path / "map.html"))
    assert page.part("map")
    assert not page.part("samples")
    assert set(re.findall(r"url\((\w+):", page.source)) == {"data"}
    assert sorted(page.samples["name"]) == sorted(f"<{i}>" for i in range(90))
    assert set(page.samples["class"]) == {"0", "1"}
    assert (page.samples["tile"] >= 0).all()
    assert len(page.ids) == len(set(page.ids))


def test_map_tells_where_samples_are_and_what_they_belong_to():
    shown = some_map()
    assert shown.positions.shape == (90, 2)
    np.testing.assert_array_equal(shown.labels, np.arange(90) % 3)
    assert repr(shown) == "ClusterMap of 90 samples in 3 clusters"


def test_notebooks_show_the_page_in_a_frame_of_its_own():
    shown = some_map(height=333)
    frame = shown._repr_html_()
    assert frame.count("<") == 2
    assert 'height="333"' in frame
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    assert 'allow="clipboard-write"' in frame
    assert unescape(re.search(r'srcdoc="(.*?)"', frame, re.S)[1]) == shown.html


def test_rows_have_a_map():
    wine = load_wine().data
    model = ContrastiveClustering(3, max_epochs=1, n_heads=1, random_state=0).fit(wine)
    assert cluster_map(model, wine).positions.shape == (len(wine), 2)


def test_a_pipeline_that_ends_in_k_means_has_a_map(blobs):
    X = blobs[0]
    pipeline = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)).fit(X)
    shown = cluster_map(pipeline, X)
    np.testing.assert_array_equal(shown.labels, pipeline.predict(X))
    assert np.isfinite(shown.positions).all()


def test_estimators_without_features_are_refused(few_images, blobs):
    with pytest.raises(TypeError, match="Fixed has no features of samples to compare"):
        cluster_map(fixed([0, 1], [0.9, 0.9]), np.zeros((2, 8, 8)))
    with pytest.raises(TypeError, match="GaussianMixture has no features of samples to compare"):
        cluster_map(GaussianMixture(3).fit(blobs[0]), blobs[0])
    with pytest.raises(NotFittedError):
        cluster_map(ContrastiveClustering(), few_images)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cluster_map(placed([0, 1], [0.9, 0.9]), np.zeros((2, 8, 8)), names=["a"])
