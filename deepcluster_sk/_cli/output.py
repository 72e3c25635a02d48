"""What a clustering is written to: a table, a report, folders of copies."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._inspection.assignments import Assignments, Described, described, is_calibrated
from .._inspection.names import short_paths
from .._inspection.summaries import agreement_in_words
from .console import say
from .sources import Source
from .tables_out import write_table


def write(arguments: argparse.Namespace, model: Any, source: Source) -> None:
    """Write everything that was asked for."""
    told = described(model, source.X)
    found = told.found
    columns = cluster_columns(arguments, source, told)
    if arguments.out:
        write_table(arguments.out, columns)
    if arguments.report:
        write_report(model, source, told, arguments.report)
    if arguments.copy_to and source.paths:
        _copy(source.paths, found, arguments.copy_to)
    for target in (arguments.out, arguments.report, arguments.copy_to):
        if target:
            say(arguments, f"wrote {target}")
    used = found.sizes[found.sizes > 0]
    if len(used):
        say(arguments, sizes_in_words(used))
        confidence = float(found.confidence[found.labels >= 0].mean())
        if is_calibrated(model):
            say(arguments, agreement_in_words(confidence, images=source.paths is not None))
    if not arguments.out:
        write_table(None, columns)


def sizes_in_words(sizes: np.ndarray) -> str:
    """Say how many clusters there are, and how many members they have (n_clusters,)."""
    least, most = sizes.min(), sizes.max()
    clusters = "1 cluster" if len(sizes) == 1 else f"{len(sizes)} clusters"
    members = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return f"{clusters} of {members} {'member' if most == 1 else 'members'}"


def cluster_columns(
    arguments: argparse.Namespace, source: Source, told: Described
) -> dict[str, Any]:
    """Return the columns of the table: names, clusters, confidences, and details if wanted."""
    if arguments.details:
        from .._inspection.tables import table_of  # only now: pandas takes its time

        frame = table_of(told, source.X, source.classes, source.names)
        names = [str(name) for name in frame if name != "sample"]
        details: dict[str, Any] = {name: frame[name].to_numpy() for name in names}
        second = frame["second_cluster"].astype(object)
        details["second_cluster"] = second.where(second.notna(), None).tolist()
        if source.classes is not None:
            details["class"] = source.classes
        return {source.kind: source.names, **details}
    found = told.found
    confidence = np.where(found.labels >= 0, found.confidence, np.nan)
    columns = {source.kind: source.names, "cluster": found.labels, "confidence": confidence}
    return columns if source.classes is None else {**columns, "class": source.classes}


def write_report(model: Any, source: Source, told: Described, target: Path) -> None:
    """Write the page."""
    from .._inspection.clustering import clustering_of
    from .._inspection.report import write_page

    names = None if source.paths else source.names
    write_page(clustering_of(model, told, source.X, source.classes, names), target)


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
