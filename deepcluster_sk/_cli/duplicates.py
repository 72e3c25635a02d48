"""``deepcluster-sk duplicates``: groups of images or rows that are nearly the same."""

import argparse
from typing import Any

import numpy as np

from .console import say
from .models import opened_model
from .sources import open_sources
from .tables_out import write_table
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Write the members of each group, the largest group first."""
    source = open_sources(arguments)
    check_targets(arguments, source)
    from .._inspection.duplicates import near_duplicates  # only now: what it needs takes its time

    with opened_model(arguments) as model:
        groups = near_duplicates(model, source.X, threshold=arguments.threshold)
    members = [row for group in groups for row in group.tolist()]
    columns: dict[str, Any] = {
        "group": np.repeat(np.arange(len(groups)), [len(group) for group in groups]),
        source.kind: [source.names[row] for row in members],
    }
    write_table(arguments.out, columns)
    what = "images" if source.paths else "rows"
    sizes = f", with {len(members):,} {what} in all" if groups else ""
    count = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    say(arguments, f"{count} of {what} that are nearly the same{sizes}")
    if arguments.out:
        say(arguments, f"wrote {arguments.out}")
