"""``deepcluster-sk predict``: assign to the clusters of a saved model."""

import argparse

from .models import opened_model
from .output import write
from .sources import open_sources
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Assign the sources to the clusters of the model."""
    source = open_sources(arguments)
    check_targets(arguments, source)
    with opened_model(arguments) as model:
        write(arguments, model, source)
