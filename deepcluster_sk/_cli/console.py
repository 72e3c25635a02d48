"""What is said on standard error, Ctrl-C, and a reader of standard output that has gone."""

import argparse
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

NAME = "deepcluster-sk"
# parameters that have an option of another name than --set
_OPTIONS = ("encoder", "n_clusters", "max_epochs", "image_size", "on_error", "device", "cache")


def tell(text: str) -> None:
    """Print a line on standard error."""
    print(f"{NAME}: {printable(text)}", file=sys.stderr)


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print a line on standard error, unless --quiet is given."""
    if not arguments.quiet:
        tell(text)


def printable(text: str, *, stream: str = "stderr") -> str:
    """Escape what standard error cannot encode, such as bytes of file names."""
    encoding = getattr(getattr(sys, stream), "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def flush_output() -> None:
    """Pass on what has been printed."""
    if sys.stdout is not None:  # as under pythonw
        sys.stdout.flush()


def discard_output() -> None:
    """Send what is left in the buffer of standard output nowhere, once its reader has gone."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def in_own_words(text: str) -> str:
    """Let a message name options in place of parameters."""

    def option(found: re.Match[str]) -> str:
        name = found[1] or ""
        return f"--{name.replace('_', '-')} " if name in _OPTIONS else found[0]

    # what is quoted, such as a path, stays as it is
    return re.sub(r"'[^']*'|\b([a-z_]+)=(?=\S)", option, text)


@contextmanager
def noticed_interrupts() -> Iterator[list[int]]:
    """Yield a list that has an item for every Ctrl-C that cut something, training as well.

    It stays empty where no handler can be set, as in a thread, or where Ctrl-C is ignored or
    handled by somebody else.
    """
    seen: list[int] = []

    @wraps(signal.default_int_handler)  # by which a fit knows that it may hold Ctrl-C back
    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print each warning once, without the place in the code that it comes from."""
    shown = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            tell(f"warning: {message}")
        shown.add(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
