"""Folders and paths of image files: what is read, how it is converted, what is refused."""

import contextlib
import os
import shutil
import socket
import struct
import sys
import zlib

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators import each_kind, two
from PIL import EpsImagePlugin, Image
from report_pages import Page
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from deepcluster_sk import ContrastiveClustering, load, report
from deepcluster_sk._data import image_files
from deepcluster_sk._data.errors import _MOST_NAMED
from deepcluster_sk._data.image_files import (
    find_image_files,
    open_image_files,
    to_array,
)
from deepcluster_sk._data.pillow import SUFFIXES
from deepcluster_sk._data.preprocessing import Layout
from deepcluster_sk._inspection.pictures import pictures
from deepcluster_sk._training.epochs import Epochs
from deepcluster_sk.callbacks import ClusterMonitor
from deepcluster_sk.datasets import load_image_folder
from deepcluster_sk.display import ClusterGalleryDisplay
from deepcluster_sk.exceptions import ImageFileError, ResumeError
from deepcluster_sk.model_selection import (
    mean_confidence_scorer,
    n_clusters_curve,
    silhouette_scorer,
    stability_scorer,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
COLORS = Layout((6, 4, 3), "last")


def model(**params):
    return ContrastiveClustering(2, **{**FAST, **params})


@pytest.fixture(scope="module")
def images():
    """24 images in colour, (24, 9, 8, 3)."""
    return np.random.default_rng(0).integers(0, 256, size=(24, 9, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """The same images as files of a folder with subfolders, in the same order."""
    root = tmp_path_factory.mktemp("images")
    for i, image in enumerate(images):
        (root / f"part{i // 10}").mkdir(exist_ok=True)
        Image.fromarray(image).save(root / f"part{i // 10}" / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def paths(folder):
    return find_image_files(folder)


@pytest.fixture
def no_memory(monkeypatch):
    """Let decoded images not be kept in the memory."""
    monkeypatch.setattr(image_files, "_MEMORY_SHARE", 0)


@pytest.fixture
def bad_folder(folder, tmp_path):
    """Eight good files, and four that cannot be read."""
    for i in range(8):
        image = Image.open(folder / "part0" / f"{i:02}.png")
        image.resize((64, 64)).save(tmp_path / f"good{i}.jpg")
    whole = (tmp_path / "good0.jpg").read_bytes()
    (tmp_path / "a_text.jpg").write_text("hello", "utf-8")
    (tmp_path / "b_empty.jpg").touch()
    (tmp_path / "good3_truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "z_corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    return tmp_path


# ---- the same images, whatever they come in


@two
def test_files_give_the_labels_of_the_array(estimator, images, folder, paths):
    expected = estimator(2, **FAST).fit(images)
    for X in (str(folder), paths):
        fitted = estimator(2, **FAST).fit(X)
        assert fitted.loss_curve_ == expected.loss_curve_
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)
    assert (fitted.input_shape_, fitted.n_features_in_) == ((9, 8, 3), 216)
    assert fitted.skipped_ == []


@each_kind
def test_streamed_files_give_the_labels_of_the_array(estimator, images, folder, no_memory):
    expected = estimator(2, **FAST).fit(images)
    fitted = estimator(2, **FAST).fit(folder)
    assert fitted.loss_curve_ == expected.loss_curve_
    np.testing.assert_array_equal(fitted.labels_, expected.labels_)
    np.testing.assert_array_equal(fitted.predict_proba(folder), expected.predict_proba(images))


def test_every_container_of_paths_is_read(folder, paths):
    expected = model().fit(folder).loss_curve_
    for X in (
        tuple(paths),
        [*folder.glob("part0/*.png"), *folder.glob("part1/*.png"), *folder.glob("part2/*.png")],
        np.array(paths),
        np.array(paths, dtype=object),
        pd.Series(paths, index=range(100, 124)),
        pd.Series(paths, dtype="category"),
        pl.Series(paths),
    ):
        fitted = model().fit(sorted(X) if isinstance(X, list) else X)
        assert fitted.loss_curve_ == expected


@two
def test_a_model_fitted_on_arrays_predicts_files_and_the_other_way_round(
    estimator, images, folder, paths
):
    of_array, of_files = estimator(2, **FAST).fit(images), estimator(2, **FAST).fit(folder)
    for fitted in (of_array, of_files):
        for method in (fitted.predict, fitted.predict_proba, fitted.transform):
            np.testing.assert_array_equal(method(paths), method(images))
        assert fitted.score(folder) == fitted.score(images)


def test_channels_first_and_flattened_training_sets_predict_files(images, folder):
    expected = model().fit(images).predict_proba(folder)
    first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(model().fit(first).predict_proba(folder), expected)
    flat = model(image_shape=(9, 8, 3)).fit(images.reshape(24, -1))
    np.testing.assert_array_equal(flat.predict_proba(folder), expected)


def test_files_are_scaled_to_the_range_of_a_float_training_set(images, folder):
    whole = images.astype(np.float32)
    whole[0, 0, 0], whole[0, 0, 1] = 0, 255
    fitted = model().fit(whole / 255)
    np.testing.assert_allclose(
        fitted.predict_proba(folder)[1:], fitted.predict_proba(whole / 255)[1:], rtol=1e-4
    )


def test_new_files_of_another_size_are_resized_to_the_fitted_shape(folder, tmp_path):
    Image.new("RGB", (300, 200), "red").save(tmp_path / "large.png")
    fitted = model().fit(folder)
    assert fitted.transform([tmp_path / "large.png"]).shape[0] == 1


def test_grey_files_have_no_channel_axis(few_images, tmp_path):
    for i, image in enumerate(few_images):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    fitted = model().fit(tmp_path)
    assert fitted.input_shape_ == (8, 8)
    np.testing.assert_array_equal(fitted.labels_, model().fit(few_images).labels_)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    assert fitted.predict(tmp_path).shape == (61,)
    assert model().fit(tmp_path).input_shape_ == (8, 8, 3)


def test_a_model_of_rows_refuses_files(paths):
    fitted = model().fit(np.random.default_rng(0).normal(size=(20, 4)))
    with pytest.raises(ValueError, match=r"image files, but .* fitted with rows of 4 features"):
        fitted.predict(paths)


# ---- in the company of scikit-learn


@two
def test_cross_validation_slices_paths(estimator, paths):
    labels = cross_val_predict(estimator(2, **FAST), np.array(paths), cv=2)
    assert labels.shape == (24,)
    assert set(labels) <= {0, 1}


@pytest.mark.parametrize("container", [list, np.array, pd.Series])
def test_grid_search_on_paths(container, paths):
    grid = {"learning_rate": [1e-3, 3e-3]}
    search = GridSearchCV(model(max_epochs=1), grid, cv=2, error_score="raise")
    search.fit(container(paths))
    assert search.predict(paths).shape == (24,)


@pytest.mark.slow
@pytest.mark.usefixtures("full_searches")
def test_grid_search_on_paths_in_two_processes_under_progress_bars(paths, images, capfd):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn < 1.9")
    pytest.importorskip("rich")
    grid = {"n_clusters": [2, 3]}
    expected = GridSearchCV(model(max_epochs=1), grid, cv=2).fit(images)
    search = GridSearchCV(model(max_epochs=1), grid, cv=2, n_jobs=2, error_score="raise")
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(paths)
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_allclose(search.cv_results_[name], expected.cv_results_[name], rtol=1e-4)
    np.testing.assert_array_equal(search.predict(paths), expected.predict(images))
    shown = capfd.readouterr().out
    assert shown.count("GridSearchCV - candidate-split-evaluation | ContrastiveClust") >= 4
    assert "GridSearchCV - refit" in shown


# ---- size


@pytest.mark.parametrize(
    ("sizes", "image_size", "shape"),
    [
        ([(20, 10)] * 3, "auto", (10, 20, 3)),
        ([(20, 10), (30, 10), (40, 50)], "auto", (10, 30, 3)),
        ([(900, 700), (400, 400), (800, 30)], "auto", (32, 32, 3)),
        ([(20, 10)] * 3, 16, (16, 16, 3)),
        ([(20, 10)] * 3, (8, 12), (8, 12, 3)),
        ([(20, 10)] * 3, np.int64(5), (5, 5, 3)),
    ],
)
def test_image_size_is_the_median_up_to_32_or_what_is_asked_for(sizes, image_size, shape, tmp_path):
    for i, size in enumerate(sizes):
        Image.new("RGB", size, (i * 50, 10, 20)).save(tmp_path / f"{i}.png")
    assert load_image_folder(tmp_path, image_size).images.shape[1:] == shape


@pytest.mark.parametrize("image_size", [0, (8,), (8, 0), (8, 8, 3), (8.5, 8)])
def test_bad_image_size_is_refused(image_size, folder):
    with pytest.raises(ValueError, match=r"image_size.* expected|'image_size' .* must be"):
        model(image_size=image_size).fit(folder)
    with pytest.raises(ValueError, match=r"expected 'auto', a positive integer, or \(height, w"):
        load_image_folder(folder, image_size)


def test_a_saved_model_keeps_its_image_size(folder, tmp_path):
    fitted = model(image_size=(8, 12)).fit(folder)
    fitted.save(tmp_path / "model.dcsk")
    opened = load(tmp_path / "model.dcsk")
    assert opened.image_size == (8, 12)
    np.testing.assert_array_equal(opened.predict(folder), fitted.labels_)


def test_bad_on_error_is_refused(folder):
    with pytest.raises(ValueError, match=r"'on_error' .* must be .* Got 'ignore'"):
        model(on_error="ignore").fit(folder)


# ---- formats


def in_two_colors(mode="RGB"):
    """4 wide and 6 high; the upper half is red, the lower blue."""
    pixels = np.zeros((6, 4, 3), dtype=np.uint8)
    pixels[:3, :, 0], pixels[3:, :, 2] = 255, 255
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "P", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    expected = np.asarray(in_two_colors())
    np.testing.assert_allclose(to_array(in_two_colors(mode), COLORS), expected, atol=3)


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "I"])
def test_grey_modes_become_rgb_beside_colours(mode):
    grey = np.zeros((6, 4), dtype=np.uint8)
    grey[2:] = 255
    image = Image.fromarray(grey).convert("1" if mode == "1" else "L")
    if mode.startswith("I"):
        wide = grey.astype(np.uint16) * 257
        image = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    assert image.mode == mode
    np.testing.assert_array_equal(to_array(image, COLORS), np.dstack([grey] * 3))
    np.testing.assert_array_equal(to_array(image, Layout((6, 4))), grey)


def test_16_bits_are_reduced_to_8_and_not_cut_off(tmp_path):
    levels = np.arange(0, 65536, 65536 // 24, dtype=np.uint16)[:24].reshape(6, 4)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    Image.fromarray(levels).save(tmp_path / "deep.tif")
    data = load_image_folder(tmp_path)
    np.testing.assert_array_equal(data.images, np.stack([levels >> 8] * 2))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(dtype, tmp_path):
    Image.fromarray(np.full((6, 4), 1e6, dtype=dtype)).save(tmp_path / "x.tif")
    with pytest.raises(ImageFileError, match="of unknown range, save the file with 8 bits"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "key colour"])
def test_transparent_pixels_become_white(kind):
    image = in_two_colors()
    if kind == "palette":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        image.info["transparency"] = image.getpixel((0, 0))
    elif kind == "key colour":
        image.info["transparency"] = (255, 0, 0)
    else:
        alpha = np.repeat(np.uint8([[0], [255]]), 3, axis=0).repeat(4, axis=1)
        image = image.convert(kind)
        image.putalpha(Image.fromarray(alpha))
    pixels = to_array(image, COLORS)
    assert (pixels[:3] == 255).all()
    assert (pixels[3:] < 255).any()


def test_four_channels_keep_their_transparency():
    layout = Layout((6, 4, 4), "last")
    image = in_two_colors("RGBA")
    image.putalpha(100)
    np.testing.assert_array_equal(to_array(image, layout)[..., 3], np.full((6, 4), 100))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    upright = in_two_colors()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    (image,) = load_image_folder(tmp_path).images
    np.testing.assert_array_equal(image, np.asarray(upright))


def test_a_large_jpeg_is_shrunk_without_aliasing(tmp_path):
    checkers = np.indices((256, 256)).sum(axis=0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / "x.jpg", quality=95)
    (image,) = load_image_folder(tmp_path, 16).images
    assert abs(image.astype(int) - 127).max() < 8


# ---- which files


def test_a_folder_is_searched_in_sorted_order_without_hidden_files(tmp_path):
    for name in ("b/2.JPG", "b/10.jpeg", "a.png", ".cache/x.png", "b/._2.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(tmp_path / name) for name in ("a.png", "b/10.jpeg", "b/2.JPG")]
    assert find_image_files(tmp_path) == found


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_named_like_an_image_is_searched_and_is_no_image(tmp_path):
    touch(tmp_path / "album.jpg" / "1.png", tmp_path / "album.png" / "notes.txt")
    assert find_image_files(tmp_path) == [str(tmp_path / "album.jpg" / "1.png")]


@pytest.fixture
def linked(tmp_path):
    """A folder of links only, to two folders elsewhere."""
    touch(*(tmp_path / "elsewhere" / name for name in ("cats/1.png", "dogs/deep/2.png")))
    root = tmp_path / "linked"
    root.mkdir()
    try:
        (root / "b_cats").symlink_to(tmp_path / "elsewhere" / "cats", target_is_directory=True)
    except OSError:  # on Windows, not everybody may
        pytest.skip("no links here")
    (root / "a_dogs").symlink_to(tmp_path / "elsewhere" / "dogs", target_is_directory=True)
    return root


def test_links_to_folders_are_followed(linked):
    expected = [str(linked / name) for name in ("a_dogs/deep/2.png", "b_cats/1.png")]
    assert find_image_files(linked) == expected
    touch(linked.parent / "elsewhere" / "hidden" / "3.png")
    (linked / ".hidden").symlink_to(linked.parent / "elsewhere" / "hidden")
    assert find_image_files(linked) == expected


def test_a_folder_that_links_lead_to_again_is_searched_once(linked):
    expected = [str(linked / name) for name in ("a_dogs/deep/2.png", "b_cats/1.png", "real/3.png")]
    touch(linked / "real" / "3.png")
    (linked / "a_link_to_real").symlink_to(linked / "real")
    (linked / "c_cats_again").symlink_to(linked.parent / "elsewhere" / "cats")
    (linked / "real" / "cycle").symlink_to(linked)
    (linked.parent / "elsewhere" / "dogs" / "cycle").symlink_to(linked.parent / "elsewhere")
    assert find_image_files(linked) == expected


def test_a_link_to_nowhere_is_named_among_the_unreadable(linked):
    (linked / "lost.png").symlink_to(linked / "nowhere.png")
    with pytest.raises(ImageFileError, match=r"lost\.png': no such file"):
        model().fit(linked)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_what_is_no_folder_of_images_is_refused(method, folder, paths, tmp_path):
    estimator = model().fit(folder) if method == "predict" else model()
    call = getattr(estimator, method)
    with pytest.raises(ImageFileError, match=r"nowhere' does not exist\. Pass the folder of the"):
        call(str(tmp_path / "nowhere"))
    with pytest.raises(ImageFileError, match=r"00\.png' is a file, not a folder.* a list of paths"):
        call(paths[0])
    with pytest.raises(ImageFileError, match=r"holds no image files, expected .* among \.bmp, "):
        call(tmp_path)


def test_photos_in_other_formats_are_left_out_with_a_warning(tmp_path):
    names = ("z.png", "z.heic", "a.HEIC", "b.heic", "c.dng", "notes.txt", ".hidden.heic")
    touch(*(tmp_path / name for name in names))
    with pytest.warns(UserWarning, match=r"^1 \.dng file and 2 \.heic files in .* are left out"):
        assert find_image_files(tmp_path) == [str(tmp_path / "z.png")]
    os.remove(tmp_path / "z.png")
    with pytest.raises(ImageFileError, match=r"Export its 1 \.dng file and 3 \.heic files as JPEG"):
        find_image_files(tmp_path)


def test_paths_beside_other_things_are_refused(paths):
    with pytest.raises(ValueError, match="element 1 is None, expected a path"):
        model().fit([paths[0], None, paths[1]])
    with pytest.raises(ValueError, match=r"element 2 is 3\.5, expected a path"):
        model().fit(np.array([*paths[:2], 3.5], dtype=object))


# ---- files that cannot be read


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("method", ["fit", "predict", "transform", "score"])
def test_one_error_names_all_unreadable_files(method, fits, bad_folder, folder, request):
    estimator = model(image_size=8)
    if method != "fit":
        estimator.fit(folder)
    if not fits:
        request.getfixturevalue("no_memory")
    files = [*find_image_files(bad_folder), str(bad_folder / "missing.png"), str(bad_folder)]
    before = dict(vars(estimator))
    with pytest.raises(ImageFileError, match="6 of 14 image files cannot be read") as caught:
        getattr(estimator, method)(files)
    assert vars(estimator) == before
    lines = str(caught.value).split("\n")
    for name, reason in [
        ("a_text.jpg", "not an image"),
        ("b_empty.jpg", "an empty file of 0 bytes"),
        ("good3_truncated.jpg", "truncated"),
        ("z_corrupt.png", "not an image"),
        ("missing.png", "no such file"),
        (bad_folder.name, "a folder"),
    ]:
        (line,) = (line for line in lines if f"{name}':" in line)
        assert reason in line
    assert "pass on_error='skip'" in lines[-1]


def test_an_empty_file_is_not_opened(tmp_path):
    (tmp_path / "x.png").touch()
    with pytest.raises(ImageFileError, match=r"x\.png': an empty file of 0 bytes"):
        load_image_folder(tmp_path)


def test_many_unreadable_files_are_counted(tmp_path):
    with pytest.raises(ImageFileError, match="50 of 50 image files") as caught:
        model().fit([f"x{i}.png" for i in range(50)])
    lines = str(caught.value).split("\n")
    assert len(lines) == _MOST_NAMED + 3
    assert lines[-2] == "  and 30 more"


def test_strings_that_are_no_paths_are_refused():
    for text in ("a cat sat on the mat", "x" * 5000, "null\0byte", ""):
        with pytest.raises(ImageFileError, match="2 of 2 image files cannot be read"):
            model().fit([text, text])


@pytest.mark.parametrize("fits", [True, False])
@two
def test_skipped_files_get_the_label_minus_one(estimator, fits, bad_folder, request, tmp_path):
    if not fits:
        request.getfixturevalue("no_memory")
    params = {**FAST, "image_size": 8}
    files = find_image_files(bad_folder)
    bad = np.array(["good" not in f or "truncated" in f for f in files])
    fitted = estimator(2, on_error="skip", **params)
    with pytest.warns(UserWarning, match="4 of 12 image files cannot be read and are skipped"):
        fitted.fit(bad_folder)
    assert fitted.skipped_ == np.array(files)[bad].tolist()
    good = estimator(2, **params).fit(np.array(files)[~bad])
    np.testing.assert_array_equal(fitted.labels_[~bad], good.labels_)
    assert set(fitted.labels_[bad]) == {-1}
    assert fitted.cluster_sizes_.sum() == 8
    with pytest.warns(UserWarning, match="are skipped"):
        np.testing.assert_array_equal(fitted.predict(bad_folder), fitted.labels_)
    with pytest.warns(UserWarning, match="are skipped"):
        features = fitted.transform(bad_folder)
    np.testing.assert_array_equal(np.isnan(features).all(axis=1), bad)
    with pytest.warns(UserWarning, match="are skipped"):
        assert fitted.score(bad_folder) == good.score(np.array(files)[~bad])
    fitted.save(tmp_path / "model.dcsk")
    opened = load(tmp_path / "model.dcsk")
    np.testing.assert_array_equal(opened.labels_, fitted.labels_)
    assert opened.skipped_ == fitted.skipped_


def test_the_warning_of_skipped_files_shows_the_line_of_the_user(bad_folder):
    skipping = model(on_error="skip", image_size=8, max_epochs=1)
    lines = [
        lambda: skipping.fit(bad_folder),
        lambda: skipping.predict(bad_folder),
        lambda: skipping.fit_predict(bad_folder),
        lambda: skipping.transform(bad_folder),
        lambda: skipping.partial_fit(bad_folder),
        lambda: skipping.score(bad_folder),
        lambda: make_pipeline(skipping).fit(bad_folder),
    ]
    for line in lines:
        with pytest.warns(UserWarning, match="are skipped") as caught:
            line()
        (warning,) = (w for w in caught if "are skipped" in str(w.message))
        assert (warning.filename, warning.lineno) == (__file__, line.__code__.co_firstlineno)


def test_nothing_but_unreadable_files_is_an_error_even_if_they_may_be_skipped(tmp_path):
    with pytest.raises(ImageFileError, match="2 of 2 image files cannot be read"):
        model(on_error="skip").fit(["a.png", "b.png"])


def test_too_few_readable_files_are_refused(bad_folder):
    with (
        pytest.warns(UserWarning, match="are skipped"),
        pytest.raises(ValueError, match="n_samples=8 should be >= n_clusters=9"),
    ):
        ContrastiveClustering(9, on_error="skip", **FAST).fit(bad_folder)


def test_a_file_that_vanishes_while_it_is_streamed_is_named(folder, tmp_path, no_memory):
    Image.new("RGB", (4, 6)).save(tmp_path / "x.png")
    opened = open_image_files([str(tmp_path / "x.png")])
    (tmp_path / "x.png").unlink()
    with pytest.raises(ImageFileError, match=r"x\.png' could be read before and cannot any more"):
        opened.images.read(np.array([0]))


# ---- files that would hang, run programs, or take all memory


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # whole paths may be too long


def _link_to_device(path):
    path.symlink_to(os.devnull)


@pytest.mark.skipif(sys.platform == "win32", reason="no such files in folders")
@pytest.mark.parametrize(
    ("make", "kind"),
    [(_pipe, "a named pipe"), (_socket, "a socket"), (_link_to_device, "a character device")],
)
def test_what_is_no_regular_file_is_named_and_never_opened(make, kind, folder, tmp_path):
    for i in range(8):
        shutil.copy(folder / "part0" / f"{i:02}.png", tmp_path)
    make(tmp_path / "x.png")
    with pytest.raises(ImageFileError, match=rf"x\.png': {kind}, expected a regular file"):
        model().fit(tmp_path)
    skipping = model(on_error="skip")
    with pytest.warns(UserWarning, match="1 of 9 image files cannot be read and are skipped"):
        skipping.fit(tmp_path)
    assert skipping.skipped_ == [str(tmp_path / "x.png")]
    (picture,) = pictures([tmp_path / "x.png"], np.array([0]), side=4)
    assert (picture == 128).all()


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
showpage
%%EOF
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A program that Pillow takes for Ghostscript; it leaves a file behind when it runs."""
    marker, program = tmp_path / "ran", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 10.0 > '{marker}'\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Pillow notes what it has found
    return marker


@pytest.mark.skipif(sys.platform == "win32", reason="the planted program is a shell script")
def test_an_eps_file_of_another_name_runs_no_program(planted, bad_folder):
    (bad_folder / "x.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(
        ImageFileError, match=r"x\.jpg': of the format EPS; formats that are read: "
    ):
        model().fit(bad_folder)
    skipping = model(on_error="skip", image_size=8)
    with pytest.warns(UserWarning, match="are skipped"):
        skipping.fit(bad_folder)
    assert str(bad_folder / "x.jpg") in skipping.skipped_
    (picture,) = pictures([bad_folder / "x.jpg"], np.array([0]), side=4)
    assert (picture == 128).all()
    assert not planted.exists()
    with contextlib.suppress(OSError), Image.open(bad_folder / "x.jpg") as image:
        image.load()  # what this package did before
    assert planted.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (POSTSCRIPT, "EPS"),
        (b"%PDF-1.7 ....", "PDF"),
        (b"\0\0\0\x1cftypavif....", "AVIF"),
        (b"\0\0\0\x1cftypheic....", "HEIC"),
        (b"<svg xmlns='x'/>", "SVG"),
    ],
)
def test_other_formats_are_named(content, name, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageFileError, match=f"of the format {name}; formats that are read: BMP, "):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_documented_suffix_is_read(suffix, tmp_path):
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    in_two_colors(mode).save(tmp_path / f"x{suffix}")
    assert len(load_image_folder(tmp_path).images) == 1


def test_several_jpegs_in_one_file_are_read(tmp_path):
    image = in_two_colors().resize((32, 32))
    image.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[image])
    with Image.open(tmp_path / "x.jpg") as opened:
        assert opened.format == "MPO"
    assert load_image_folder(tmp_path).images.shape == (1, 32, 32, 3)


def png_chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width, height, *chunks):
    """A file whose header promises more than there is."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end


def gif(width, height):
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b";"


def gif_with_a_large_frame(width, height):
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes(6) + frame


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header


def tiff(width, height):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, 2**31 - 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def webp(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


TEXT = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**22)))


@pytest.mark.parametrize(
    "content",
    [
        *(f(60_000, 60_000) for f in (png, gif, gif_with_a_large_frame, bmp, tiff)),
        *(f(10_000, 10_000) for f in (png, gif, bmp, tiff, webp)),
        webp(16_000, 16_000),
        b"P6 60000 60000 255\n",
        b"P6 10000 10000 255\n",
        png(8, 8, TEXT),
    ],
)
def test_a_small_file_that_promises_a_huge_image_is_named_without_a_warning(content, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageFileError, match=r"x\.png': "):
        load_image_folder(tmp_path)
    (picture,) = pictures([tmp_path / "x.png"], np.array([0]), side=4)
    assert (picture == 128).all()


def test_the_limit_of_pixels_is_that_of_pillow(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    with pytest.raises(
        ImageFileError, match=r"40 x 30 pixels, above the limit of 1,199; raise PIL"
    ):
        load_image_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert len(load_image_folder(tmp_path).images) == 1


@pytest.fixture
def little_memory(monkeypatch):
    """A memory of 20 kB."""
    monkeypatch.setattr(image_files, "available_memory", lambda: 20_000)
    monkeypatch.setattr(image_files, "_ALWAYS", 1000)


def test_an_original_larger_than_the_memory_is_named(tmp_path, little_memory):
    Image.new("RGB", (50, 40)).save(tmp_path / "x.png")
    with pytest.raises(
        ImageFileError, match=r"x\.png': decoding 50 x 40 pixels takes 24,000 bytes"
    ):
        load_image_folder(tmp_path, 4)
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    assert load_image_folder(tmp_path, 4).images.shape == (1, 4, 4, 3)


def test_large_originals_are_decoded_one_by_one(tmp_path, monkeypatch, little_memory):
    for i in range(6):
        Image.new("RGB", (40, 40), (i, i, i)).save(tmp_path / f"{i}.png")
    inside = []

    def alone(image):
        assert image_files._one_large_image.locked()
        inside.append(image)
        return False

    monkeypatch.setattr(image_files, "is_transparent", alone)
    monkeypatch.setattr(image_files, "_n_threads", lambda: 4)
    np.testing.assert_array_equal(load_image_folder(tmp_path, 2).images[:, 0, 0, 0], range(6))
    assert len(inside) == 6


@pytest.mark.parametrize("image_size", [(1_000_000, 1_000_000), (100, 67)])
def test_images_larger_than_the_memory_are_refused_before_they_are_decoded(
    image_size, tmp_path, little_memory, monkeypatch
):
    monkeypatch.setattr(image_files, "_decode", None)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    n_bytes = f"{image_size[0] * image_size[1] * 3:,}"
    message = f"would take {n_bytes} bytes of memory, of which 20,000 are available. Choose a small"
    with pytest.raises(ImageFileError, match=message):
        model(image_size=image_size).fit(tmp_path)
    with pytest.raises(ImageFileError, match="One image of shape"):
        load_image_folder(tmp_path, image_size)


def test_images_that_do_not_fit_together_are_streamed_but_not_loaded(
    folder, images, tmp_path, little_memory
):
    data = load_image_folder(folder)  # 5 kB
    monitored = model().fit(folder, None)
    assert monitored.loss_curve_ == model().fit(images).loss_curve_
    with pytest.raises(
        ImageFileError, match=r"24 images together, each of shape \(20, 20, 3\) woul"
    ):
        load_image_folder(folder, 20)
    assert model(image_size=20).fit(folder).input_shape_ == (20, 20, 3)
    assert len(data.images) == 24


# ---- loading into arrays


def test_a_folder_is_loaded_into_arrays(images, folder, paths):
    data = load_image_folder(folder)
    np.testing.assert_array_equal(data.images, images)
    assert data.filenames.tolist() == paths
    assert data.skipped == []


def test_loading_skips_files_that_cannot_be_read(bad_folder):
    data = load_image_folder(bad_folder, 8, on_error="skip")
    assert data.images.shape == (8, 8, 8, 3)
    assert len(data.filenames) == 8
    assert len(data.skipped) == 4
    with pytest.raises(ValueError, match="on_error='ignore', expected 'raise' or 'skip'"):
        load_image_folder(bad_folder, on_error="ignore")


def test_loading_returns_an_array_even_if_it_takes_much_memory(images, folder, no_memory):
    np.testing.assert_array_equal(load_image_folder(folder).images, images)


def test_verbose_shows_a_bar_while_files_are_read(folder, capfd):
    model(verbose=1).fit(folder)
    assert "Reading images" in capfd.readouterr().err
    model().fit(folder)
    assert capfd.readouterr() == ("", "")


# ---- trainings that are watched and go on, scores and reports


def damage(path):
    """Cut a file in the middle."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("fits", [True, False])
@two
def test_passes_over_files_equal_passes_over_the_array(estimator, fits, images, paths, request):
    if not fits:
        request.getfixturevalue("no_memory")
    fitted, expected = estimator(2, **FAST), estimator(2, **FAST)
    for rows in (slice(14), slice(14, 24)):
        fitted.partial_fit(paths[rows])
        expected.partial_fit(images[rows])
        np.testing.assert_array_equal(fitted.labels_, expected.labels_)
        np.testing.assert_array_equal(fitted.predict(paths[rows]), fitted.labels_)
    assert fitted.loss_curve_ == expected.loss_curve_


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@two
def test_going_on_skips_files_as_well(estimator, method, bad_folder, paths):
    files = np.array(find_image_files(bad_folder))
    bad = np.array(["good" not in f or "truncated" in f for f in files])
    params = {**FAST, "on_error": "skip", "warm_start": True}
    fitted = estimator(2, **params).fit(paths)
    good = estimator(2, **params).fit(paths)
    with pytest.warns(UserWarning, match="4 of 12 image files"):
        getattr(fitted, method)(files)
    assert fitted.skipped_ == files[bad].tolist()
    getattr(good, method)(files[~bad])
    assert fitted.loss_curve_ == good.loss_curve_
    np.testing.assert_array_equal(fitted.labels_[~bad], good.labels_)
    assert set(fitted.labels_[bad]) == {-1}
    assert fitted.cluster_sizes_.sum() == 8
    getattr(fitted, method)(files[~bad])
    assert fitted.skipped_ == []


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_with_files_scales_them_as_predict_does(method, images, paths):
    floats = images / np.float32(255) * 3 - 1
    fitted = model(warm_start=True).fit(floats)
    getattr(fitted, method)(paths)
    np.testing.assert_array_equal(fitted.predict(paths), fitted.labels_)
    again = model(warm_start=True).fit(floats)
    getattr(again, method)(floats)
    # the same pixels, up to rounding
    np.testing.assert_allclose(fitted.loss_curve_, again.loss_curve_, rtol=1e-3)
    np.testing.assert_allclose(fitted.predict_proba(floats), again.predict_proba(floats), atol=0.01)


@two
def test_a_fit_on_files_is_resumed_by_what_they_show(estimator, bad_folder, tmp_path, monkeypatch):
    files = [file for file in find_image_files(bad_folder) if "truncated" not in file]
    files = [file for file in files if "good" in file]
    params = {**FAST, "max_epochs": 4, "image_size": 8, "on_error": "skip"}
    expected = estimator(2, **params).fit(files)
    params["checkpoint"] = tmp_path / "run"
    run = Epochs.run

    def interrupt(self, number, *, progress):
        if number == 2:
            raise KeyboardInterrupt
        return run(self, number, progress=progress)

    monkeypatch.setattr(Epochs, "run", interrupt)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        estimator(2, **params).fit(files)
    monkeypatch.undo()
    with pytest.raises(ResumeError, match=r"X\.content"):
        estimator(2, **params).fit(files[::-1])
    resumed = estimator(2, **params).fit(files)
    assert resumed.history_ == expected.history_
    np.testing.assert_array_equal(resumed.labels_, expected.labels_)
    damage(bad_folder / "good5.jpg")
    with (
        pytest.raises(ResumeError, match=r"X\.n_samples=8, this fit has X\.n_samples=7"),
        pytest.warns(UserWarning, match="1 of 8 image files"),
    ):
        estimator(2, **params).fit(files)


def test_monitors_pass_over_skipped_files(bad_folder):
    pytest.importorskip("sklearn.callback")
    monitor = ClusterMonitor()
    fitted = model(on_error="skip").set_callbacks(monitor)
    with pytest.warns(UserWarning, match="4 of 12 image files"):
        fitted.fit(bad_folder)
    logs = monitor.get_logs().data
    assert len(logs) == 3
    for row in logs:
        assert sum(row["cluster_sizes"]) == 8
        assert 0.5 <= row["confidence"] <= 1
    assert sorted(logs[0]["cluster_sizes"]) == sorted(fitted.cluster_sizes_)


def test_scores_and_curves_of_files_are_those_of_the_array(images, folder, paths):
    fitted = model().fit(images)
    for scorer in (silhouette_scorer, mean_confidence_scorer, stability_scorer):
        expected = scorer(fitted, images)
        assert scorer(fitted, paths) == scorer(fitted, folder) == expected
    curves = [n_clusters_curve(model(), X, n_clusters=[2, 3], n_fits=2) for X in (images, folder)]
    for name, values in curves[0].items():
        np.testing.assert_array_equal(curves[1][name], values)


def test_scores_pass_over_skipped_files(bad_folder):
    files = np.array(find_image_files(bad_folder))
    good = files[["good" in f and "truncated" not in f for f in files]]
    fitted = model(on_error="skip").fit(good)
    for scorer in (silhouette_scorer, mean_confidence_scorer, stability_scorer):
        with pytest.warns(UserWarning, match="4 of 12 image files"):
            score = scorer(fitted, files)
        assert score == scorer(fitted, good)


def test_skipped_files_belong_to_no_cluster_in_pictures_and_reports(bad_folder, tmp_path):
    with pytest.warns(UserWarning, match="4 of 12 image files"):
        fitted = model(on_error="skip").fit(bad_folder)
    with pytest.warns(UserWarning, match="4 of 12 image files"):
        display = ClusterGalleryDisplay.from_estimator(fitted, bad_folder)
    assert len(display.samples) == 8
    with pytest.warns(UserWarning, match="4 of 12 image files"):
        report(fitted, bad_folder, tmp_path / "report.html")
    clusters = Page(tmp_path / "report.html").samples["cluster"].tolist()
    assert clusters[:4] == [-1] * 4
    assert min(clusters[4:]) >= 0
