"""The report: what is in the page, and how it behaves in a browser."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from estimators import ESTIMATORS
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk._inspection.assignments import assign

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Fixed(ClusterMixin, BaseEstimator):
    """A fitted estimator that returns given probabilities, for pages of any shape."""

    def __init__(self, probabilities=None, input_shape=(8, 8), note="quiet"):
        self.probabilities = probabilities
        self.input_shape = input_shape
        self.note = note
        self.input_shape_ = input_shape
        self.n_iter_ = 2
        self.loss_curve_ = [2.0, 1.0]
        self.history_ = {"cluster": [0.0, 0.5]}

    def predict_proba(self, X):
        return self.probabilities


def fixed(labels, confidence, n_clusters=None, **params):
    """Give each sample its confidence in its own cluster, and the rest to the next one."""
    labels = np.asarray(labels)
    table = np.zeros((len(labels), n_clusters or labels.max() + 1))
    table[np.arange(len(labels)), labels] = confidence
    table[np.arange(len(labels)), (labels + 1) % table.shape[1]] += 1 - np.asarray(confidence)
    return Fixed(table, **params)


class Page(HTMLParser):
    """Elements, texts and addresses of a page; fails on tags that do not match."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.ids, self.addresses, self.text = [], [], [], [], ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src"):
                self.addresses.append(value)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data + " "

    @property
    def samples(self):
        return json.loads(re.search(r'id="data">(.*?)</script>', self.source, re.S)[1])["samples"]


@pytest.fixture(scope="module")
def model(few_images):
    return ContrastiveClustering(3, max_epochs=4, random_state=0).fit(few_images)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_method_can_be_reported(estimator, few_images, tmp_path):
    model = estimator(2, max_epochs=1, random_state=0).fit(few_images)
    page = Page(report(model, few_images, tmp_path / "page.html"))
    assert f"Clusters of {estimator.__name__}" in page.text
    for name in ("loss", *model.history_, *model.get_params()):
        assert name in page.text


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
    assert page.samples["confidence"] == sorted(page.samples["confidence"])
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
    assert "tile" not in page.samples
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
    assert page.samples["tile"]


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
    assert page.samples["cluster"] == [-1, 0, 1, 1]
    assert page.samples["second"][0] == -1
    model.probabilities[:] = np.nan
    Page(report(model, np.zeros((4, 8, 8)), tmp_path / "page.html", ["a", "a", "b", "b"]))


def test_what_users_wrote_is_text_and_never_code(tmp_path):
    evil = "</script><script>window.hacked = 1</script><img src=x onerror=alert(1)>\"'&"
    X = np.zeros((4, 8, 8))
    model = fixed([0, 0, 1, 1], [0.9] * 4, note=evil)
    names = [f"{evil}{i}" for i in "1234"]
    page = Page(report(model, X, tmp_path / "page.html", [evil] * 4, names=names))
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert sorted(page.samples["name"]) == names


def test_page_of_ten_thousand_colour_images_stays_below_5_mb(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)  # noise: nothing compresses less
    labels = rng.integers(40, size=10_000)
    model = fixed(labels, rng.uniform(0.6, 1, 10_000), input_shape=(32, 32, 3))
    names = [f"{'folder/' * 30}{i}.jpg" for i in range(10_000)]
    path = report(model, X, tmp_path / "page.html", labels, names=names)
    assert path.stat().st_size < 5_000_000
    page = Page(path)
    assert 1000 < len(page.samples["name"]) < 10_000
    assert f"The {len(page.samples['name']):,} least certain of 10,000 samples" in page.text
    assert page.source.count("url(data:image/webp") == 40


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


@pytest.fixture(scope="module")
def browser():
    """Chromium of the system, or the one that Playwright has installed."""
    api = pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium was found: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request, browser, tmp_path):
    """The page of 200 samples in 12 clusters, watched for errors and requests."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), [60, 40, 30, 20, 10, 10, 10, 5, 5, 5, 4, 1])
    model = fixed(labels, rng.uniform(0.6, 1, 200))
    path = report(
        model,
        rng.random((200, 8, 8)),
        tmp_path / "page.html",
        np.array(["ant", "bee"])[labels % 2],
        names=[f"photo {i}.jpg" for i in range(200)],
    )
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert not faults
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
    context.close()


def column(page, table, number):
    cells = page.locator(f"{table} tbody tr > :nth-child({number})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_page_fits_the_width_of_the_window(page):
    page.locator("#open-all").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_cluster_opens_by_keyboard_and_shows_its_members(page):
    cluster = page.locator("details.cluster").nth(1)
    assert not cluster.locator(".tiles").first.is_visible()
    cluster.locator("summary").focus()
    page.keyboard.press("Enter")
    tiles = cluster.locator(".tiles .tile")
    assert tiles.count() == 36
    assert tiles.first.is_visible()
    box = tiles.first.bounding_box()
    assert box["width"] == box["height"] >= 60
    assert "data:image/webp" in tiles.first.evaluate("e => getComputedStyle(e).backgroundImage")
    page.keyboard.press("Enter")
    assert not tiles.first.is_visible()


def test_cluster_table_sorts_by_its_buttons(page):
    head = page.locator("#cluster-table thead th").nth(1)
    head.locator("button").click()
    sizes = [int(text) for text in column(page, "#cluster-table", 2)]
    assert sizes == sorted(sizes)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert [int(text) for text in column(page, "#cluster-table", 2)] == sorted(sizes)[::-1]
    assert head.get_attribute("aria-sort") == "descending"


def test_gallery_is_ordered_and_searched(page):
    def shown():
        return [
            int(number)
            for number in page.eval_on_selector_all(
                "details.cluster", "all => all.filter(e => !e.hidden).map(e => e.dataset.cluster)"
            )
        ]

    page.select_option("#order-clusters", "size")
    assert shown()[:2] == [11, 10]
    page.fill("#find-cluster", "bee")
    assert sorted(shown()) == [1, 3, 5, 7, 9, 11]
    page.fill("#find-cluster", "1")
    assert shown() == [1]
    page.fill("#find-cluster", "photo 199.jpg")
    assert shown() == [11]
    assert page.inner_text("#gallery-count") == "1 of 12 clusters"


def test_gallery_finds_numbers_among_clusters_classes_and_samples(browser, tmp_path):
    labels = np.repeat(np.arange(6), 50)
    path = report(
        fixed(labels, np.linspace(0.6, 1, 300)),
        np.random.default_rng(0).random((300, 8, 8)),
        tmp_path / "page.html",
        labels + 3,
        names=[f"some/{i:04}.jpg" for i in range(300)],
    )
    page = browser.new_page()
    page.goto(path.as_uri())
    for wanted, expected in [
        ("4", [1, 4]),  # the class 4 is cluster 1
        ("0120", [2]),  # a file that no row of pictures shows
        ("0120.jpg", [2]),
        ("12", []),
        ("", [0, 1, 2, 3, 4, 5]),
    ]:
        page.fill("#find-cluster", wanted)
        found = "all => all.filter(e => !e.hidden).map(e => Number(e.dataset.cluster))"
        assert page.eval_on_selector_all("details.cluster", found) == expected
    page.fill("#find-sample", "4")
    assert page.inner_text("#page") == "1 to 50 of 102"  # 50 of the class, and names with a 4
    page.close()


def test_samples_are_paged_searched_filtered_and_sorted(page):
    assert page.inner_text("#page") == "1 to 50 of 200"
    assert page.locator("#previous").is_disabled()
    for _ in range(3):
        page.click("#next")
    assert page.inner_text("#page") == "151 to 200 of 200"
    assert page.locator("#next").is_disabled()
    page.fill("#find-sample", "PHOTO 19")
    assert page.inner_text("#page") == "1 to 11 of 11"
    page.click("#sample-table thead th:has-text('sample') button")
    names = column(page, "#sample-table", 2)
    assert names == [f"photo {i}.jpg" for i in (19, *range(190, 200))]
    page.fill("#find-sample", "")
    page.select_option("#of-cluster", "10")
    assert set(column(page, "#sample-table", 3)) == {"10"}
    page.select_option("#of-cluster", "")
    page.fill("#at-most", "70")
    page.click("#sample-table thead th:has-text('confidence') button")
    values = [float(text.strip("%")) for text in column(page, "#sample-table", 4)]
    assert values == sorted(values)
    assert 0 < max(values) <= 70
    page.fill("#find-sample", "nobody")
    assert page.inner_text("#page") == "No sample fits"


def test_members_of_a_cluster_are_listed_from_the_gallery(page):
    page.locator("details.cluster summary").nth(3).click()
    page.click("button.members[value='3']")
    assert page.inner_text("#page") == "1 to 20 of 20"
    assert set(column(page, "#sample-table", 3)) == {"3"}


def test_colours_follow_the_system_and_the_button(page):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    page.click("#theme")
    assert background() == light
    page.click("#theme")
    assert background() == dark
    page.emulate_media(color_scheme="light")
    assert background() == dark
    page.click("#theme")
    assert background() == light
