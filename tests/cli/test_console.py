"""Messages on standard error."""

import argparse
import contextlib
import io
import os
import sys
import warnings

import pytest
from command_line import FAST

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._cli.console import in_own_words, say

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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
    say(argparse.Namespace(quiet=False), "wrote caf\xe9\udce9")
    file.flush()
    assert file.buffer.getvalue().strip() == rb"deepcluster-sk: wrote caf\xe9\udce9"


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


@pytest.mark.skipif(sys.platform == "win32", reason="closed pipes are another error there")
def test_a_reader_that_ends_first_is_no_error(photos, monkeypatch, capsys):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["fit", str(photos), *FAST, "--quiet"]) == 141
    assert capsys.readouterr().err == ""


def test_paths_in_messages_stay_as_they_are():
    text = "'photos/device=cuda.jpg' cannot be read. Lower batch_size=3 or pass device='cpu'"
    expected = "'photos/device=cuda.jpg' cannot be read. Lower batch_size=3 or pass --device 'cpu'"
    assert in_own_words(text) == expected
