"""``deepcluster-sk predict``: assign to the clusters of a saved model."""

import argparse

from .models import feature_folder, given, open_model
from .output import write
from .sources import open_sources
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Assign the sources to the clusters of the model."""
    source = open_sources(arguments.sources)
    check_targets(arguments, source, {}, [*arguments.sources, arguments.model])
    model = open_model(arguments)
    with feature_folder(arguments) as folder:
        model.set_params(verbose=0, cache=folder, **given(arguments, "on_error"))
        write(arguments, model, source)
