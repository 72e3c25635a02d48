"""How the report behaves in a browser."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from report_pages import fixed, placed
from scipy.cluster.hierarchy import linkage

from deepcluster_sk import report
from deepcluster_sk.display import cluster_map


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
def page(request, browser, tmp_path, monkeypatch):
    """The page of 200 samples in 12 clusters, watched for errors and requests."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), [60, 40, 30, 20, 10, 10, 10, 5, 5, 5, 4, 1])
    model = placed(labels, rng.uniform(0.6, 1, 200))
    model.linkage_ = linkage(rng.normal(size=(12, 2)), "average")
    groups = [np.array([3, 4, 70]), np.array([10, 11])]
    monkeypatch.setattr("deepcluster_sk._inspection.report.near_duplicates_of", lambda *a: groups)
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
    page.set_default_timeout(10_000)
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
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
    head = page.locator("#cluster-table thead th").nth(2)
    head.locator("button").click()
    sizes = [int(text) for text in column(page, "#cluster-table", 3)]
    assert sizes == sorted(sizes)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert [int(text) for text in column(page, "#cluster-table", 3)] == sorted(sizes)[::-1]
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


# ---- the map


def spot(page, sample):
    """Where a sample is in the window."""
    page.locator("#map-canvas").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """(i) => {
          const { left, top } = document.getElementById("map-canvas").getBoundingClientRect();
          const detail = { sample: i };
          document.dispatchEvent(new CustomEvent("locate", { detail }));
          return [left + detail.x, top + detail.y];
        }""",
        sample,
    )
    return x, y


def n_selected(page):
    return int(page.inner_text("#selection-count").split()[0])


def colours(page):
    """The most frequent colours of the map, without those of its ground and of soft edges."""
    shot = Image.open(io.BytesIO(page.locator("#map-canvas").screenshot())).convert("RGB")
    return {colour for n, colour in shot.getcolors(2**24) if n > 40 and np.ptp(colour) > 30}


def saved(page, button):
    """The text of a file that a button downloads."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.path().read_bytes().decode("utf-8")


def lasso(page, *corners):
    """Draw around a part of the map; corners are shares of its width and height."""
    page.locator("#map-canvas").scroll_into_view_if_needed()
    box = page.locator("#map-canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def test_map_draws_all_clusters_and_follows_the_colours(page):
    page.locator("#legend button").nth(11).wait_for()
    assert page.inner_text("#map-count") == "200 samples"
    swatches = page.eval_on_selector_all(
        "#legend .swatch", "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    first = {tuple(map(int, text[4:-1].split(","))) for text in swatches[:4]}  # the largest ones
    assert len(first) == 4
    assert first <= colours(page)
    page.select_option("#colour-by", "class")
    page.wait_for_timeout(200)
    assert {(0, 114, 178), (230, 159, 0)} <= colours(page)
    assert not (first - {(0, 114, 178), (230, 159, 0)}) & colours(page)


def test_mouse_over_a_sample_tells_what_it_is(page):
    page.mouse.move(*spot(page, 199))
    tip = page.locator("#map-tip")
    tip.wait_for()
    assert tip.inner_text().split("\n")[0] == "photo 199.jpg"
    assert "Cluster 11" in tip.inner_text()
    assert "class bee" in tip.inner_text()
    assert tip.locator(".tile").bounding_box()["width"] == 96
    page.mouse.move(1, 1)
    tip.wait_for(state="hidden")


def test_click_selects_and_enlarges_and_escape_gives_the_focus_back(page):
    page.mouse.click(*spot(page, 199))
    dialog = page.locator("#viewer")
    dialog.wait_for()
    assert page.inner_text("#viewer-name") == "photo 199.jpg"
    assert dialog.locator(".tile").bounding_box()["width"] > 200
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "map-canvas"
    assert n_selected(page) == 1
    assert "photo 199.jpg" in page.inner_text("#selection-list")


def test_lasso_selects_and_the_selection_is_downloaded(page):
    page.click("#lasso")
    around = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    lasso(page, *around)
    assert n_selected(page) == 200
    lasso(page, (0.01, 0.01), (0.5, 0.01), (0.5, 0.99), (0.01, 0.99))
    left = n_selected(page)
    rows = list(csv.DictReader(io.StringIO(saved(page, "#selection-csv"))))
    records = json.loads(saved(page, "#selection-json"))
    assert 0 < left == len(rows) == len(records) < 200
    assert [row["sample"] for row in rows] == [record["sample"] for record in records]
    labels = np.repeat(np.arange(12), [60, 40, 30, 20, 10, 10, 10, 5, 5, 5, 4, 1])
    for record in records:
        assert record["sample"] == f"photo {record['row']}.jpg"
        assert record["cluster"] == labels[record["row"]]
        assert record["class"] == ["ant", "bee"][record["cluster"] % 2]
    page.click("#lasso")
    page.keyboard.down("Shift")
    lasso(page, (0.5, 0.01), (0.99, 0.01), (0.99, 0.99), (0.5, 0.99))
    page.keyboard.up("Shift")
    assert n_selected(page) == 200 - left
    page.click("#selection-clear")
    assert n_selected(page) == 0
    assert page.locator("#selection-csv").is_disabled()


def pasted(page):
    """What Ctrl+V puts into a field."""
    field = page.locator("#find-sample, #target").first
    field.focus()
    page.keyboard.press("Control+v")
    return field.input_value()


def test_row_numbers_of_the_selection_are_copied(page):
    page.click("#same button.select >> nth=0")
    page.click("#selection-copy")
    page.locator("#selection-said", has_text="Copied.").wait_for()
    assert pasted(page) == "[3, 4, 70]"
    page.click("#selection-clear")
    assert page.inner_text("#selection-said") == ""
    assert page.locator("#selection-copy").is_disabled()


@pytest.mark.parametrize("is_allowed", [True, False])
def test_row_numbers_are_copied_from_the_frame_of_a_notebook(is_allowed, browser, tmp_path):
    model = placed(np.arange(60) % 3, np.linspace(0.6, 1, 60))
    frame = cluster_map(model, np.zeros((60, 8, 8)))._repr_html_()
    if not is_allowed:
        frame = frame.replace("clipboard-write", "")
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f'<!DOCTYPE html><input id="target">{frame}', "utf-8")
    page = browser.new_page()
    page.goto(notebook.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("#legend button").first.click()
    inside.locator("#select-clusters").click()
    inside.locator("#selection-copy").click()
    inside.locator("#selection-said", has_text="Copied.").wait_for()
    assert pasted(page) == str(list(range(0, 60, 3)))
    page.close()


def test_map_is_used_by_keys_alone(page):
    page.locator("#map-canvas").focus()
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#map-live").split(",")[0]
    assert first.startswith("photo ")
    page.keyboard.press("ArrowDown")
    second = page.inner_text("#map-live").split(",")[0]
    assert second != first
    page.keyboard.press("Space")
    assert n_selected(page) == 1
    page.keyboard.press("Enter")
    assert page.inner_text("#viewer-name") == second
    page.keyboard.press("Escape")
    before = spot(page, 0)
    page.keyboard.press("+")
    zoomed = spot(page, 0)
    assert zoomed != before
    page.keyboard.press("Shift+ArrowRight")
    assert spot(page, 0) != zoomed
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert spot(page, 0) == before
    page.keyboard.press("Escape")
    assert n_selected(page) == 0


def test_wheel_and_drag_move_the_map(page):
    x, y = spot(page, 0)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    near = spot(page, 0)
    assert np.hypot(near[0] - x, near[1] - y) < 3  # what is under the mouse stays there
    other = spot(page, 199)
    page.mouse.move(x + 30, y + 30)
    page.mouse.down()
    page.mouse.move(x, y, steps=3)
    page.mouse.up()
    moved = spot(page, 199)
    assert moved[0] < other[0]
    assert moved[1] < other[1]
    page.click("#zoom-all")
    assert spot(page, 0) == pytest.approx((x, y), abs=0.5)


def test_clusters_are_brought_out_and_selected(page):
    page.click("#legend button[data-legend='2']")
    page.click("#legend button[data-legend='11']")
    assert page.get_attribute("[data-legend='11']", "aria-pressed") == "true"
    page.click("#select-clusters")
    assert n_selected(page) == 31


# ---- names, enlarged pictures, unusual samples, tree


def test_names_are_shown_everywhere_and_survive_a_reload(page):
    page.fill("#cluster-table input[data-cluster='0']", "zebras <b>")
    for part in ("#gallery summary >> nth=0", "#legend", "#tree text >> nth=0", "#odd", "#match"):
        where = "#tree" if part.startswith("#tree") else part
        assert "0 · zebras <b>" in page.locator(where).first.text_content(), part
    assert page.locator("#of-cluster option[value='0']").text_content() == "0 · zebras <b>"
    page.mouse.move(*spot(page, 0))
    assert "0 · zebras <b>" in page.inner_text("#map-tip")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.input_value("#cluster-table input[data-cluster='0']") == "zebras <b>"
    page.locator("details.cluster summary").first.click()
    page.locator("details.cluster input").first.fill("")
    assert page.input_value("#cluster-table input[data-cluster='0']") == ""
    assert "zebras" not in page.inner_text("#legend")


def test_names_are_downloaded_and_read_again(page, tmp_path):
    page.fill("#cluster-table input[data-cluster='3']", 'a, "b"')
    page.fill("#cluster-table input[data-cluster='1']", "ones")
    rows = list(csv.reader(io.StringIO(saved(page, "#names-csv"))))
    assert rows == [["cluster", "name"], ["1", "ones"], ["3", 'a, "b"']]
    text = saved(page, "#names-json")
    assert json.loads(text) == {"clusters": {"1": "ones", "3": 'a, "b"'}}
    names = tmp_path / "names.json"
    names.write_text('{"clusters": {"1": "uno", "99": "far", "2": 7, "4": "vier"}}', "utf-8")
    page.set_input_files("#names-file", names)
    page.locator("#names-said", has_text="2 names read from names.json").wait_for()
    assert page.input_value("#cluster-table input[data-cluster='1']") == "uno"
    assert page.input_value("#cluster-table input[data-cluster='4']") == "vier"
    names.write_text("[1, 2]", "utf-8")
    page.set_input_files("#names-file", names)
    page.locator("#names-said", has_text="names.json is no file of names").wait_for()


def test_page_works_where_nothing_can_be_kept(browser, tmp_path):
    path = report(
        placed(np.arange(60) % 3, np.linspace(0.6, 1, 60)),
        np.random.default_rng(0).random((60, 8, 8)),
        tmp_path / "page.html",
    )
    page = browser.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.fill("#cluster-table input[data-cluster='0']", "a name")
    assert "does not keep names" in page.inner_text("#names-said")
    assert "a name" in page.inner_text("#legend")
    page.close()


def test_pictures_are_stepped_through_by_keys(page):
    first = page.locator("#odd button.tile").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    assert page.inner_text("#viewer-place") == "2 of 48"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#viewer-place") == "3 of 48"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#viewer-place") == "1 of 48"
    assert page.locator("#viewer-previous").is_disabled()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('tile')")


def test_groups_are_selected_and_downloaded(page):
    page.click("#same button.select >> nth=0")
    assert n_selected(page) == 3
    rows = list(csv.reader(io.StringIO(saved(page, "#same-csv"))))
    assert [row[:3] for row in rows[1:]] == [
        *(["1", str(i), f"photo {i}.jpg"] for i in (3, 4, 70)),
        *(["2", str(i), f"photo {i}.jpg"] for i in (10, 11)),
    ]


def test_tree_has_a_leaf_for_each_cluster(page):
    assert page.locator("#tree svg text").count() == 12
    assert page.locator("#tree svg").bounding_box()["height"] > 200
