"""How the report behaves in a browser."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from report_pages import fixed, placed
from scipy.cluster.hierarchy import linkage

from deepcluster_sk import report


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
