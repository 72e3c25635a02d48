"""The command line, called in this process and, where the process matters, in another one."""

import csv
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._training.epochs import Epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = ["--max-epochs", "2", "--n-clusters", "3"]


@pytest.fixture
def photos(tmp_path):
    """60 digits as files in two folders, with equal names in both; and a file of text."""
    for i, image in enumerate(load_digits().images[:60]):
        folder = tmp_path / "photos" / ("even" if i % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{i // 2:02}.png")
    (tmp_path / "photos" / "notes.txt").write_text("no image", "utf-8")
    return tmp_path / "photos"


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_below(folder):
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_fit_writes_clusters_report_model_and_copies(photos, tmp_path, capsys):
    before = files_below(photos)
    targets = {name: tmp_path / name for name in ("clusters.csv", "report.html", "model.dcsk")}
    arguments = ["fit", str(photos), *FAST, "--copy-to", str(tmp_path / "sorted")]
    for option, target in zip(("--out", "--report", "--save"), targets.values(), strict=True):
        arguments += [option, str(target)]
    assert main(arguments) == 0

    model = deepcluster_sk.load(targets["model.dcsk"])
    rows = rows_of(targets["clusters.csv"])
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {os.path.relpath(row["path"], photos) for row in rows} == set(before) - {"notes.txt"}
    np.testing.assert_array_equal([int(row["cluster"]) for row in rows], model.labels_)
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    assert "even/00.png" in targets["report.html"].read_text("utf-8")

    copies = files_below(tmp_path / "sorted")
    for row in rows:
        name = os.path.relpath(row["path"], photos)
        assert copies.pop(os.path.join(f"cluster_{row['cluster']}", name)) == before[name]
    assert not copies
    assert files_below(photos) == before

    output = capsys.readouterr()
    assert output.out == ""
    assert "60 images" in output.err
    assert "100%" in output.err  # the progress bar
    for target in targets.values():
        assert f"wrote {target}" in output.err


def test_predict_assigns_as_the_model_does_and_writes_to_standard_output(photos, tmp_path, capsys):
    model = tmp_path / "model.dcsk"
    assert main(["fit", str(photos), *FAST, "--save", str(model), "--quiet"]) == 0
    fitted = capsys.readouterr()
    assert fitted.err == ""
    assert main(["predict", str(model), str(photos)]) == 0
    predicted = capsys.readouterr()
    assert predicted.out == fitted.out
    assert predicted.out.startswith("path,cluster,confidence\n")
    assert "members" in predicted.err
    some = [str(photos / "odd" / "03.png"), str(photos / "even" / "01.png")]
    assert main(["predict", str(model), *some, some[0]]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == [line for path in some for line in fitted.out.splitlines() if path in line]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("contrastive", "ContrastiveClustering"),
        ("twin-contrast", "TwinContrastClustering"),
        ("deep-robust", "DeepRobustClustering"),
        ("cluster-contrast", "ClusterContrast"),
    ],
)
def test_every_method_and_parameter_can_be_chosen(method, name, tmp_path, few_images, capsys):
    np.save(tmp_path / "images.npy", few_images)
    arguments = ["fit", str(tmp_path / "images.npy"), *FAST, "--method", method, "--quiet"]
    arguments += ["--set", "batch_size=30", "--set", "optimizer=sgd", "--random-state", "3"]
    assert main([*arguments, "--save", str(tmp_path / "model")]) == 0
    model = deepcluster_sk.load(tmp_path / "model")
    assert type(model).__name__ == name
    assert (model.batch_size, model.optimizer, model.random_state) == (30, "sgd", 3)
    assert capsys.readouterr().out.startswith("row,cluster,confidence\n0,")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_files_of_rows_are_clustered(suffix, blobs, tmp_path, capsys):
    X, _ = blobs
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    elif suffix == ".npz":
        np.savez(path, X=X, y=np.zeros(len(X)))
    else:
        np.savetxt(path, X, delimiter=",", header="a,b,c,d,e", comments="", fmt="%.18e")
    assert main(["fit", str(path), *FAST, "--quiet"]) == 0
    labels = [int(line.split(",")[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    expected = ContrastiveClustering(3, max_epochs=2, random_state=0).fit(X).labels_
    np.testing.assert_array_equal(labels, expected)


def test_csv_without_names_keeps_its_first_row(tmp_path, capsys):
    np.savetxt(tmp_path / "rows.csv", np.random.default_rng(0).normal(size=(20, 3)), delimiter=",")
    assert main(["fit", str(tmp_path / "rows.csv"), *FAST, "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 21


def code_and_message(arguments, capsys):
    """Run a command that fails: its exit code and what it prints."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    assert output.out == ""
    assert "Traceback" not in output.err
    return code, output.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.csv", b"a,b\n1,red\n", "not a table of numbers: could not convert string 'red'"),
        ("latin.csv", b"gr\xf6sse,b\n1,2\n", "is not text in UTF-8: invalid start byte at byte 2"),
        ("empty.csv", b"", "holds no rows; expected comma-separated numbers"),
        ("heads.csv", b"a,b\n", "holds no rows"),
        ("few.csv", b"1,2\n3,4\n", "n_samples=2 should be >= n_clusters=3"),
        ("nan.csv", b"1,2\n3,nan\n4,5\n", "contains NaN in row 1"),
        ("damaged.npy", b"no array", "deepcluster-sk: error: "),
        ("absent.npy", None, "No such file"),
        ("absent", None, "there is no file or folder"),
        ("a folder", "folder", "holds no image files"),
    ],
)
def test_data_that_cannot_be_used_end_with_1(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, text = code_and_message(["fit", path, *FAST, "--quiet"], capsys)
    assert code == 1
    assert message in text
    assert text.startswith("deepcluster-sk: error: ")


def test_archive_of_several_arrays_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3))
    code, text = code_and_message(["fit", tmp_path / "two.npz", *FAST], capsys)
    assert code == 1
    assert "holds 2 arrays (a, b); expected one, or one named 'X'" in text


def test_pickled_array_is_refused(tmp_path, capsys):
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object))
    code, text = code_and_message(["fit", tmp_path / "objects.npy", *FAST], capsys)
    assert code == 1
    assert "Python objects" in text


def test_file_that_is_no_model_ends_with_1(photos, tmp_path, capsys):
    (tmp_path / "model.dcsk").write_bytes(b"nothing")
    code, text = code_and_message(["predict", tmp_path / "model.dcsk", photos], capsys)
    assert code == 1
    assert "model.dcsk" in text
    assert code_and_message(["predict", tmp_path / "absent", photos], capsys)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--n-clusters"),
        (["--n-clusters", "0"], "'0', expected an integer of at least 1"),
        (["--n-clusters", "many"], "'many', expected an integer of at least 1"),
        ([*FAST, "--method", "kmeans"], "invalid choice: 'kmeans'"),
        ([*FAST, "--image-size", "8x"], "'8x', expected pixels such as 64"),
        ([*FAST, "--set", "batch_size"], "'batch_size', expected NAME=VALUE"),
        ([*FAST, "--set", "epochs=3"], "ContrastiveClustering has no parameter 'epochs'. It has: "),
        ([*FAST, "--out", "absent/x.csv"], "'absent/x.csv': its folder does not exist"),
        ([*FAST, "--save", "photos"], "'photos' is a folder"),
        ([*FAST, "--copy-to", "photos"], "is not an empty folder, and nothing is ever overwritten"),
        ([*FAST, "--copy-to", "photos/notes.txt"], "is not an empty folder"),
        ([*FAST, "--copy-to", "photos/sorted"], "is inside of 'photos'"),
        ([*FAST, "--out", "photos/odd/00.png"], "an input as well, which would be overwritten"),
        ([*FAST, "--out", "x", "--save", "./x"], "--save 'x' is --out as well"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_written(
    arguments, message, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    code, text = code_and_message(["fit", "photos", *arguments], capsys)
    assert code == 2
    assert message in text
    assert text.startswith("usage: deepcluster-sk fit")
    assert files_below(tmp_path) == before


def test_inputs_are_never_overwritten(photos, tmp_path, capsys):
    rows, model = tmp_path / "rows.csv", tmp_path / "model"
    np.savetxt(rows, np.random.default_rng(0).normal(size=(30, 3)), delimiter=",")
    before = rows.read_bytes()
    assert code_and_message(["fit", rows, *FAST, "--out", rows], capsys)[0] == 2
    arguments = ["fit", str(rows), *FAST, "--save", str(model), "--quiet"]
    assert main([*arguments, "--out", str(tmp_path / "x.csv")]) == 0
    code, text = code_and_message(["predict", model, rows, "--report", model], capsys)
    assert code == 2
    assert "is an input as well" in text
    assert rows.read_bytes() == before
    deepcluster_sk.load(model)


def test_a_file_that_may_not_be_written_is_refused_before_training(
    photos, tmp_path, monkeypatch, capsys
):
    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    opened, target = Path.open, tmp_path / "x.csv"
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    code, text = code_and_message(["fit", photos, *FAST, "--out", target], capsys)
    assert code == 2
    assert "cannot be written: Permission denied. Name a file that you may write to" in text
    target.write_text("old", "utf-8")
    monkeypatch.setattr(
        Path, "open", lambda path, *args: (refused if path == target else opened)(path, *args)
    )
    code, text = code_and_message(["fit", photos, *FAST, "--out", target], capsys)
    assert code == 2
    assert "cannot be written: Permission denied" in text
    monkeypatch.undo()
    assert target.read_text("utf-8") == "old"


def test_one_file_under_two_names_is_refused(photos, tmp_path, capsys):
    (tmp_path / "a").write_text("old", "utf-8")
    os.link(tmp_path / "a", tmp_path / "b")
    arguments = ["fit", photos, *FAST, "--out", tmp_path / "a", "--save", tmp_path / "b"]
    code, text = code_and_message(arguments, capsys)
    assert code == 2
    assert "b' is --out as well, which would be overwritten" in text


def test_names_in_upper_and_lower_case_are_one_on_macos(photos, tmp_path, monkeypatch, capsys):
    arguments = ["fit", photos, *FAST, "--out", tmp_path / "a", "--report", tmp_path / "A"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert code_and_message(arguments, capsys)[0] == 2
    monkeypatch.undo()
    assert main([str(argument) for argument in arguments]) == 0


def test_standard_output_takes_any_name_of_a_file(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["plain.png", "caf\xe9.png", "\u65e5\u672c.png"]
    if sys.platform == "linux":
        names.append("\udce9.png")  # a byte that is no UTF-8
    for name, image in zip(names, load_digits().images, strict=False):
        Image.fromarray((image * 15).astype(np.uint8)).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(folder / name)
    command = [sys.executable, "-m", "deepcluster_sk", "fit", str(folder), "--quiet"]
    command += ["--n-clusters", "2", "--max-epochs", "1"]
    expected = {
        "utf-8": [b"plain.png", b"caf\xc3\xa9.png", b"\xe6\x97\xa5\xe6\x9c\xac.png", b"\xe9.png"],
        "cp1252": [b"plain.png", b"caf\xe9.png", rb"\u65e5\u672c.png", b"\xe9.png"],
        "ascii": [b"plain.png", rb"caf\xe9.png", rb"\u65e5\u672c.png", b"\xe9.png"],
    }
    for encoding, lines in expected.items():
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        shown = {os.path.basename(line.split(b",")[0]) for line in done.stdout.splitlines()[1:]}
        assert shown == set(lines[: len(names)])


def test_a_command_in_a_thread_ends_as_in_the_main_one(photos, tmp_path):
    codes = []
    arguments = ["fit", str(photos), *FAST, "--quiet", "--out", str(tmp_path / "x.csv")]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]
    assert len(rows_of(tmp_path / "x.csv")) == 60


def test_numbers_cannot_be_copied_nor_mixed_with_images(photos, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.eye(4))
    rows = tmp_path / "rows.npy"
    code, text = code_and_message(["fit", rows, *FAST, "--copy-to", tmp_path / "new"], capsys)
    assert code == 2
    assert "--copy-to copies image files" in text
    code, text = code_and_message(["fit", rows, photos, *FAST], capsys)
    assert code == 2
    assert "2 sources with a .npy" in text


def test_a_copy_never_overwrites(photos, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new"
    arguments = ["fit", str(photos), *FAST, "--quiet", "--copy-to", str(folder)]
    fit = ContrastiveClustering.fit

    def someone_else_writes(self, X, y=None):
        for k in range(3):
            (folder / f"cluster_{k}" / "even").mkdir(parents=True)
            (folder / f"cluster_{k}" / "even" / "00.png").write_text("mine", "utf-8")
        return fit(self, X, y)

    monkeypatch.setattr(ContrastiveClustering, "fit", someone_else_writes)
    code, text = code_and_message(arguments, capsys)
    assert code == 1
    assert "File exists" in text
    assert {path.read_text("utf-8") for path in folder.glob("*/even/00.png")} == {"mine"}


def test_interruption_outside_of_training_ends_with_130(photos, tmp_path, monkeypatch, capsys):
    fit = ContrastiveClustering.fit

    def fit_and_interrupt(self, X):
        fit(self, X)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ContrastiveClustering, "fit", fit_and_interrupt)
    code, text = code_and_message(["fit", photos, *FAST, "--out", tmp_path / "x.csv"], capsys)
    assert code == 130
    assert text.endswith("deepcluster-sk: interrupted\n")
    assert not (tmp_path / "x.csv").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_training_ends_with_130_and_writes_its_last_epoch(
    photos, tmp_path, monkeypatch, capsys
):
    warnings.filterwarnings("default", "Training was interrupted")
    epochs = []

    def interrupt(self, *args, **kwargs):
        epochs.append(1)
        if len(epochs) == 3:
            signal.raise_signal(signal.SIGINT)
        return run(self, *args, **kwargs)

    run = Epochs.run
    monkeypatch.setattr(Epochs, "run", interrupt)
    arguments = ["fit", photos, "--n-clusters", "3", "--max-epochs", "9", "--save"]
    code, text = code_and_message([*arguments, tmp_path / "model", "--out", tmp_path / "x"], capsys)
    assert code == 130
    assert "interrupted: the estimator is that of epoch 2 of 9" in text
    assert deepcluster_sk.load(tmp_path / "model").n_iter_ == 2
    assert len(rows_of(tmp_path / "x")) == 60


@pytest.mark.filterwarnings("default:Ctrl-C came after:UserWarning")
def test_ctrl_c_after_the_last_epoch_lets_the_command_complete(
    photos, tmp_path, monkeypatch, capsys
):
    finish = Epochs.finish

    def interrupt_and_finish(self, objective):
        signal.raise_signal(signal.SIGINT)
        finish(self, objective)

    monkeypatch.setattr(Epochs, "finish", interrupt_and_finish)
    code, text = code_and_message(["fit", photos, *FAST, "--out", tmp_path / "x"], capsys)
    assert code == 0
    assert "warning: Ctrl-C came after the last epoch" in text
    assert len(rows_of(tmp_path / "x")) == 60
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("default:something is odd:UserWarning")
def test_warnings_are_one_line(photos, monkeypatch, capsys):
    fit = ContrastiveClustering.fit

    def warn(self, X, y=None):
        for level in (1, 2):
            warnings.warn("something is odd", UserWarning, stacklevel=level)
        return fit(self, X, y)

    monkeypatch.setattr(ContrastiveClustering, "fit", warn)
    assert main(["fit", str(photos), *FAST, "--quiet"]) == 0
    assert capsys.readouterr().err == "deepcluster-sk: warning: something is odd\n"


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["fit", "--help"], "usage: deepcluster-sk fit"),
        (["--version"], f"deepcluster-sk {deepcluster_sk.__version__}\n"),
    ],
)
def test_module_runs_as_a_command_and_help_needs_no_torch(arguments, output):
    code = (
        f"import runpy, sys; sys.argv[1:] = {arguments}\n"
        "try: runpy.run_module('deepcluster_sk', run_name='__main__')\n"
        "except SystemExit as stop: sys.exit(stop.code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(output)
