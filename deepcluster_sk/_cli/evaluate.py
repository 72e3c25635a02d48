"""``deepcluster-sk evaluate``: clusters of a saved model against known classes."""

import argparse
import re
import warnings

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .._inspection.assignments import described
from ..metrics import MatchedContingency, matched_contingency
from . import errors
from .console import printable, say
from .models import opened_model
from .output import cluster_columns
from .sources import open_classes
from .tables_out import write_table
from .targets import check_targets

_COPIES = re.compile(r"cluster_\d+")  # folders that --copy-to writes
_MOST_COLUMNS = 20  # of the matched table; more would not fit a terminal


def run(arguments: argparse.Namespace) -> None:
    """Print the scores and the matched table."""
    source = open_classes(arguments)
    check_targets(arguments, source)
    if source.classes and all(_COPIES.fullmatch(name) for name in source.classes):
        warnings.warn(
            f"The subfolders of {arguments.source!r} are named as --copy-to names clusters. Scores "
            "compare clusters with themselves, unless images were sorted by hand since.",
            UserWarning,
            stacklevel=1,
        )
    with opened_model(arguments) as model:
        told = described(model, source.X)
        found = told.found
        if arguments.out:
            write_table(arguments.out, cluster_columns(arguments, source, told))
            say(arguments, f"wrote {arguments.out}")
    known = found.labels >= 0
    if not known.any():
        raise errors.nothing_to_compare()
    if not known.all():
        say(arguments, f"{(~known).sum():,} samples without a cluster are left out of the scores")
    print(scores(_sortable(source.classes or [])[known], found.labels[known]), end="")


def _sortable(classes: list[str]) -> np.ndarray:
    """Return classes as integers if all of them are, so that 10 comes after 9."""
    if all(name.isascii() and name.isdecimal() and str(int(name)) == name for name in classes):
        return np.array([int(name) for name in classes])
    return np.array(classes)


def scores(classes: np.ndarray, clusters: np.ndarray) -> str:
    """Return what is printed: the measures, and below them the matched table."""
    matched = matched_contingency(classes, clusters)
    accuracy = np.trace(matched.table) / matched.table.sum()
    lines = [
        f"samples  {len(classes)}",
        f"classes  {len(matched.classes)}",
        f"clusters {len(matched.clusters)}",
        f"ACC      {accuracy:.4f}",
        f"NMI      {normalized_mutual_info_score(classes, clusters):.4f}",
        f"ARI      {adjusted_rand_score(classes, clusters):.4f}",
        "",
    ]
    wide = len(matched.clusters) > _MOST_COLUMNS
    cells = _pairs(matched) if wide else _cells(matched)
    return "\n".join([*lines, *aligned(cells), ""])


def _cells(matched: MatchedContingency) -> list[list[str]]:
    """Return the whole table: a row per class, a column per cluster."""
    head = ["class", *(str(cluster) for cluster in matched.clusters)]
    rows = zip(matched.classes, matched.table, strict=True)
    return [head, *([str(name), *map(str, counts)] for name, counts in rows)]


def _pairs(matched: MatchedContingency) -> list[list[str]]:
    """Return a row per class with its cluster only."""
    rows = [["class", "samples", "cluster", "in both"]]
    for place, (name, counts) in enumerate(zip(matched.classes, matched.table, strict=True)):
        pair = ["-", "0"]
        if place < len(matched.clusters):
            pair = [str(matched.clusters[place]), str(counts[place])]
        rows.append([str(name), str(counts.sum()), *pair])
    return rows


def aligned(rows: list[list[str]]) -> list[str]:
    """Return lines of a table: the first column to the left, the others to the right."""
    rows = [[printable(cell, stream="stdout") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
