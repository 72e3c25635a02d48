"""What differs between operating systems and installations, as far as Linux can show it."""

import ast
import ntpath
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import deepcluster_sk
from deepcluster_sk._inspection import names
from deepcluster_sk._inspection.names import short_paths
from deepcluster_sk._runtime import file_format
from deepcluster_sk._runtime.distributed import Place, placed
from deepcluster_sk._runtime.file_format import read_file, write_file
from deepcluster_sk._training.interrupts import Interrupts

PACKAGE = Path(deepcluster_sk.__file__).parent
ROOT = PACKAGE.parent
FOLDERS = ("deepcluster_sk", "tests", "benchmarks", "examples")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SOURCES += [path for path in (ROOT / "docs" / "conf.py", ROOT / "conftest.py") if path.exists()]


# ---- text in files


def without_encoding(tree):
    """Lines that read or write text in whatever encoding the machine prefers."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if opens_text(call) and not has_encoding(call)]


def opens_text(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if name in ("read_text", "write_text"):
        return True
    if name != "open" or ast.unparse(call.func) in ("Image.open", "os.open", "tarfile.open"):
        return False
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    mode = given.get("mode", dict(enumerate(call.args)).get(0 if hasattr(call.func, "attr") else 1))
    return mode is None or "b" not in ast.unparse(mode)


def has_encoding(call):
    places = {"read_text": 0, "write_text": 1}  # where the encoding is without its name
    place = places.get(getattr(call.func, "attr", None), 9)
    return len(call.args) > place or any(keyword.arg == "encoding" for keyword in call.keywords)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_in_files_has_an_encoding(path):
    assert without_encoding(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("open(path)", True),
        ("open(path, 'w', newline='')", True),
        ("path.open('a')", True),
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(path, 'rb')", False),
        ("path.open(mode='wb')", False),
        ("open(path, encoding='utf-8')", False),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text, 'utf-8')", False),
        ("Image.open(path)", False),
    ],
)
def test_made_up_text_is_judged(code, is_found):
    assert bool(without_encoding(ast.parse(code))) == is_found


# ---- names of files


@pytest.fixture
def on_windows(monkeypatch):
    """Let names be those of Windows."""
    monkeypatch.setattr(names, "os", SimpleNamespace(path=ntpath, PathLike=os.PathLike))


def test_paths_on_several_drives_keep_the_drive(on_windows):
    paths = [r"C:\photos\a.png", r"D:\photos\a.png", r"\\server\share\a.png"]
    assert short_paths(paths) == [r"C\photos\a.png", r"D\photos\a.png", r"server\share\a.png"]


def test_paths_on_one_drive_lose_what_they_share(on_windows):
    assert short_paths([r"C:\photos\x\a.png", r"c:\Photos\y\a.png"]) == [r"x\a.png", r"y\a.png"]


# ---- files that are in use


def test_a_file_that_was_read_can_be_changed(tmp_path):
    path = tmp_path / "file"
    write_file(path, {}, {"x": torch.arange(1000.0)})
    _, tensors = read_file(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(tensors["x"], torch.arange(1000.0))


@pytest.mark.parametrize("n_refused", [0, 2, 3])
def test_a_file_that_is_open_for_a_moment_is_replaced(n_refused, tmp_path, monkeypatch):
    replace, attempts = Path.replace, []

    def refuse_at_first(path, target):
        attempts.append(target)
        if len(attempts) <= n_refused:
            raise PermissionError("open in another program")
        return replace(path, target)

    monkeypatch.setattr(file_format, "_PAUSES", (0, 0))
    monkeypatch.setattr(Path, "replace", refuse_at_first)
    path = tmp_path / "file"
    if n_refused < 3:
        write_file(path, {}, {"x": torch.ones(2)})
        assert torch.equal(read_file(path)[1]["x"], torch.ones(2))
    else:
        with pytest.raises(PermissionError, match="open in another program"):
            write_file(path, {}, {"x": torch.ones(2)})
        assert not list(tmp_path.iterdir())
    assert len(attempts) == min(n_refused, 2) + 1


# ---- Ctrl-C


def test_a_handler_that_python_did_not_set_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was set"))
    with placed(Place(0, 2)), Interrupts().deferred(), Interrupts().waiting():
        pass


# ---- a copy of the package that nobody installed

WITHOUT_METADATA = """
import importlib.metadata as metadata, sys

def missing(name):
    raise metadata.PackageNotFoundError(name)

metadata.version = metadata.distribution = missing
import deepcluster_sk
from deepcluster_sk import ContrastiveClustering, load, report
from sklearn.datasets import load_digits
assert deepcluster_sk.__file__.startswith(sys.argv[1]), deepcluster_sk.__file__
X = load_digits().images[:60]
model = ContrastiveClustering(2, max_epochs=1, random_state=0).fit(X)
report(model, X, f"{sys.argv[1]}/report.html")
model.save(f"{sys.argv[1]}/model")
assert (load(f"{sys.argv[1]}/model").predict(X) == model.labels_).all()
"""


def test_a_copy_without_metadata_works(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "deepcluster_sk")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_METADATA, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert deepcluster_sk.__version__ in (tmp_path / "report.html").read_text("utf-8")


def test_no_module_asks_for_metadata():
    asking = [p for p in PACKAGE.rglob("*.py") if "importlib.metadata" in p.read_text("utf-8")]
    assert asking == []
