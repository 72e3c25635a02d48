"""Options, wrong usage and help."""

import subprocess
import sys

import pytest
from command_line import FAST, PRETRAINED, code_and_message, files_below

import deepcluster_sk
from deepcluster_sk._cli import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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
