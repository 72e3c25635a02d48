"""The report: what is in the page."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from estimators import each_kind
from PIL import Image
from report_pages import Page, fixed, placed
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk._inspection import report_unusual
from deepcluster_sk._inspection.assignments import assign

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def model(few_images):
    return ContrastiveClustering(3, max_epochs=4, random_state=0).fit(few_images)


@each_kind
def test_methods_of_each_kind_can_be_reported(estimator, few_images, tmp_path):
    model = estimator(2, max_epochs=1, random_state=0).fit(few_images)
    page = Page(report(model, few_images, tmp_path / "page.html"))
    assert f"Clusters of {estimator.__name__}" in page.text
    for name in ("loss", *model.history_, *(model.get_params().keys() - {"cache"})):
        assert name in page.text


def test_parameters_name_no_folder_of_features(few_images, tmp_path):
    model = ContrastiveClustering(2, max_epochs=1, random_state=0, cache=tmp_path / "features")
    page = Page(report(model.fit(few_images), few_images, tmp_path / "page.html"))
    assert "random_state" in page.text
    assert str(tmp_path) not in page.source


def test_page_loads_nothing_and_its_parts_have_one_name_each(model, few_images, tmp_path):
    page = Page(report(model, few_images, tmp_path / "page.html", np.arange(60) % 3))
    assert len(page.ids) == len(set(page.ids))
    for address in page.addresses:
        assert address.startswith(("#", "data:"))
        assert not address.startswith("#") or address[1:] in page.ids
    assert set(re.findall(r"url\((\w+):", page.source)) == {"data"}
    assert "http" not in page.source.replace("http-equiv", "")


def test_page_holds_labels_confidences_and_scores(model, few_images, tmp_path):
    y = np.arange(60) % 3
    page = Page(report(model, few_images, tmp_path / "page.html", y))
    found = assign(model, few_images)
    rows = [int(name) for name in page.samples["name"]]
    assert sorted(rows) == list(range(60))
    np.testing.assert_array_equal(page.samples["cluster"], found.labels[rows])
    np.testing.assert_allclose(page.samples["confidence"], found.confidence[rows], atol=1e-4)
    np.testing.assert_array_equal(page.samples["class"], y[rows].astype(str))
    second = np.argsort(-model.predict_proba(few_images), axis=1)[rows, 1]
    np.testing.assert_array_equal(page.samples["second"], second)
    assert f"{adjusted_rand_score(y, found.labels):.3f}" in page.text


def test_same_input_gives_the_same_page(model, few_images, tmp_path):
    first = report(model, few_images, tmp_path / "a.html").read_bytes()
    assert first == report(model, few_images, tmp_path / "b.html").read_bytes()


def test_rows_are_reported_with_the_features_that_stand_out(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=["height", "weight", "<age>"])
    X.index = [f"person {i}" for i in range(40)]
    X.loc[X.index[:20], "weight"] += 50
    model = fixed([0] * 20 + [1] * 20, np.full(40, 0.9), input_shape=(3,))
    page = Page(report(model, X, tmp_path / "page.html"))
    assert set(page.samples["name"]) == set(X.index)
    assert (page.samples["tile"] == -1).all()
    shown = re.search(r"What tells cluster 0 .*?<tbody>(.*?)</tbody>", page.source, re.S)[1]
    assert re.findall(r'class="text">(.*?)<', shown)[0] == "weight"
    assert "&lt;age&gt;" in shown


def test_pipeline_is_reported_with_its_steps(few_images, tmp_path):
    X = few_images.reshape(60, 64)
    model = make_pipeline(
        StandardScaler(),
        ContrastiveClustering(2, max_epochs=1, image_shape=(8, 8), random_state=0),
    ).fit(X)
    page = Page(report(model, X, tmp_path / "page.html"))
    assert "StandardScaler → ContrastiveClustering" in page.text
    assert (page.samples["tile"] >= 0).all()


@pytest.mark.parametrize("n_clusters", [1, 2, 100, 2000])
def test_any_number_of_clusters_is_reported(n_clusters, tmp_path):
    rng = np.random.default_rng(0)
    X, labels = rng.random((300, 8, 8)), rng.integers(n_clusters, size=300)
    model = fixed(labels, rng.uniform(0.6, 1, 300), n_clusters)
    page = Page(report(model, X, tmp_path / "page.html", labels % 3))
    assert page.source.count('<details class="cluster"') == n_clusters
    assert page.source.count("empty</span>") == n_clusters - len(set(labels))


def test_samples_without_a_cluster_are_counted_and_listed(tmp_path):
    model = fixed([0, 0, 1, 1], [0.9] * 4)
    model.probabilities[1] = np.nan
    page = Page(report(model, np.zeros((4, 8, 8)), tmp_path / "page.html", ["a", "a", "b", "b"]))
    assert re.search(r"without a cluster\s+1\b", page.text)
    assert page.samples["cluster"].tolist() == [-1, 0, 1, 1]
    assert page.samples["second"][0] == -1
    assert page.samples["tile"][0] == -1
    model.probabilities[:] = np.nan
    Page(report(model, np.zeros((4, 8, 8)), tmp_path / "page.html", ["a", "a", "b", "b"]))


def test_what_users_wrote_is_text_and_never_code(tmp_path):
    evil = "</script><script>window.hacked = 1</script><img src=x onerror=alert(1)>\"'&"
    X = np.zeros((4, 8, 8))
    model = placed([0, 0, 1, 1], [0.9] * 4, note=evil)
    names = [f"{evil}{i}" for i in "1234"]
    page = Page(report(model, X, tmp_path / "page.html", [evil] * 4, names=names))
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert sorted(page.samples["name"]) == names


NOISE = np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)


def test_page_of_ten_thousand_colour_images_stays_below_5_mb(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(40, size=10_000)
    model = fixed(labels, rng.uniform(0.6, 1, 10_000), input_shape=(32, 32, 3))
    names = [f"{'folder/' * 30}{i}.jpg" for i in range(10_000)]
    path = report(model, NOISE, tmp_path / "page.html", labels, names=names)
    assert path.stat().st_size < 5_000_000
    page = Page(path)
    assert sorted(page.samples["name"]) == sorted(names)
    assert "All 10,000 samples" in page.text
    assert page.source.count("url(data:image/webp") == 40
    assert 1600 <= (page.samples["tile"] >= 0).sum() <= 2000


def test_names_that_do_not_compress_are_shortened(tmp_path):
    letters = np.random.default_rng(0).integers(97, 123, (10_000, 240)).astype(np.uint8)
    names = [row.tobytes().decode() for row in letters]
    labels = np.arange(10_000) % 3
    model = fixed(labels, np.full(10_000, 0.9), input_shape=(2,))
    page = Page(report(model, np.zeros((10_000, 2)), tmp_path / "page.html", names=names))
    assert len(page.source) < 5_000_000
    assert {len(name) for name in page.samples["name"]} == {80}
    assert {name[1:] for name in page.samples["name"]} == {name[-79:] for name in names}
    assert "Names are shortened to 80 characters" in page.text


def test_very_many_samples_are_listed_in_part(tmp_path):
    n_samples = 150_000
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=n_samples)
    confidence = rng.uniform(0.6, 1, n_samples)
    model = fixed(labels, confidence, input_shape=(1,))
    page = Page(report(model, np.zeros((n_samples, 1)), tmp_path / "page.html"))
    assert len(page.source) < 5_000_000
    assert "100,000 of 150,000 samples" in page.text
    rows = page.samples["row"]
    assert len(set(rows.tolist())) == 100_000
    assert set(np.argsort(confidence)[:20_000]) <= set(rows.tolist())
    assert page.samples["name"] == [str(row) for row in rows]
    np.testing.assert_array_equal(page.samples["cluster"], labels[rows])


def test_every_picture_is_where_the_page_says(tmp_path):
    X = np.zeros((30, 8, 8), np.uint8)
    X[:] = np.arange(30)[:, None, None] * 8
    labels = np.arange(30) % 2
    page = Page(report(fixed(labels, np.linspace(0.6, 1, 30)), X, tmp_path / "page.html"))
    _, columns = page.data
    for cluster in (0, 1):
        image = re.search(rf"\.s{cluster}.*?base64,(.*?)\)", page.source)[1]
        sprite = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("L"))
        side = sprite.shape[1] // 10
        for i in np.flatnonzero(labels == cluster):
            y, x = divmod(int(columns["tile"][i]), 10)
            shown = sprite[y * side : (y + 1) * side, x * side : (x + 1) * side]
            assert abs(int(np.median(shown)) - i * 8) <= 6
    button = re.search(
        r'class="tile s(\d)" style="--x:(\d+);--y:(\d+)" data-sample="(\d+)"', page.source
    )
    sprite, x, y, sample = map(int, button.groups())
    assert sprite == labels[sample]
    assert 10 * y + x == columns["tile"][sample]


def test_samples_have_places_on_the_map(tmp_path):
    labels = np.repeat([0, 1, 2], 30)
    model = placed(labels, np.full(90, 0.9))
    page = Page(report(model, np.zeros((90, 8, 8)), tmp_path / "page.html"))
    _, columns = page.data
    places = np.stack([columns["x"], columns["y"]], axis=1).astype(float)
    middles = np.stack([places[labels == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.95
    assert places.min() == 0
    assert places.max() == 65534


def test_samples_without_features_have_no_place(tmp_path):
    model = placed([0, 0, 1, 1, 1], np.full(5, 0.9))
    model.features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model.features[3] = model.probabilities[3] = np.nan
    _, columns = Page(report(model, np.zeros((5, 8, 8)), tmp_path / "page.html")).data
    assert [x == 65535 for x in columns["x"]] == [False, False, False, True, False]


def test_estimators_without_features_have_neither_map_nor_groups(tmp_path):
    page = Page(report(fixed([0, 0, 1, 1], [0.9] * 4), np.zeros((4, 8, 8)), tmp_path / "p.html"))
    assert not page.part("map")
    assert not page.part("same")
    assert "#map" not in page.addresses


def odd_names(page):
    return re.findall(r'class="name" title="(.*?)"', page.part("odd"))


def test_what_fits_nowhere_is_the_least_typical(tmp_path):
    model = fixed(np.arange(60) % 3, np.linspace(0.6, 1, 60))
    X = np.zeros((60, 8, 8))
    page = Page(report(model, X, tmp_path / "a.html"))
    assert odd_names(page) == [str(i) for i in range(48)]
    assert "with the lowest confidence" in page.part("odd")
    typical = np.random.default_rng(0).normal(size=60)
    typical[7] = np.nan
    model.score_samples = lambda X: typical
    page = Page(report(model, X, tmp_path / "b.html"))
    assert odd_names(page) == [str(i) for i in np.argsort(typical)[:48]]
    assert "score_samples" in page.part("odd")
    assert page.data[0]["odd"] == [np.argsort(typical)[:48].tolist()]


def test_groups_that_are_nearly_the_same_are_shown(tmp_path, monkeypatch):
    groups = [np.array([5, 1, 9, *range(20, 32)]), np.array([2, 3])]
    monkeypatch.setattr("deepcluster_sk._inspection.report.near_duplicates_of", lambda *a: groups)
    model = placed(np.arange(40) % 3, np.linspace(0.6, 1, 40))
    page = Page(report(model, np.zeros((40, 8, 8)), tmp_path / "page.html"))
    assert page.data[0]["same"] == [group.tolist() for group in groups]
    assert "2 groups with 17 samples" in page.part("same")
    shown = re.findall(r'class="name" title="(.*?)"', page.part("same"))
    assert shown == [str(i) for i in (*groups[0][:10], 2, 3)]
    assert "15 samples fewer" in page.part("same")
    del groups[0]
    page = Page(report(model, np.zeros((40, 8, 8)), tmp_path / "page.html"))
    assert "1 group with 2 samples. With one of each, 1 sample fewer." in page.part("same")


def test_copies_of_images_are_found(model, few_images, tmp_path):
    X = np.concatenate([few_images, few_images[[4, 4, 9]]])
    page = Page(report(model, X, tmp_path / "page.html"))
    groups = [set(group) for group in page.data[0]["same"]]
    assert any({4, 60, 61} <= group for group in groups)
    assert any({9, 62} <= group for group in groups)


def test_tree_and_typicality_are_those_of_the_estimator(model, few_images, tmp_path):
    page = Page(report(model, few_images, tmp_path / "page.html"))
    assert leaves(page) == leaves_list(model.linkage_).tolist()
    assert odd_names(page)[:9] == [
        str(i) for i in np.argsort(model.score_samples(few_images), kind="stable")[:9]
    ]


def test_huge_groups_are_cut_to_what_has_room():
    groups = [np.arange(15_000), np.arange(9_000), np.arange(10)]
    assert [len(group) for group in report_unusual.kept_groups(groups)] == [15_000, 5_000]


def test_outliers_of_the_estimator_belong_to_no_cluster(tmp_path):
    model = fixed(np.arange(20) % 2, np.full(20, 0.9))
    model.offset_ = 2.0
    model.score_samples = lambda X: np.arange(20.0)
    page = Page(report(model, np.zeros((20, 8, 8)), tmp_path / "page.html"))
    assert page.data[1]["cluster"].tolist() == [-1, -1, *np.arange(2, 20) % 2]
    assert re.search(r"without a cluster\s+2\b", page.text)
    assert ".s2{background" in page.source  # their pictures
    assert page.data[1]["tile"][:2].tolist() == [0, 1]


def leaves(page):
    return [int(n) for n in re.findall(r'<text [^>]*data-called="(\d+)"', page.part("tree"))]


def test_tree_is_drawn_from_the_linkage(tmp_path):
    rng = np.random.default_rng(0)
    model = fixed(np.arange(50) % 5, np.full(50, 0.9))
    model.linkage_ = linkage(rng.normal(size=(5, 2)), "average")
    page = Page(report(model, np.zeros((50, 8, 8)), tmp_path / "page.html"))
    assert leaves(page) == leaves_list(model.linkage_).tolist()
    assert page.part("tree").count("M1") == page.part("tree").count("M") == 4
    first = model.linkage_[0, :2].astype(int)
    joins = re.findall(r"<li>(.*?)</li>", page.part("tree"))
    assert re.sub("<.*?>", "", joins[0]) == f"Cluster {first[0]} and Cluster {first[1]}"


@pytest.mark.parametrize(
    "table", [None, np.zeros((3, 4)), np.full((1, 4), np.nan), np.zeros((1, 3))]
)
def test_without_a_linkage_of_its_clusters_there_is_no_tree(table, tmp_path):
    model = fixed(np.arange(10) % 2, np.full(10, 0.9))
    model.linkage_ = table
    page = Page(report(model, np.zeros((10, 8, 8)), tmp_path / "page.html"))
    assert not page.part("tree")


def test_errors_say_what_is_wrong(model, few_images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent'\. Create it first"):
        report(model, few_images, tmp_path / "absent" / "page.html")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        report(model, few_images, tmp_path / "page.html", [0, 1])
    with pytest.raises(NotFittedError):
        report(ContrastiveClustering(), few_images, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_other_ranks_return_the_path_and_write_nothing(few_images, tmp_path, monkeypatch):
    model = ContrastiveClustering(3, max_epochs=1, random_state=0).fit(few_images)
    monkeypatch.setattr("deepcluster_sk._runtime.process_group.may_write", lambda: False)
    assert report(model, few_images, tmp_path / "page.html") == tmp_path / "page.html"
    assert list(tmp_path.iterdir()) == []
