"""``deepcluster-sk fit``: train, and write what was found."""

import argparse

from . import errors
from .console import say
from .models import check_encoder, feature_folder, given, is_untrained, named_encoder
from .output import write
from .parser import methods
from .sources import open_sources
from .targets import check_targets


def run(arguments: argparse.Namespace) -> None:
    """Train on the sources and cluster them."""
    source = open_sources(arguments)
    check_targets(arguments, source)
    method = methods()[arguments.method].load_class()  # only now: torch takes its time
    known = method().get_params()
    chosen = {
        "n_clusters": arguments.n_clusters,
        "random_state": arguments.random_state,
        "verbose": 0 if arguments.quiet else 1,
        **given(arguments, "max_epochs", "image_size", "on_error", "device"),
        **dict(arguments.set),
    }
    for name in chosen.keys() - known.keys():
        raise errors.unknown_parameter(method.__name__, name, known)
    if arguments.encoder is not None:
        chosen["encoder"] = named_encoder(arguments.encoder)
    if "encoder" in chosen and source.paths is not None:
        check_encoder(chosen["encoder"])
    say(arguments, f"{len(source.names):,} {'images' if source.paths else 'samples'}")
    if source.paths and "encoder" not in chosen:
        say(
            arguments,
            "training a network from scratch; for photos, --encoder timm/NAME compares subjects "
            "better, and --encoder hog shapes",
        )
    if source.paths and is_untrained(chosen.get("encoder")):
        say(
            arguments,
            f"{chosen['encoder']} has no trained weights; training it takes hours without a GPU. "
            f"torchvision/{chosen['encoder']} has some",
        )
    with feature_folder(arguments) as folder:
        model = method(**{"cache": folder, **chosen}).fit(source.X)
        if chosen["n_clusters"] == "auto":
            say(arguments, f"found {model.n_clusters_} clusters")
        if arguments.save:
            model.save(arguments.save)
            say(arguments, f"wrote {arguments.save}")
        write(arguments, model, source)
