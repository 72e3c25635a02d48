"""Encoders, saved models, and where the features of a pretrained encoder are kept."""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import errors
from .console import NAME

_QUICK = ("auto", "cnn", "hog", "identity", "mlp")  # what a CPU trains in minutes
_PROBE = (3, 224, 224)  # images that an encoder is built for before any is read


def named_encoder(text: str) -> Any:
    """Return what an encoder is named by: its name, or the function of a module."""
    module, colon, function = text.partition(":")
    if not colon or "/" in module or not all(map(str.isidentifier, module.split("."))):
        return text
    sys.path.insert(0, os.getcwd())  # python -m does so, the installed command does not
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the code of a module raises
        raise errors.module_of_encoder(text, module, error) from error
    if not callable(found):
        raise errors.function_of_encoder(text, module, function)
    return found


def is_untrained(encoder: Any) -> bool:
    """Tell whether an encoder is a large network without trained weights."""
    return isinstance(encoder, str) and encoder not in _QUICK and "/" not in encoder


def check_encoder(encoder: Any) -> None:
    """Build an encoder for images once, so that it fails before any image is read."""
    from ..encoders import build_encoder  # only now: torch takes its time

    build_encoder(encoder, _PROBE)


def _load(arguments: argparse.Namespace) -> Any:
    """Open the saved model."""
    from .._loading import load  # only now: torch takes its time

    encoder = None if arguments.encoder is None else named_encoder(arguments.encoder)
    if isinstance(encoder, str):
        raise errors.encoder_by_name(encoder)
    return load(arguments.model, encoder=encoder, device=arguments.device)


@contextmanager
def opened_model(arguments: argparse.Namespace) -> Iterator[Any]:
    """Yield the saved model, set to what the arguments say."""
    model = _load(arguments)
    with feature_folder(arguments) as folder:
        model.set_params(verbose=0, cache=folder, **given(arguments, "on_error"))
        yield model


@contextmanager
def feature_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield the folder for features of a pretrained encoder; without one, a temporary one.

    Training, tables and the report need them: they are computed once.
    """
    if arguments.cache is not None:
        yield arguments.cache
        return
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-") as folder:
        yield Path(folder)


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the arguments that the user has set."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
