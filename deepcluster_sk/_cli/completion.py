"""``deepcluster-sk completion``: a script for the shell, made by shtab from the parser."""

import argparse
import sys
from typing import Any

from .libraries import require
from .parser import make_parser

_FILES = ("SOURCE", "FOLDER", "MODEL", "FILE")


def run(arguments: argparse.Namespace) -> None:
    """Print the script."""
    require("completion", "shtab")
    import shtab

    parser = make_parser()
    _mark_files(parser, shtab)
    sys.stdout.write(shtab.complete(parser, shell=arguments.shell))


def _mark_files(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Say which arguments are files or folders, here and in all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command, shtab)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
