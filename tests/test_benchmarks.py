"""The scripts of the benchmarks run; what they measure is not looked at."""

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Returns a function that runs a script of the folder with arguments."""
    monkeypatch.syspath_prepend(FOLDER)

    def run(name, *arguments):
        module = __import__(name)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module.main()

    return run


@pytest.fixture
def in_this_process(monkeypatch):
    """Let the script for quality fit in a thread: a process would import everything again."""
    monkeypatch.syspath_prepend(FOLDER)
    quality = __import__("quality")
    monkeypatch.setattr(quality, "ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n))


# ---- speed


def test_precision_script_writes_a_table(script, capsys):
    script("precision", "resnet18", "--image-size", 32, "--n-images", 4, "--rounds", 1)
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert row[0] == "resnet18"
    assert 0 < float(row[-1]) < 0.1


@pytest.fixture
def collected(monkeypatch):
    """Compilation that only traces, so that it needs no compiler."""
    compile_with = torch.compile

    def tracing(function, *, mode=None, **options):
        return compile_with(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", tracing)
    yield
    torch.compiler.reset()


def test_gpu_script_writes_a_table(script, tmp_path):
    small = ["--device", "cpu", "--small", "--no-compile", "--rounds", 1, "--output", tmp_path]
    script("gpu", *small, "--parts", "step", "profile", "predict")
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]
    steps = [row for row in rows if row["what"].startswith("training step")]
    assert [row["what"].split(", ")[-1] for row in steps] == ["eager"] * 2
    assert all(row["ours"] > 0 and row["ratio"] > 0 for row in steps)
    pieces = [row["ours"] for row in rows if row["what"] in ("augmentation", "scaling")]
    assert len(pieces) == 4
    assert all(0 < share < 1 for share in pieces)
    assert sum(row["what"] == "`predict`" for row in rows) == 4
    table = (tmp_path / "gpu.md").read_text("utf-8").splitlines()
    assert len(table) == len(rows) + 4
    assert len({line.count("|") for line in table[2:]}) == 1


def test_gpu_script_names_what_it_leaves_out(script, tmp_path):
    arguments = ["--device", "cpu", "--small", "--no-compile", "--budget", 0]
    script("gpu", *arguments, "--parts", "step", "--methods", "CC", "TCC", "--output", tmp_path)
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]
    assert [row["case"] for row in rows] == ["left out: no time"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["CC", "TCC", "DRC", "CueCo"])
def test_gpu_script_compiles_every_method(method, script, collected, tmp_path):
    small = ["--device", "cpu", "--small", "--rounds", 1, "--output", tmp_path]
    script("gpu", *small, "--parts", "step", "--methods", method)
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]
    assert [row["what"].split(", ")[-1] for row in rows] == ["compiled", "eager"] * 2


# ---- quality


def test_quality_script_goes_on_where_it_was_and_compares_with_the_best_baseline(
    script, tmp_path, capsys
):
    results = tmp_path / "results.jsonl"
    arguments = ["--sets", "wine", "--seeds", 0, "--processes", 1, "--results", results]
    script("quality", *arguments, "--methods", "KMeans raw")
    before = results.read_text("utf-8")
    script("quality", *arguments, "--methods", "KMeans raw", "KMeans standardised", "HDBSCAN raw")
    assert results.read_text("utf-8").startswith(before)
    runs = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    assert [run["task"] for run in runs].count("KMeans raw") == 1
    best = max(runs, key=lambda run: run["NMI"])
    assert best["method"] == "KMeans standardised"
    assert [run["clusters"] for run in runs if run["task"] == "KMeans raw"] == [3]
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.split("|")[2].strip() == f"{best['NMI']:.3f} KMeans standardised"


@pytest.mark.usefixtures("in_this_process")
def test_quality_script_gives_parameters_to_our_estimators(script, tmp_path):
    results = tmp_path / "results.jsonl"
    arguments = ["--sets", "wine", "--seeds", 0, "--processes", 1, "--results", results]
    script("quality", *arguments, "--methods", "CC n_clusters=auto max_epochs=2")
    (run,) = (json.loads(line) for line in results.read_text("utf-8").splitlines())
    assert 1 <= run["clusters"] <= 4  # at most one for 40 samples


def test_cluster_number_script_names_what_curves_prefer(script, capsys):
    script("n_clusters", "wine", "--max-epochs", 1)
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert row[:3] == ["wine", "3", "2, 3, 4, 6"]
    assert set(row[3:]) <= {"2", "3", "4", "6"}


def test_outliers_script_compares_scores_of_three_kinds(script, capsys):
    script("outliers", "--sets", "digits and letters", "--seeds", 0, "--max-epochs", 1)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "| CC |" in line]
    assert [row[3].strip() for row in rows] == [
        *("score_samples", "IsolationForest, features", "LocalOutlierFactor, features"),
        *("IsolationForest, pixels", "LocalOutlierFactor, pixels"),
    ]


def test_thinned_digits_have_classes_of_evenly_falling_sizes(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    data_sets = __import__("data_sets")
    for name, shape in [("digits-unequal", (8, 8)), ("digits-rows-unequal", (64,))]:
        X, y = data_sets.load(name)
        assert X.shape[1:] == shape
        sizes = np.sort(np.bincount(y))
        assert (sizes[0], sizes[-1]) == (18, 180)
        assert np.ptp(np.diff(sizes)) <= 1


# ---- CIFAR-10


@pytest.fixture
def data_folder(tmp_path):
    """60 JPEG files of three colours in the layout of the real file, sorted by class."""
    rng = np.random.default_rng(0)
    files, labels = [], np.repeat(np.arange(3), 20)
    for label in labels:
        image = rng.integers(0, 80, (32, 32, 3))
        image[:, :, label] += 150
        file = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(file, format="JPEG", quality=75)
        files.append(file.getvalue())
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(
        folder / "cifar10_jpegs.npz",
        bytes=np.frombuffer(b"".join(files), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=labels.astype(np.uint8),
        split=np.arange(60, dtype=np.uint8) % 4 == 0,
    )
    return folder


@pytest.fixture
def small_settings(script, monkeypatch):
    """The configurations with a small network, for a run in seconds."""
    import cifar10

    for settings in cifar10.CONFIGURATIONS.values():
        monkeypatch.setitem(settings, "encoder", "cnn")
        monkeypatch.setitem(settings, "batch_size", 16)


def cifar10_record(script, data_folder, output, method, *arguments):
    fixed = ["--data-folder", data_folder, "--output", output, "--device", "cpu"]
    script("cifar10", method, *fixed, *arguments)
    return json.loads((output / f"{method}.json").read_text("utf-8"))


@pytest.mark.filterwarnings("ignore:.*clusters are empty")
def test_pieces_of_a_fit_make_the_whole(script, small_settings, data_folder, tmp_path, capsys):
    pytest.importorskip("sklearn.callback")
    arguments = ("CueCo", "--epochs", 3, "--every", 2)
    whole = cifar10_record(script, data_folder, tmp_path / "whole", *arguments)
    assert whole["result"].keys() == {"NMI", "ACC", "ARI", "linear evaluation"}
    assert [row["epoch"] for row in whole["log"]] == [2]
    for done in (1, 2, 3):  # no time: one epoch each
        pieces = cifar10_record(
            script, data_folder, tmp_path / "pieces", *arguments, "--seconds", 0
        )
        assert pieces["epochs"] == done
        assert (pieces["result"] is None) == (done < 3)
    assert len(pieces["pieces"]) == 3
    for name in ("history", "log", "result"):
        assert pieces[name] == whole[name]
    assert (tmp_path / "pieces" / "CueCo.png").stat().st_size
    assert "JPEG copies at quality 75" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*clusters are empty")
def test_parameters_can_be_compared(script, small_settings, data_folder, tmp_path):
    pytest.importorskip("sklearn.callback")
    run = partial(cifar10_record, script, data_folder)
    plain = run(tmp_path / "plain", "CC", "--epochs", 1)
    same = run(tmp_path / "same", "CC", "--epochs", 1, "--set", "crop_scale=0.08")
    other = run(tmp_path / "other", "CC", "--epochs", 1, "--set", "crop_scale=0.9", "optimizer=sgd")
    assert same["history"] == plain["history"]  # that of the recipe
    assert other["history"] != plain["history"]
    assert other["configuration"]["optimizer"] == "sgd"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*clusters are empty")
@pytest.mark.parametrize("method", ["CC", "TCC", "DRC", "CueCo"])
def test_the_configurations_run(script, method, data_folder, tmp_path):
    pytest.importorskip("sklearn.callback")
    record = cifar10_record(
        script, data_folder, tmp_path / "out", method, "--subset", 40, "--epochs", 2
    )
    assert record["n_images"] == 40
    assert record["configuration"]["encoder"].startswith("resnet")
    assert 0 <= record["result"]["NMI"] <= 1


# ---- many processes


@pytest.mark.slow
def test_distributed_script_counts_gradients_and_gathered_rows(script, capsys):
    script("distributed", "--methods", "CueCo", "--encoders", "mlp", "--batch-size", 8)
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    # (64 + 512) x 512 weights and four vectors of batch norm; a projector of 512, 256 and 128
    n_weights = 576 * 512 + 4 * 512 + 513 * 256 + 257 * 128
    assert cells[2] == f"{4 * n_weights / 1e3:,.0f} kB"
    assert cells[4] == f"{2 * 4 * 8 * 128 / 1e3:,.0f} kB"  # queries and keys of 8 samples
    assert cells[5] == f"{4 * 8 * 128 / 1e3:,.0f} kB"  # of the queries alone


# ---- threads and busy machines


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*clusters are empty")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_many_small_fits_and_predictions_are_equal_and_leave_nothing_behind(script, capsys):
    few = ["--thread-fits", 1, "--thread-predictions", 20, "--fits", 2, "--predictions", 20]
    script("stress", *few)
    table = capsys.readouterr().out
    assert "8 of 8 equal" in table
    assert "20 of 20 equal" in table
    assert "2 fits" in table


@pytest.mark.slow
def test_busy_script_compares_situations(script, capsys):
    script("busy", "--rounds", 1, "--epochs", 1, "--kinds", "rows", "--situations", "quiet")
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[0] == "| rows, quiet"
    assert float(cells[2]) > 0


def test_table_of_neighbor_graphs_has_a_row_per_set(script, capsys):
    script("neighbor_graphs", "--sets", "wine", "--seeds", 0)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert lines[-1].startswith("| wine | ")
    assert len({line.count("|") for line in lines}) == 1


# ---- image files


@pytest.fixture
def photographs(tmp_path):
    """A folder with two classes of photographs, dark and bright."""
    rng = np.random.default_rng(0)
    for name, brightness in [("hat", 40), ("shoes", 180)]:
        (tmp_path / "clothing" / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(brightness, brightness + 40, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "clothing" / name / f"{number}.jpg")
    return tmp_path


def test_photographs_are_paths_with_the_numbers_of_their_folders(monkeypatch, photographs):
    monkeypatch.syspath_prepend(FOLDER)
    X, y = __import__("data_sets").load("clothing-photos", photographs)
    assert len(X) == 16
    assert all(Path(path).parent.name == ["hat", "shoes"][c] for path, c in zip(X, y, strict=True))


@pytest.mark.usefixtures("in_this_process")
def test_quality_script_gives_an_encoder_to_our_estimators(script, photographs, tmp_path, capsys):
    results = tmp_path / "results.jsonl"
    arguments = ["--sets", "clothing-photos", "--data-folder", photographs, "--seeds", 0]
    arguments += ["--processes", 1, "--results", results, "--encoder", "hog", "--image-size", 32]
    script("quality", *arguments, "--methods", "CC max_epochs=2")
    (run,) = map(json.loads, results.read_text("utf-8").splitlines())
    assert run["task"] == run["method"] == "CC max_epochs=2 encoder=hog image_size=32"
    head, _, row = capsys.readouterr().out.strip().splitlines()[-3:]
    assert head.split("|")[-2].strip() == run["task"]
    assert row.split("|")[-2].strip().startswith(f"{run['NMI']:.3f} ")


def test_quality_script_refuses_baselines_on_image_files(script, photographs, capsys):
    arguments = ["--sets", "clothing-photos", "--data-folder", photographs]
    with pytest.raises(SystemExit):
        script("quality", *arguments, "--methods", "CC", "KMeans raw")
    assert "image files can be clustered by CC" in capsys.readouterr().err


# ---- confidence


def test_calibration_script_writes_a_table_and_a_picture_and_fits_once(script, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--sets", "wine", "--results", tmp_path / "results.jsonl"]
    script("calibration", *arguments)
    before = (tmp_path / "results.jsonl").read_text("utf-8")
    script("calibration", *arguments, "--picture", tmp_path / "reliability.png")
    assert (tmp_path / "results.jsonl").read_text("utf-8") == before
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.width <= 1400
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[-1].startswith("| wine | 178 | ")
    assert len({line.count("|") for line in lines}) == 1


def test_confidence_equal_to_the_share_of_right_samples_has_no_error(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    calibration = __import__("calibration")
    labels = np.repeat([0, 1], 50)
    classes = np.where(np.arange(100) % 5 == 4, 0, 1 - labels)  # a fifth of cluster 0 is wrong
    right, shares = calibration.judged(labels, classes)
    assert right.sum() == 90
    assert shares[[0, 4, 99]].tolist() == [0.8, 0.2, 1.0]
    measured = calibration.trusted(np.where(labels == 0, 0.8, 1.0), right, shares)
    assert measured["error, matched"] == pytest.approx(0)
    assert measured["error, pairs"] == pytest.approx(0.5 * (0.8 - 0.68))
    assert (measured["sure"], measured["right of sure"]) == (0.5, 1.0)
    assert measured["AUROC"] == pytest.approx(0.5 + 0.5 * 50 / 90)
    sure = calibration.trusted(np.ones(100), right, shares)
    assert sure["error, matched"] == pytest.approx(0.1)
