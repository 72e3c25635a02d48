"""What a clustering is written to: a table, a report, folders of copies."""

import argparse
import codecs
import csv
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._inspection.assignments import Assignments, assign, is_calibrated
from .._inspection.names import short_paths
from .._inspection.summaries import agreement_in_words
from .console import say
from .sources import Source

_ANY_NAME = "deepcluster_sk.any_name"  # handler of file names that an encoding lacks


def write(arguments: argparse.Namespace, model: Any, source: Source) -> None:
    """Write everything that was asked for."""
    found = assign(model, source.X)
    if arguments.out:
        with open(arguments.out, "w", newline="", encoding="utf-8", errors=_ANY_NAME) as file:
            _write_csv(file, found, source)
    if arguments.report:
        from .._inspection.report import report

        report(model, source.X, arguments.report, names=None if source.paths else source.names)
    if arguments.copy_to and source.paths:
        _copy(source.paths, found, arguments.copy_to)
    for target in (arguments.out, arguments.report, arguments.copy_to):
        if target:
            say(arguments, f"wrote {target}")
    used = found.sizes[found.sizes > 0]
    if len(used):
        say(arguments, f"{len(used)} clusters of {used.min():,} to {used.max():,} members")
        confidence = float(found.confidence[found.labels >= 0].mean())
        if is_calibrated(model):
            say(arguments, agreement_in_words(confidence, images=source.paths is not None))
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
