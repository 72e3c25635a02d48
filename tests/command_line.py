"""Running the command in a test."""

import csv
import os

from deepcluster_sk._cli import main

FAST = ["--max-epochs", "2", "--n-clusters", "3"]

PRETRAINED = "torchvision/shufflenet_v2_x0_5"


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_below(folder):
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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
