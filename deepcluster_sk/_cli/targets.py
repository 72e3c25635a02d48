"""The files that are written are checked before hours of training."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .._runtime.files import special_target
from . import errors
from .libraries import require
from .sources import Source
from .tables_out import SUFFIXES

_STREAMS = ("a character device", "a named pipe")  # a table may be written to these


def check_targets(arguments: argparse.Namespace, source: Source, *, page: bool = False) -> None:
    """Refuse what could not be written, or would be lost.

    Parameters
    ----------
    page : bool, default=False
        Whether ``--out`` is a page and no table.
    """
    options = ("--out", "--report", "--save")
    targets = {option: getattr(arguments, option[2:], None) for option in options}
    inputs = [*arguments.sources, *filter(None, [getattr(arguments, "model", None)])]
    _check_files(targets, source, inputs, () if page else ("--out",))
    if getattr(arguments, "details", False):
        require("--details", "pandas")
    folder = getattr(arguments, "copy_to", None)
    if folder:
        _check_copies(folder, source, arguments.sources)


def _check_copies(folder: Path, source: Source, sources: Sequence[str]) -> None:
    """Refuse a folder of copies that is not new or would be clustered itself."""
    if source.paths is None:
        raise errors.rows_to_copy()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.folder_in_use(folder)
    for path in sources:
        if folder.resolve().is_relative_to(Path(path).resolve()):
            raise errors.folder_inside(folder, path)


def _check_files(
    targets: dict[str, Path | None],
    source: Source,
    inputs: Sequence[str | Path],
    tables: Sequence[str],
) -> None:
    """Refuse files that cannot be written, that are read, or that are named twice."""
    taken = {_identity(Path(path)): "an input" for path in [*inputs, *(source.paths or [])]}
    for option, target in targets.items():
        if target is None:
            continue
        if not target.absolute().parent.is_dir():
            raise errors.missing_folder(target)
        kind = special_target(target)
        if kind is not None and (option not in tables or kind not in _STREAMS):
            raise errors.special_target(option, target, kind)
        other = taken.setdefault(_identity(target), option)
        if option == "--save":  # the name that the file has while it is written
            part = target.with_name(f"{target.name}.part")
            other = taken.get(_identity(part), other)
        if other != option:
            raise errors.named_twice(option, target, other)
        if option in tables and kind is None:
            _check_table(option, target)
        try:
            _try_to_write(target)
        except OSError as error:
            raise errors.unwritable(option, target, error) from error


def _check_table(option: str, target: Path) -> None:
    """Refuse a kind of table that is not written, or not without other libraries."""
    suffix = target.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise errors.unknown_table(option, target, SUFFIXES)
    if suffix == ".parquet":
        require(f"{option} {str(target)!r}", "pandas", "pyarrow")


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
