"""The table on standard output, and copies."""

import os
import subprocess
import sys

import numpy as np
from command_line import FAST, code_and_message
from PIL import Image
from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering


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
