"""What is clustered: the images and rows that the arguments name."""

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .._data.pillow import SUFFIXES, opened_image
from .._inspection.pictures import as_samples
from .._runtime.files import special_kind
from . import errors
from .array_files import read_array
from .columns import Table, Wanted
from .csv_files import read_csv
from .parquet_files import read_parquet

_TABLES = (".csv", ".tsv", ".parquet")
_ROWS = (".npy", ".npz", *_TABLES)


class Source(NamedTuple):
    """What is clustered."""

    X: Any
    names: list[str]
    """Paths, ids, or row numbers."""
    paths: list[str] | None
    """Image files; None for rows."""
    kind: str
    """What the names are: ``"path"``, ``"id"`` or ``"row"``."""
    classes: list[str] | None = None
    """Known classes, for comparison."""


def open_sources(arguments: argparse.Namespace) -> Source:
    """Find what the arguments name."""
    sources: list[str] = arguments.sources
    label = getattr(arguments, "label_column", None)
    wanted = Wanted(arguments.id_column, label, tuple(arguments.drop_column))
    of_classes = getattr(arguments, "class_folders", False)
    if any(source.lower().endswith(_ROWS) and not os.path.isdir(source) for source in sources):
        if len(sources) > 1:
            raise errors.several_sources(len(sources), _ROWS)
        if of_classes:
            raise errors.no_folder_of_classes(sources)
        return _rows(sources[0], wanted)
    if wanted.any:
        raise errors.columns_of_no_table(_options(wanted), sources[0])
    if of_classes:
        return _class_folders(sources)
    paths = _image_paths(sources)
    return Source(paths, paths, paths, "path")


def open_classes(arguments: argparse.Namespace) -> Source:
    """Find the one source of an evaluation, with its classes."""
    source: str = arguments.source
    if not os.path.isdir(source) and not arguments.label_column:
        if not os.path.exists(source):
            raise errors.missing_sources([source])
        raise errors.no_class_folder(source)
    arguments.sources, arguments.class_folders = [source], os.path.isdir(source)
    return open_sources(arguments)


def _options(wanted: Wanted) -> list[str]:
    given = {"--id-column": wanted.id, "--label-column": wanted.label}
    given["--drop-column"] = next(iter(wanted.dropped), None)
    return [option for option, value in given.items() if value is not None]


def _rows(path: str, wanted: Wanted) -> Source:
    """Open a file of rows or images; nothing in it is executed."""
    kind = special_kind(path)  # opening a pipe would wait
    if kind is not None:
        raise errors.special_file(path, kind)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _TABLES and wanted.any:
        raise errors.columns_of_no_table(_options(wanted), path)
    if suffix == ".parquet":
        table = read_parquet(path, wanted)
    elif suffix in _TABLES:
        table = read_csv(path, wanted)
    else:
        table = Table(read_array(path), None, None)
    numbers = [str(row) for row in range(len(table.X))]
    kind = "row" if table.ids is None else "id"
    return Source(table.X, table.ids or numbers, None, kind, table.labels)


def _image_paths(sources: Sequence[str]) -> list[str]:
    """Return the image files that are named, and those in folders, each once."""
    paths: dict[str, None] = {}  # a set that keeps its order
    for source in sources:
        found = as_samples(source) if os.path.isdir(source) else [source]
        paths.update(dict.fromkeys(found))
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise errors.missing_sources(missing)
    if len(paths) == 1 and Path(*paths).suffix.lower() not in SUFFIXES:
        _check_image(*paths)
    return list(paths)


def _check_image(path: str) -> None:
    """Refuse a single file that is no image: it may be a table of an unknown kind."""
    if special_kind(path) is not None:
        return  # the message of an image says what it is
    try:
        with opened_image(path):
            pass
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many kinds
        raise errors.unknown_kind(path, _ROWS, sorted(SUFFIXES)) from error


def _class_folders(sources: Sequence[str]) -> Source:
    """Take the images below the subfolders of a folder, whose names are the classes."""
    if len(sources) > 1 or not os.path.isdir(sources[0]):
        raise errors.no_folder_of_classes(sources)
    folder = sources[0]
    paths = _image_paths(sources)
    parts = [Path(path).relative_to(folder).parts for path in paths]
    inside = [i for i, names in enumerate(parts) if len(names) > 1]
    if not inside:
        raise errors.no_class_folders(folder)
    if len(inside) < len(paths):
        warnings.warn(
            f"{len(paths) - len(inside):,} images are in {folder!r} itself and have no class; "
            "they are left out.",
            UserWarning,
            stacklevel=2,
        )
    kept = [paths[i] for i in inside]
    return Source(kept, kept, kept, "path", [parts[i][0] for i in inside])
