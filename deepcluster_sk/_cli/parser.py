"""The options of the command. Nothing that takes its time is imported here, for a quick --help."""

import argparse
from pathlib import Path

from .._version import __version__
from ..methods import METHODS, Method
from .argument_types import assignment, positive, size
from .console import NAME


def methods() -> dict[str, Method]:
    """Return the registered methods by the names of ``--method``."""
    return {method.command_name: method for method in METHODS.values()}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    It sets `module`, the module of this folder that runs the command, and `parser`, the command's
    own one.
    """
    parser = argparse.ArgumentParser(NAME, description="Cluster images or rows without labels.")
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    fit = commands.add_parser(
        "fit",
        help="train on images or rows and cluster them",
        description="Train on images or rows and cluster them.",
        epilog=f"example: {NAME} fit photos/ --n-clusters 10 "
        "--encoder timm/vit_small_patch14_dinov2.lvd142m --image-size 224 --out clusters.csv "
        "--report report.html --save model.dcsk",
    )
    _add_source(fit)
    _add_training(fit)
    _add_common(fit)
    fit.set_defaults(module="fit", parser=fit)
    predict = commands.add_parser(
        "predict",
        help="assign images or rows to the clusters of a saved model",
        description="Assign images or rows to the clusters of a saved model.",
        epilog=f"example: {NAME} predict model.dcsk more_photos/ --out clusters.csv",
    )
    _add_model(predict)
    _add_source(predict)
    _add_common(predict)
    predict.set_defaults(module="predict", parser=predict)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, searched with their subfolders, and image files; or one file of rows or "
        "images: .npy, .npz, .csv",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n-clusters", type=positive, required=True, metavar="K")
    parser.add_argument(
        "--method", choices=methods(), default="contrastive", help="default: contrastive"
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="network with trained weights, for photos: timm/NAME, torchvision/NAME, the same with "
        ":FILE of weights, or PACKAGE.MODULE:FUNCTION that returns a module; default: a small "
        "network that is trained from scratch",
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


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="CSV of path, cluster, confidence; default: standard output",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page for the browser")
    parser.add_argument(
        "--copy-to",
        type=Path,
        metavar="DIR",
        help="copy the images into one folder per cluster; DIR must be new or empty",
    )
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
