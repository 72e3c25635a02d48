"""The command ``deepcluster-sk``: a folder of images in, clusters out.

Results go to files or to standard output, everything else to standard error. Exit codes: 0 for
success, 1 for data that cannot be used, 2 for wrong usage, 130 after Ctrl-C. Ctrl-C in training
ends it with the last finished epoch, from which everything is still written; after the last epoch,
it only leads to a warning.
"""

import argparse
import ast
import codecs
import csv
import importlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.lib.format import open_memmap

from ._inspection.assignments import Assignments, assign, is_calibrated
from ._inspection.names import short_paths
from ._inspection.pictures import as_samples
from ._inspection.summaries import agreement_in_words
from ._runtime.files import special_kind, special_target
from ._version import __version__
from .methods import METHODS, Method

_ARRAYS = (".npy", ".npz", ".csv")
_STREAMS = ("a character device", "a named pipe")  # a table may be written to these
_NAME = "deepcluster-sk"
_ANY_NAME = "deepcluster_sk.any_name"  # handler of file names that an encoding lacks
_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
# parameters that have an option of another name than --set
_OPTIONS = ("encoder", "n_clusters", "max_epochs", "image_size", "on_error", "device", "cache")
_PROBE = (3, 224, 224)  # images that an encoder is built for before any is read


class UsageError(Exception):
    """The arguments do not go together; the message says what to change."""


class Source(NamedTuple):
    """What is clustered."""

    X: Any
    names: list[str]
    """Paths, or row numbers."""
    paths: list[str] | None
    """Image files; None for rows."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with _warnings_in_one_line(), _noticed_interrupts() as interrupts:
            arguments.run(arguments)
    except UsageError as error:
        arguments.parser.error(_printable(str(error)))
    except (ValueError, OSError, MemoryError, ArithmeticError, ImportError) as error:
        _print(f"error: {_in_own_words(str(error))}")
        return 1
    except KeyboardInterrupt:
        _print("interrupted")
        return _INTERRUPTED
    return _INTERRUPTED if interrupts else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(_NAME, description="Cluster images or rows without labels.")
    parser.add_argument("--version", action="version", version=f"{_NAME} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    fit = commands.add_parser(
        "fit",
        help="train on images or rows and cluster them",
        description="Train on images or rows and cluster them.",
        epilog=f"example: {_NAME} fit photos/ --n-clusters 10 "
        "--encoder timm/vit_small_patch14_dinov2.lvd142m --image-size 224 --out clusters.csv "
        "--report report.html --save model.dcsk",
    )
    _add_source(fit)
    fit.add_argument("--n-clusters", type=_positive, required=True, metavar="K")
    fit.add_argument(
        "--method", choices=_methods(), default="contrastive", help="default: contrastive"
    )
    fit.add_argument(
        "--encoder",
        metavar="NAME",
        help="network with trained weights, for photos: timm/NAME, torchvision/NAME, the same with "
        ":FILE of weights, or PACKAGE.MODULE:FUNCTION that returns a module; default: a small "
        "network that is trained from scratch",
    )
    fit.add_argument("--max-epochs", type=_positive, metavar="N", help="default: by the data")
    fit.add_argument(
        "--image-size", type=_size, metavar="N or HxW", help="what images are resized to"
    )
    fit.add_argument(
        "--seed",
        "--random-state",
        dest="random_state",
        type=int,
        default=0,
        metavar="N",
        help="another number gives another start; default: 0",
    )
    fit.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="NAME=VALUE",
        help="any other parameter of the method, such as --set batch_size=128; repeatable",
    )
    fit.add_argument("--save", type=Path, metavar="FILE", help="write the model")
    _add_common(fit)
    fit.set_defaults(run=_fit, parser=fit)
    predict = commands.add_parser(
        "predict",
        help="assign images or rows to the clusters of a saved model",
        description="Assign images or rows to the clusters of a saved model.",
        epilog=f"example: {_NAME} predict model.dcsk more_photos/ --out clusters.csv",
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="file that fit --save wrote")
    predict.add_argument(
        "--encoder",
        metavar="PACKAGE.MODULE:FUNCTION",
        help="what returns the encoder, if fit had one of this kind",
    )
    _add_source(predict)
    _add_common(predict)
    predict.set_defaults(run=_predict, parser=predict)
    return parser


def _methods() -> dict[str, Method]:
    """Return the registered methods by the names of ``--method``."""
    return {method.command_name: method for method in METHODS.values()}


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, searched with their subfolders, and image files; or one file of rows or "
        "images: .npy, .npz, .csv",
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


def _fit(arguments: argparse.Namespace) -> None:
    source = _open(arguments.sources)
    _check_targets(arguments, source, {"--save": arguments.save}, arguments.sources)
    method = _methods()[arguments.method].load_class()  # only now: torch takes its time
    known = method().get_params()
    chosen = {
        "n_clusters": arguments.n_clusters,
        "random_state": arguments.random_state,
        "verbose": 0 if arguments.quiet else 1,
        **_given(arguments, "max_epochs", "image_size", "on_error", "device"),
        **dict(arguments.set),
    }
    for name in chosen.keys() - known.keys():
        raise UsageError(
            f"{method.__name__} has no parameter {name!r}. It has: {', '.join(known)}."
        )
    if arguments.encoder is not None:
        chosen["encoder"] = _encoder(arguments.encoder)
    if "encoder" in chosen and source.paths is not None:
        _check_encoder(chosen["encoder"])
    _say(arguments, f"{len(source.names):,} {'images' if source.paths else 'samples'}")
    if source.paths and "encoder" not in chosen:
        _say(
            arguments,
            "training a network from scratch; for photos, --encoder timm/NAME compares subjects "
            "better, and --encoder hog shapes",
        )
    with _feature_folder(arguments) as folder:
        model = method(**{"cache": folder, **chosen}).fit(source.X)
        if arguments.save:
            model.save(arguments.save)
            _say(arguments, f"wrote {arguments.save}")
        _write(arguments, model, source)


def _predict(arguments: argparse.Namespace) -> None:
    source = _open(arguments.sources)
    _check_targets(arguments, source, {}, [*arguments.sources, arguments.model])
    from ._loading import load

    encoder = None if arguments.encoder is None else _encoder(arguments.encoder)
    if isinstance(encoder, str):
        raise UsageError(
            f"--encoder {encoder}: a model with an encoder by name opens by itself. Leave the "
            "option out, or name a function as PACKAGE.MODULE:FUNCTION."
        )
    model = load(arguments.model, encoder=encoder, device=arguments.device)
    with _feature_folder(arguments) as folder:
        model.set_params(verbose=0, cache=folder, **_given(arguments, "on_error"))
        _write(arguments, model, source)


def _encoder(text: str) -> Any:
    """Return what an encoder is named by: its name, or the function of a module."""
    module, colon, function = text.partition(":")
    if not colon or "/" in module or not all(map(str.isidentifier, module.split("."))):
        return text
    sys.path.insert(0, os.getcwd())  # python -m does so, the installed command does not
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the code of a module raises
        raise UsageError(
            f"--encoder {text}: the module {module!r} cannot be imported: {error}."
        ) from error
    if not callable(found):
        raise UsageError(
            f"--encoder {text}: {module!r} has no function {function!r}. Name one that returns a "
            "torch.nn.Module."
        )
    return found


def _check_encoder(encoder: Any) -> None:
    """Build an encoder for images once, so that it fails before any image is read."""
    from .encoders import build_encoder  # only now: torch takes its time

    build_encoder(encoder, _PROBE)


@contextmanager
def _feature_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder for features of a pretrained encoder; without one, a temporary one.

    Training, tables and the report need them: they are computed once.
    """
    if arguments.cache is not None:
        yield arguments.cache
        return
    with tempfile.TemporaryDirectory(prefix=f"{_NAME}-") as folder:
        yield Path(folder)


def _write(arguments: argparse.Namespace, model: Any, source: Source) -> None:
    """Write everything that was asked for."""
    found = assign(model, source.X)
    if arguments.out:
        with open(arguments.out, "w", newline="", encoding="utf-8", errors=_ANY_NAME) as file:
            _write_csv(file, found, source)
    if arguments.report:
        from ._inspection.report import report

        report(model, source.X, arguments.report, names=None if source.paths else source.names)
    if arguments.copy_to and source.paths:
        _copy(source.paths, found, arguments.copy_to)
    for target in (arguments.out, arguments.report, arguments.copy_to):
        if target:
            _say(arguments, f"wrote {target}")
    used = found.sizes[found.sizes > 0]
    if len(used):
        _say(arguments, f"{len(used)} clusters of {used.min():,} to {used.max():,} members")
        confidence = float(found.confidence[found.labels >= 0].mean())
        if is_calibrated(model):
            _say(arguments, agreement_in_words(confidence, images=source.paths is not None))
    if not arguments.out:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=_ANY_NAME)
        _write_csv(sys.stdout, found, source)


def _any_name(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: bytes of a file name as they were, characters escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(_ANY_NAME, _any_name)


def _write_csv(file: Any, found: Assignments, source: Source) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path" if source.paths else "row", "cluster", "confidence"])
    for name, label, confidence in zip(source.names, found.labels, found.confidence, strict=True):
        writer.writerow([name, label, f"{confidence:.4f}" if label >= 0 else ""])


def _copy(paths: Sequence[str], found: Assignments, folder: Path) -> None:
    """Copy files into one folder per cluster, with the subfolders that tell them apart."""
    digits = len(str(found.n_clusters - 1))
    for path, name, label in zip(paths, short_paths(paths), found.labels, strict=True):
        if label < 0:
            continue
        target = folder / f"cluster_{label:0{digits}d}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as original, open(target, "xb") as copy:  # x: never overwrite
            shutil.copyfileobj(original, copy)
        shutil.copystat(path, target)


def _open(sources: Sequence[str]) -> Source:
    """Find what the arguments name."""
    if any(source.lower().endswith(_ARRAYS) for source in sources):
        if len(sources) > 1:
            raise UsageError(
                f"{len(sources)} sources with a {', '.join(_ARRAYS)} among them; expected one "
                "such file, or folders and image files."
            )
        X = _read_array(sources[0])
        return Source(X, [str(row) for row in range(len(X))], None)
    paths: dict[str, None] = {}  # a set that keeps its order
    for source in sources:
        found = as_samples(source) if os.path.isdir(source) else [source]
        paths.update(dict.fromkeys(found))
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise FileNotFoundError(
            f"there is no file or folder {missing[0]!r}"
            + (f", nor {len(missing) - 1} more" if len(missing) > 1 else "")
        )
    return Source(list(paths), list(paths), list(paths))


def _read_array(path: str) -> np.ndarray:
    """Open a file of rows or images; nothing in it is executed."""
    kind = special_kind(path)  # opening a pipe would wait
    if kind is not None:
        raise ValueError(f"{path!r} is {kind}. Pass a regular file with the rows or images.")
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".csv":
        return _read_csv(path)
    try:
        X = _read_npz(path) if suffix == ".npz" else open_memmap(path, mode="r")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # numpy raises errors of many kinds for damaged files
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path!r} cannot be read: {why}") from error
    if X.ndim == 0 or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{path!r} holds an array of shape {X.shape} and dtype {X.dtype}, expected rows or "
            "images of real numbers."
        )
    return np.asanyarray(X)


def _read_npz(path: str) -> np.ndarray:
    with zipfile.ZipFile(path):  # numpy would take any other file for an array, or for a pickle
        pass
    with np.load(path) as data:
        names = list(data)
        if "X" not in names and len(names) != 1:
            raise ValueError(
                f"it holds {len(names)} arrays ({', '.join(names)}); expected one, or one "
                "named 'X'."
            )
        X: np.ndarray = data["X" if "X" in names else names[0]]
        return X


def _read_csv(path: str) -> np.ndarray:
    """Read rows of numbers, with a line of names above them or without one."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path!r} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as CSV "
            "in UTF-8."
        ) from error
    # numpy skips empty lines; comments are emptied here, or it would cut off the end of 1.5#2, too
    lines = ["" if re.match(r"\s*(#|$)", line) else line for line in text.split("\n")]
    first = next((i for i, line in enumerate(lines) if line), None)
    if first is not None and _are_names(_cells(lines[first])):
        lines[first] = ""
    if not any(lines):
        raise ValueError(f"{path!r} holds no rows; expected comma-separated numbers.")
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        raise ValueError(
            f"{path!r} is not a table of numbers: {_first_fault(lines) or error}. Leave out "
            "columns of text, and write numbers as 1234.5."
        ) from error


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:  # an endless quotation
        return [line]


def _are_names(cells: Sequence[str]) -> bool:
    """Tell a line of names from one of numbers, also where one of these is badly written.

    Some names are numbers, such as years, and the first one is empty where pandas wrote an index.
    """
    numbers = [cell for cell in cells if _is_number(cell)]
    return (
        len(numbers) < len(cells)
        and all(cell.strip().isdecimal() for cell in numbers)
        and all(cell.strip() for cell in cells[1:])
        and not any(map(_is_other_number, cells))
    )


def _is_number(cell: str) -> bool:
    """Whether numpy reads a cell; Python takes 1_000 and digits of other scripts as well."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def _is_other_number(cell: str) -> bool:
    """Whether a cell is a complex or hexadecimal number, or has separators of thousands."""
    if re.fullmatch(r"\s*[+-]?0[xX][0-9a-fA-F]+\s*", cell):
        return True
    try:
        complex(cell.replace(",", ""))
    except ValueError:
        return False
    return any(map(str.isdecimal, cell)) and not _is_number(cell)  # j alone is a name


def _first_fault(lines: Sequence[str]) -> str | None:
    """Say where a table has something else than a number, or a row of another length."""
    n_columns = None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        cells = _cells(line)
        for column, cell in enumerate(cells, start=1):
            if not _is_number(cell):
                return f"{cell[:100]!r} in line {number}, column {column}"
        n_columns = n_columns or len(cells)
        if len(cells) != n_columns:
            return f"line {number} has {len(cells)} columns, those above have {n_columns}"
    return None


def _check_targets(
    arguments: argparse.Namespace,
    source: Source,
    more: dict[str, Path | None],
    inputs: Sequence[str | Path],
) -> None:
    """Refuse what could not be written, or would be lost, before hours of training."""
    _check_files({"--out": arguments.out, "--report": arguments.report, **more}, source, inputs)
    folder = arguments.copy_to
    if not folder:
        return
    if source.paths is None:
        raise UsageError("--copy-to copies image files, but the source is a file of numbers.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--copy-to {str(folder)!r} is not an empty folder, and nothing is ever overwritten. "
            "Name a new one."
        )
    for path in arguments.sources:
        if folder.resolve().is_relative_to(Path(path).resolve()):
            raise UsageError(
                f"--copy-to {str(folder)!r} is inside of {path!r}: the copies would be clustered "
                "the next time. Name a folder elsewhere."
            )


def _check_files(
    targets: dict[str, Path | None], source: Source, inputs: Sequence[str | Path]
) -> None:
    """Refuse files that cannot be written, that are read, or that are named twice."""
    taken = {_identity(Path(path)): "an input" for path in [*inputs, *(source.paths or [])]}
    for option, target in targets.items():
        if target is None:
            continue
        folder = target.absolute().parent
        if not folder.is_dir():
            raise UsageError(f"{str(target)!r}: its folder does not exist. Create it first.")
        kind = special_target(target)
        if kind is not None and (option != "--out" or kind not in _STREAMS):
            raise UsageError(f"{option} {str(target)!r} is {kind}, expected the name of a file.")
        other = taken.setdefault(_identity(target), option)
        if option == "--save":  # the name that the file has while it is written
            part = target.with_name(f"{target.name}.part")
            other = taken.get(_identity(part), other)
        if other != option:
            raise UsageError(
                f"{option} {str(target)!r} is {other} as well, which would be overwritten. "
                "Name another file."
            )
        try:
            _try_to_write(target)
        except OSError as error:
            raise UsageError(
                f"{option} {str(target)!r} cannot be written: {error.strerror}. Name a file that "
                "you may write to, and that no other program keeps open."
            ) from error


def _identity(path: Path) -> tuple[int, int] | str:
    """Tell files from each other, whatever name they are called by."""
    try:
        status = path.stat()
        if status.st_ino:  # some file systems of Windows have no numbers
            return status.st_dev, status.st_ino
    except OSError:  # a file that is still to be written
        pass
    name = os.path.normcase(path.resolve())
    # file systems of macOS usually do not tell upper from lower case
    return name.casefold() if sys.platform == "darwin" else name


def _try_to_write(target: Path) -> None:
    """Open a file for writing, and leave everything as it was.

    ``os.access`` knows neither the permissions nor the locks of Windows.
    """
    if target.is_file():
        with target.open("ab"):
            pass
    elif not target.exists():  # a pipe is not opened on trial: its reader would see it end
        with tempfile.TemporaryFile(dir=target.absolute().parent):
            pass


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the arguments that the user has set."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _in_own_words(text: str) -> str:
    """Let a message name options in place of parameters."""

    def option(found: re.Match[str]) -> str:
        name = found[1] or ""
        return f"--{name.replace('_', '-')} " if name in _OPTIONS else found[0]

    # what is quoted, such as a path, stays as it is
    return re.sub(r"'[^']*'|\b([a-z_]+)=(?=\S)", option, text)


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        _print(text)


def _print(text: str) -> None:
    print(f"{_NAME}: {_printable(text)}", file=sys.stderr)


def _printable(text: str) -> str:
    """Escape what standard error cannot encode, such as bytes of file names."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def _noticed_interrupts() -> Iterator[list[int]]:
    """Yield a list that has an item for every Ctrl-C that cut something, training as well.

    It stays empty where no handler can be set, as in a thread, or where Ctrl-C is ignored or
    handled by somebody else.
    """
    seen: list[int] = []

    @wraps(signal.default_int_handler)  # by which a fit knows that it may hold Ctrl-C back
    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print each warning once, without the place in the code that it comes from."""
    shown = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            _print(f"warning: {message}")
        shown.add(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        _refuse(f"{text!r}, expected an integer of at least 1")
    return int(text)


def _size(text: str) -> int | tuple[int, int]:
    """Read ``64`` or ``48x64``."""
    sides = [int(side) if side.isdecimal() else 0 for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        _refuse(f"{text!r}, expected pixels such as 64, or height and width such as 48x64")
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def _assignment(text: str) -> tuple[str, Any]:
    """Read ``name=value``, the value as Python would, or else as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        _refuse(f"{text!r}, expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _refuse(text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(text)
