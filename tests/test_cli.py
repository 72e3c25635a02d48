"""The command line, called in this process and, where the process matters, in another one."""

import argparse
import contextlib
import csv
import errno
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import _in_own_words, _read_csv, _say, main
from deepcluster_sk._pretrained import PretrainedEncoder
from deepcluster_sk._training.epochs import Epochs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def array(values):
    """A file of an array, as bytes."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def archive(values):
    file = io.BytesIO()
    np.savez(file, X=values)
    return file.getvalue()


NPY, NPZ = array(np.eye(9)), archive(np.eye(9))
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


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of random weights of a network of torchvision."""
    path = tmp_path_factory.mktemp("weights") / "shufflenet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.shufflenet_v2_x0_5().state_dict(), path)
    return path


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
        ("text.csv", b"a,b\n1,red\n", "not a table of numbers: 'red' in line 2, column 2. Leave"),
        ("latin.csv", b"gr\xf6sse,b\n1,2\n", "is not text in UTF-8: invalid start byte at byte 2"),
        ("empty.csv", b"", "holds no rows; expected comma-separated numbers"),
        ("heads.csv", b"a,b\n", "holds no rows"),
        ("few.csv", b"1,2\n3,4\n", "n_samples=2 should be >= --n-clusters 3"),
        ("nan.csv", b"1,2\n3,nan\n4,5\n", "contains NaN in row 1"),
        (
            "damaged.npy",
            b"no array",
            "damaged.npy' cannot be read: the magic string is not correct",
        ),
        ("empty.npy", b"", "empty.npy' cannot be read: EOF: reading magic string"),
        ("cut.npy", NPY[:40], "cut.npy' cannot be read: EOF: reading array header"),
        ("header.npy", NPY[:10] + b"{'descr': [[['" + NPY[24:], "header.npy' cannot be read: "),
        ("empty.npz", b"", "empty.npz' cannot be read: File is not a zip file"),
        ("damaged.npz", NPZ[:-100], "damaged.npz' cannot be read: File is not a zip file"),
        (
            "flipped.npz",
            NPZ[:300] + b"xxx" + NPZ[303:],
            "cannot be read: Bad CRC-32 for file 'X.npy'",
        ),
        (
            "scalar.npy",
            array(np.float64(3)),
            "holds an array of shape () and dtype float64, expected",
        ),
        ("complex.npy", array(np.eye(4) + 1j), "dtype complex128, expected rows or images of real"),
        (
            "words.npy",
            array(np.array(["a", "b"])),
            "dtype <U1, expected rows or images of real numb",
        ),
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


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2", "1+2j,3"], "'1+2j' in line 2, column 1"),
        (["1+2j,3", "1,2"], "'1+2j' in line 1, column 1"),
        (["2j,3", "1,2"], "'2j' in line 1, column 1"),
        (["(1+2j),a", "1,2"], "'(1+2j)' in line 1, column 1"),
        (["0x10,3", "1,2"], "'0x10' in line 1, column 1"),
        (["a,b", "", "# c", "0x10,3"], "'0x10' in line 4, column 1"),
        (["1,2020-01-01"] * 2, "'2020-01-01' in line 2, column 2"),
        (["1.5,2020-01-01", "1,2"], "'2020-01-01' in line 1, column 2"),
        (['"1,234",3', "1,2"], "'1,234' in line 1, column 1"),
        (["1,2", "1,234,3"], "line 2 has 3 columns, those above have 2"),
        (["1", "1,2"], "line 2 has 2 columns, those above have 1"),
        (["1,", "1,2"], "'' in line 1, column 2"),
        (["1,2", ",2"], "'' in line 2, column 1"),
        (["1,2", "1.5#2,3"], "'1.5#2' in line 2, column 1"),
        (["1,2", "NA,3"], "'NA' in line 2, column 1"),
        (["1_000,2", "1,3"], "'1_000' in line 1, column 1"),
        (["1,2", "\uff11,3"], "'\uff11' in line 2, column 1"),
        (["1,5;2,5", "1,5;2,5"], "'5;2' in line 2, column 2"),
        (["1,2", '"' + "a" * 200_000], "'\"aaaaa"),
    ],
)
def test_what_is_no_number_is_named_with_its_line(lines, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        ValueError, match=r"is not a table of numbers: .*, and write numbers as 1234"
    ) as e:
        _read_csv(str(path))
    assert f": {message}" in str(e.value)


@pytest.mark.parametrize(
    "lines",
    [
        ["a,j", "1,2.5", "-3,4e2"],
        ["id,2019", "1,2.5", "-3,4e2"],
        [",0", "1,2.5", "-3,4e2"],
        ["# a,b", "1,2.5", "", "# and", "-3,4e2", "  "],
        ['"1","2.5"', " -3 , 4e2 "],
        ["\ufeff1,2.5\r", "-3,4e2\r"],
    ],
)
def test_tables_with_names_comments_and_quotes_are_read(lines, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("\n".join(lines).encode())
    np.testing.assert_array_equal(_read_csv(str(path)), [[1, 2.5], [-3, 400]])


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".png"])
def test_a_pipe_is_not_waited_for(suffix, tmp_path, capsys):
    os.mkfifo(tmp_path / f"x{suffix}")
    code, text = code_and_message(["fit", tmp_path / f"x{suffix}", *FAST], capsys)
    assert code == 1
    if suffix == ".png":
        assert "a named pipe, expected a regular file" in text
    else:
        assert "is a named pipe. Pass a regular file with the rows or images" in text


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


def test_another_name_of_an_input_is_never_overwritten(photos, tmp_path, capsys):
    rows, model = tmp_path / "rows.npy", tmp_path / "model.part"
    np.save(rows, np.random.default_rng(0).normal(size=(30, 3)))
    ContrastiveClustering(2, max_epochs=1).fit(np.load(rows)).save(model)
    photo = photos / "odd" / "03.png"
    for original in (rows, photo, model):
        os.link(original, tmp_path / f"link-{original.name}")
    before = files_below(tmp_path)
    for command, original in (
        (["fit", rows, *FAST], rows),
        (["fit", photos, *FAST], photo),
        (["fit", photo.parent, *FAST, "--on-error", "skip"], photo),
        (["predict", model, rows], model),
        (["predict", model, rows], rows),
    ):
        for option in ("--out", "--report", *(["--save"] if command[0] == "fit" else [])):
            arguments = [*command, option, tmp_path / f"link-{original.name}"]
            code, text = code_and_message(arguments, capsys)
            assert code == 2
            assert "is an input as well, which would be overwritten" in text
    photo.rename(tmp_path / "x.part")  # the name that x has while it is written
    before = files_below(tmp_path)
    arguments = ["fit", tmp_path / "x.part", photos, *FAST, "--save", tmp_path / "x"]
    assert code_and_message(arguments, capsys)[0] == 2
    assert files_below(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such files in folders")
@pytest.mark.parametrize(("option", "at"), [("--save", 0), ("--report", 0), ("--out", 1)])
def test_only_a_table_is_written_to_what_is_no_regular_file(option, at, photos, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("socket")
    (tmp_path / "device").symlink_to("/dev/null")  # a link, which a mistake may replace
    kinds = [(tmp_path / "device", "a character device"), (tmp_path / "pipe", "a named pipe")]
    for target, kind in [*kinds, (tmp_path / "socket", "a socket")][2 * at :]:
        code, text = code_and_message(["fit", photos, *FAST, option, target], capsys)
        assert code == 2
        assert f"{option} '{target}' is {kind}, expected the name of a file" in text


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout here")
def test_a_table_may_go_to_a_device_or_a_pipe(photos):
    command = [sys.executable, "-m", "deepcluster_sk", "fit", str(photos), *FAST, "--quiet"]
    device = os.stat("/dev/null")
    for target, n_lines in (("/dev/stdout", 61), ("/dev/null", 0)):
        done = subprocess.run([*command, "--out", target], capture_output=True, check=True)
        assert len(done.stdout.splitlines()) == n_lines
    assert os.stat("/dev/null").st_rdev == device.st_rdev


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_messages_escape_what_standard_error_cannot_encode(encoding, photos, monkeypatch):
    for arguments in (["caf\xe9\udce9"], [str(photos), "--out", "caf\xe9\udce9/x"]):
        file = io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
        monkeypatch.setattr(sys, "stderr", file)
        with contextlib.suppress(SystemExit):
            assert main(["fit", *arguments, *FAST]) == 1
        file.flush()
        assert rb"\udce9" in file.buffer.getvalue()


def test_a_progress_message_escapes_what_standard_error_cannot_encode(monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict")
    monkeypatch.setattr(sys, "stderr", file)
    _say(argparse.Namespace(quiet=False), "wrote caf\xe9\udce9")
    file.flush()
    assert file.buffer.getvalue().strip() == rb"deepcluster-sk: wrote caf\xe9\udce9"


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
        return finish(self, objective)

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


PRETRAINED = "torchvision/shufflenet_v2_x0_5"


def test_a_pretrained_encoder_is_named_in_fit_and_opens_by_itself(photos, weights, tmp_path):
    arguments = ["--encoder", f"{PRETRAINED}:{weights}", "--image-size", "32", "--seed", "1"]
    assert (
        main(["fit", str(photos), *FAST, *arguments, "--save", str(tmp_path / "m"), "--quiet"]) == 0
    )
    out = tmp_path / "again.csv"
    assert main(["predict", str(tmp_path / "m"), str(photos), "--out", str(out)]) == 0
    model = deepcluster_sk.load(tmp_path / "m")
    assert [int(row["cluster"]) for row in rows_of(out)] == model.labels_.tolist()
    assert (model.random_state, model.encoder_.size) == (1, (32, 32))
    assert model.input_shape_[:2] == (37, 37)  # with the margin of torchvision: .875 of it is seen


def test_features_are_computed_once_for_training_table_and_report(
    photos, weights, tmp_path, monkeypatch
):
    seen = []
    forward = PretrainedEncoder.forward
    monkeypatch.setattr(
        PretrainedEncoder, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1]
    )
    arguments = ["fit", str(photos), *FAST, "--encoder", f"{PRETRAINED}:{weights}", "--quiet"]
    arguments += ["--image-size", "32", "--report", str(tmp_path / "report.html")]
    for _ in range(2):
        seen.clear()
        assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    assert sum(seen) < 20  # the second time, a few samples that try the encoder out
    seen.clear()
    assert main(arguments) == 0
    assert 60 <= sum(seen) < 80


def test_an_encoder_of_a_module_is_passed_to_fit_and_predict(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "from torch import nn\n\n\ndef make():\n    return nn.Flatten()\n"
    (tmp_path / "own_encoders.py").write_text(code, "utf-8")
    arguments = ["--encoder", "own_encoders:make", "--set", "freeze_encoder=True", "--quiet"]
    assert main(["fit", str(photos), *FAST, *arguments, "--save", "model"]) == 0
    assert main(["predict", "model", str(photos), "--encoder", "own_encoders:make"]) == 0
    capsys.readouterr()
    assert main(["predict", "model", str(photos)]) == 1
    assert "returns it, as --encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encoder", "code", "message"),
    [
        ("torchvision/resnet_18", 1, "error: --encoder 'torchvision/resnet_18' is unknown"),
        (f"{PRETRAINED}:nothing.pt", 1, "There is no file of weights 'nothing.pt'"),
        ("no_such_module:make", 2, "the module 'no_such_module' cannot be imported"),
        ("os.path:nothing", 2, "'os.path' has no function 'nothing'"),
    ],
)
def test_encoders_are_checked_before_images_are_read(photos, encoder, code, message, capsys):
    (photos / "broken.png").write_bytes(b"no image")
    arguments = ["fit", str(photos), *FAST, "--encoder", encoder]
    if code == 2:
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    else:
        assert main(arguments) == code
    text = " ".join(capsys.readouterr().err.split())
    assert message in text
    assert "broken.png" not in text


def test_paths_in_messages_stay_as_they_are():
    text = "'photos/device=cuda.jpg' cannot be read. Lower batch_size=3 or pass device='cpu'"
    expected = "'photos/device=cuda.jpg' cannot be read. Lower batch_size=3 or pass --device 'cpu'"
    assert _in_own_words(text) == expected


def test_predict_refuses_a_name_for_the_encoder(tmp_path, photos, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(tmp_path / "m"), str(photos), "--encoder", PRETRAINED])
    assert "opens by itself" in capsys.readouterr().err
