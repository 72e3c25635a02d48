"""What is at a path, and that it is neither waited for nor replaced."""

import os
import socket
import stat
import sys
from contextlib import chdir

import pytest

from deepcluster_sk import ContrastiveClustering, load, report
from deepcluster_sk._runtime.file_format import read_file, replacing
from deepcluster_sk._runtime.files import special_kind, special_target

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="no pipes and devices in folders"),
]


@pytest.fixture
def special(tmp_path):
    """What is at a path, by kind; the devices are behind links, so that tests cannot lose them."""
    with socket.socket(socket.AF_UNIX) as server, chdir(tmp_path):
        server.bind("socket")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to(os.devnull)
    return {
        "a named pipe": tmp_path / "pipe",
        "a socket": tmp_path / "socket",
        "a folder": tmp_path / "folder",
        "a character device": tmp_path / "device",
    }


def test_kinds_have_names(special, tmp_path):
    assert {special_kind(path) for path in special.values()} == set(special)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert special_kind(tmp_path / "file") is special_kind(tmp_path / "link") is None
    assert special_target(tmp_path / "new") is None
    with pytest.raises(FileNotFoundError):
        special_kind(tmp_path / "new")


def test_only_regular_files_are_replaced(special, few_images, tmp_path):
    model = ContrastiveClustering(2, max_epochs=1, random_state=0, device="cpu").fit(few_images)
    before = {path: os.lstat(path) for path in special.values()}

    def write(path):
        with replacing(path) as temporary:  # as to_onnx does
            temporary.touch()

    for kind, path in special.items():
        for save in (model.save, write, lambda path: report(model, few_images, path)):
            with pytest.raises(OSError, match=f"' is {kind}, which a file never replaces. Pass th"):
                save(path)
        beside = tmp_path / path.name
        path.rename(f"{beside}.part")  # the name that a file has while it is written
        with pytest.raises(OSError, match=rf"part' is {kind}, which a file never replaces"):
            model.save(beside)
        os.rename(f"{beside}.part", path)
    assert {path: stat.S_IFMT(os.lstat(path).st_mode) for path in before} == {
        path: stat.S_IFMT(status.st_mode) for path, status in before.items()
    }


def test_only_regular_files_are_opened(special):
    for path in special.values():
        for opens in (load, read_file):
            with pytest.raises(FileNotFoundError, match=r"is not a file\. Pass the path of a file"):
                opens(path)
