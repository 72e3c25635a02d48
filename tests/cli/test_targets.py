"""What may be overwritten, and what may not."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from command_line import FAST, code_and_message, files_below

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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
    arguments = ["fit", str(photos), *FAST, "--quiet", "--out"]
    command = [sys.executable, "-m", "deepcluster_sk", *arguments, "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert len(done.stdout.splitlines()) == 61
    device = os.stat("/dev/null")
    assert main([*arguments, "/dev/null"]) == 0
    assert os.stat("/dev/null").st_rdev == device.st_rdev


def test_names_in_upper_and_lower_case_are_one_on_macos(photos, tmp_path, monkeypatch, capsys):
    arguments = ["fit", photos, *FAST, "--out", tmp_path / "a", "--report", tmp_path / "A"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert code_and_message(arguments, capsys)[0] == 2
    monkeypatch.undo()
    assert main([str(argument) for argument in arguments]) == 0


def test_numbers_cannot_be_copied_nor_mixed_with_images(photos, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.eye(4))
    rows = tmp_path / "rows.npy"
    code, text = code_and_message(["fit", rows, *FAST, "--copy-to", tmp_path / "new"], capsys)
    assert code == 2
    assert "--copy-to copies image files" in text
    code, text = code_and_message(["fit", rows, photos, *FAST], capsys)
    assert code == 2
    assert "2 sources with a .npy" in text
