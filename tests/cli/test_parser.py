"""Options, wrong usage and help."""

import subprocess
import sys

import pytest
from command_line import FAST, PRETRAINED, code_and_message, files_below

import deepcluster_sk
from deepcluster_sk._cli import main
from deepcluster_sk._cli.parser import parse

COMMANDS = ["fit", "predict", "report", "evaluate", "similar", "duplicates", "completion"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--n-clusters"),
        (["--n-clusters", "0"], "'0', expected auto, or an integer from 1 on"),
        (["--n-clusters", "many"], "'many', expected auto, or an integer from 1 on"),
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
        (
            [*FAST, "--out", "x.xlsx"],
            "'.xlsx', which is no kind of table that can be written; e",
        ),
        ([*FAST, "--out", "absent/x"], "its folder does not exist. Create the folder first."),
        ([*FAST, "--max-epochs", "0"], "'0', expected a positive integer, such as 10"),
        ([*FAST, "--id-column", "a"], "--id-column: 'photos' is no table with columns; expected"),
        ([*FAST, "--id-column", "a", "--drop-column", "b"], "--id-column and --drop-column: 'ph"),
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
    ("arguments", "usage", "error"),
    [
        ([], "COMMAND ...", "COMMAND is missing."),
        (["fut"], "COMMAND ...", "unknown command 'fut'. Expected one of fit, predict, report,"),
        (["fut"], "COMMAND ...", " Did you mean fit?"),
        (["fit"], "fit SOURCE... --n-clusters K [options]", "SOURCE and --n-clusters are missing."),
        (["predict"], "predict MODEL SOURCE... [options]", "MODEL and SOURCE are missing."),
        (["report", "m"], "report MODEL SOURCE... [options]", "SOURCE is missing."),
        (["evaluate", "m"], "evaluate MODEL FOLDER [options]", "FOLDER is missing."),
        (
            ["similar", "m", "x"],
            "similar MODEL SOURCE... --query FILE... [options]",
            "--query is missing.",
        ),
        (["duplicates"], "duplicates MODEL SOURCE... [options]", "MODEL and SOURCE are missing."),
        (["completion"], "completion SHELL", "SHELL is missing."),
        (
            ["predict", "m", "x", "--outt", "y"],
            "predict MODEL SOURCE... [options]",
            "unknown option '--outt'. Did you mean --out?",
        ),
        (
            ["fit", "x", "--nclusters=3"],
            "fit SOURCE... --n-clusters K [options]",
            "unknown option '--nclusters'. Did you mean --n-clusters?",
        ),
        (
            ["fit", "x", "--n-clusters", "3", "y"],
            "fit SOURCE... --n-clusters K [options]",
            "'y' stands apart from the sources, or is one too many. Name all sources one after",
        ),
        (
            ["fit", "x", "--n-clusters"],
            "fit SOURCE... --n-clusters K [options]",
            "--n-clusters has no value. Put one after it.",
        ),
        (
            ["fit", "x", "--n-clusters", "2", "--seed", "a"],
            "fit SOURCE... --n-clusters K [options]",
            "--seed: invalid int value: 'a'",
        ),
    ],
)
def test_errors_are_short_and_say_where_to_read_on(arguments, usage, error, capsys):
    code, text = code_and_message(arguments, capsys)
    assert code == 2
    first, second, third = text.splitlines()
    assert first == f"usage: deepcluster-sk {usage}"
    assert second.startswith("deepcluster-sk: error: ")
    assert error in second
    name = " ".join(["deepcluster-sk", *arguments[:1]]) if usage[0].islower() else "deepcluster-sk"
    assert third == f"{name} --help lists the options."


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_short_usage_and_an_example(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    usage = text.splitlines()[0]
    assert usage.startswith(f"usage: deepcluster-sk {command} ")
    assert len(usage) < 80
    assert f"example: deepcluster-sk {command} " in " ".join(text.split())


def test_the_number_of_clusters_may_be_left_to_the_data():
    assert parse(["fit", "x", "--n-clusters", "auto"]).n_clusters == "auto"
    assert parse(["fit", "x", "--n-clusters", "7"]).n_clusters == 7


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["--version"], ["fit"]])
def test_help_and_wrong_usage_import_nothing_that_takes_its_time(arguments):
    code = (
        f"import runpy, sys; sys.argv[1:] = {arguments}\n"
        "try: runpy.run_module('deepcluster_sk', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numpy', 'scipy', 'sklearn', 'PIL', 'pandas', 'joblib'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
