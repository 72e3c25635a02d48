"""``deepcluster-sk report``: a page for the browser that shows the clusters of a saved model."""

import argparse

from .._inspection.assignments import described
from .console import say
from .models import opened_model
from .output import write_report
from .sources import open_sources
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    source = open_sources(arguments)
    check_targets(arguments, source, page=True)
    with opened_model(arguments) as model:
        write_report(model, source, described(model, source.X), arguments.out)
    say(arguments, f"wrote {arguments.out}")
