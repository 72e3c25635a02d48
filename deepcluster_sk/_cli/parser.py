"""The options of the commands. Nothing that takes its time is imported here, for a quick --help."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._version import __version__
from ..methods import METHODS, Method
from .argument_types import assignment, distance, n_clusters, positive, size
from .console import NAME, printable
from .wording import in_plain_words, is_missing, unknown_arguments

SHELLS = ("bash", "zsh", "fish")


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are short: usage in one line, what is wrong, where to read on."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the arguments, and keep them for an error."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments, and end with 2."""
        unknown = [name for name in self._given if name.startswith("--") and not self._takes(name)]
        if unknown and is_missing(message):  # likely a misspelt option of what is missing
            self.print_usage_error(unknown_arguments(unknown, self.options()))
        self.print_usage_error(in_plain_words(message))

    def options(self) -> list[str]:
        """Return the names of all options."""
        return [name for action in self._actions for name in action.option_strings]

    def _takes(self, argument: str) -> bool:
        """Tell whether an argument names an option, or begins like one."""
        name = argument.partition("=")[0]
        return any(option.startswith(name) for option in self.options())

    def print_usage_error(self, message: str) -> NoReturn:
        """Print an error that is already in the command's own words, and end with 2."""
        usage = f"{self.format_usage()}{NAME}: error: {printable(message)}\n"
        self.exit(2, f"{usage}{self.prog} --help lists the options.\n")


def methods() -> dict[str, Method]:
    """Return the registered methods by the names of ``--method``."""
    return {method.command_name: method for method in METHODS.values()}


def parse(argv: Any = None) -> argparse.Namespace:
    """Read the arguments; where they are wrong, say so and end with 2."""
    arguments, unknown = make_parser().parse_known_args(argv)
    if unknown:
        parser: CommandParser = arguments.parser
        parser.print_usage_error(unknown_arguments(unknown, parser.options()))
    return arguments


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    It sets `module`, the module of this folder that runs the command, and `parser`, the command's
    own one.
    """
    parser = CommandParser(
        NAME,
        usage=f"{NAME} COMMAND ...",
        description="Cluster images or rows without labels.",
        epilog=f"{NAME} COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, title="commands", prog=NAME, parser_class=CommandParser
    )
    for add in (_fit, _predict, _report, _evaluate, _similar, _duplicates, _completion):
        add(commands)
    return parser


def _command(commands: Any, name: str, arguments: str, text: str, example: str) -> CommandParser:
    """Add a command, whose module has its name."""
    parser: CommandParser = commands.add_parser(
        name,
        usage=f"{NAME} {name} {arguments}",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example: {NAME} {name} {example}",
    )
    parser.set_defaults(module=name, parser=parser)
    return parser


def _fit(commands: Any) -> None:
    fit = _command(
        commands,
        "fit",
        "SOURCE... --n-clusters K [options]",
        "train on images or rows and cluster them",
        "photos/ --n-clusters 10 --encoder timm/vit_small_patch14_dinov2.lvd142m --image-size 224 "
        "--out clusters.csv --report report.html --save model.dcsk",
    )
    _add_sources(fit)
    _add_training(fit)
    _add_clusters(fit)
    _add_machine(fit)


def _predict(commands: Any) -> None:
    predict = _command(
        commands,
        "predict",
        "MODEL SOURCE... [options]",
        "assign images or rows to the clusters of a saved model",
        "model.dcsk more_photos/ --out clusters.csv",
    )
    _add_model(predict)
    _add_sources(predict)
    _add_clusters(predict)
    _add_machine(predict)


def _report(commands: Any) -> None:
    report = _command(
        commands,
        "report",
        "MODEL SOURCE... [options]",
        "write a page for the browser that shows the clusters of a saved model",
        "model.dcsk photos/ --out report.html",
    )
    _add_model(report)
    _add_sources(report)
    report.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page; default: report.html",
    )
    report.add_argument(
        "--class-folders",
        action="store_true",
        help="the subfolders of SOURCE are known classes, which the page compares the clusters "
        "with",
    )
    _add_label_column(report)
    _add_machine(report)


def _evaluate(commands: Any) -> None:
    evaluate = _command(
        commands,
        "evaluate",
        "MODEL FOLDER [options]",
        "compare the clusters of a saved model with known classes",
        "model.dcsk labelled_photos/",
    )
    _add_model(evaluate)
    evaluate.add_argument(
        "source",
        metavar="FOLDER",
        help="a folder whose subfolders are the classes; or a table (.csv, .tsv, .parquet) with "
        "--label-column",
    )
    _add_columns(evaluate)
    _add_label_column(evaluate)
    _add_out(evaluate, "of all samples with their cluster and class; default: none")
    _add_details(evaluate)
    _add_machine(evaluate)


def _similar(commands: Any) -> None:
    similar = _command(
        commands,
        "similar",
        "MODEL SOURCE... --query FILE... [options]",
        "find the images or rows that are most like some others",
        "model.dcsk photos/ --query photos/dog.jpg --n 5",
    )
    _add_model(similar)
    _add_sources(similar)
    similar.add_argument(
        "--query",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="images, inside of SOURCE or not; of a table, numbers of rows from 0, or values of "
        "--id-column",
    )
    similar.add_argument(
        "--n", type=positive, default=10, metavar="N", help="answers per query; default: 10"
    )
    _add_out(similar, "of query, answer and cosine similarity; default: standard output")
    _add_machine(similar)


def _duplicates(commands: Any) -> None:
    duplicates = _command(
        commands,
        "duplicates",
        "MODEL SOURCE... [options]",
        "find groups of images or rows that are nearly the same",
        "model.dcsk photos/ --out duplicates.csv",
    )
    _add_model(duplicates)
    _add_sources(duplicates)
    duplicates.add_argument(
        "--threshold",
        type=distance,
        default="auto",
        metavar="T",
        help="cosine distance, from 0 to 2, below which two are nearly the same; 0 finds only "
        "equal ones; default: auto, by the data",
    )
    _add_out(duplicates, "of group and member; default: standard output")
    _add_machine(duplicates)


def _completion(commands: Any) -> None:
    completion = _command(
        commands,
        "completion",
        "SHELL",
        "print a script with which a shell completes commands, options and files",
        "bash > ~/.local/share/bash-completion/completions/deepcluster-sk",
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


# ---- options that commands share


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, searched with their subfolders, and image files; or one file of rows or "
        "images: .npy, .npz, .csv, .tsv, .parquet",
    )
    _add_columns(parser)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--id-column",
        metavar="NAME",
        help="column of a table that names its rows, by its name or its number from 1; it is no "
        "feature, and stands in the output",
    )
    parser.add_argument(
        "--drop-column",
        action="append",
        default=[],
        metavar="NAME",
        help="column of a table that is left out, by its name or its number from 1; repeatable",
    )


def _add_label_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label-column",
        metavar="NAME",
        help="column of a table with known classes, by its name or its number from 1; it is no "
        "feature",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--n-clusters",
        type=n_clusters,
        required=True,
        metavar="K",
        help="number of clusters, or auto, which chooses it by the data",
    )
    parser.add_argument(
        "--method", choices=methods(), default="contrastive", help="default: contrastive"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="for photos: a network with trained weights, which is timm/NAME, torchvision/NAME or "
        "the same with :FILE of weights; hog, which compares shapes and needs no download; or "
        "PACKAGE.MODULE:FUNCTION that returns a module; default: a small network that is trained "
        "from scratch",
    )
    parser.add_argument("--max-epochs", type=positive, metavar="N", help="default: by the data")
    parser.add_argument(
        "--image-size", type=size, metavar="N or HxW", help="what images are resized to"
    )
    parser.add_argument(
        "--seed",
        "--random-state",
        dest="random_state",
        type=int,
        default=0,
        metavar="N",
        help="another number gives another start; default: 0",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        help="any other parameter of the method, such as --set batch_size=128; repeatable",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the model")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="file that fit --save wrote")
    parser.add_argument(
        "--encoder",
        metavar="PACKAGE.MODULE:FUNCTION",
        help="what returns the encoder, if fit had one of this kind",
    )


def _add_clusters(parser: argparse.ArgumentParser) -> None:
    """Add what a clustering is written to."""
    _add_out(parser, "of path, row number or id, cluster, confidence; default: standard output")
    _add_details(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page for the browser")
    parser.add_argument(
        "--copy-to",
        type=Path,
        metavar="DIR",
        help="copy the images into one folder per cluster; DIR must be new or empty",
    )


def _add_out(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"table (.csv, .tsv, .parquet) {what}"
    )


def _add_details(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--details",
        action="store_true",
        help="more columns in the table: typicality, second cluster, distance to the cluster's "
        "exemplar",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-error",
        choices=["raise", "skip"],
        help="what to do about unreadable images; skipped ones get cluster -1; default: raise, or "
        "what the model was saved with",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1; default: the best one present")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder that keeps the features of a pretrained encoder, for the next run",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no progress, only warnings and errors"
    )
