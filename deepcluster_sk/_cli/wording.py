"""Wrong arguments in plain words, in place of argparse's."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

_MISSING = r"the following arguments are required: (.+)"


def is_missing(message: str) -> bool:
    """Tell whether argparse misses arguments."""
    return re.fullmatch(_MISSING, message) is not None


def in_plain_words(message: str) -> str:
    """Reword what argparse says about arguments."""
    if found := re.fullmatch(_MISSING, message):
        *others, last = found[1].split(", ")
        names = f"{', '.join(others)} and {last}" if others else last
        return f"{names} {'are' if others else 'is'} missing."
    if found := re.fullmatch(r"argument (.+?): expected (?:one|at least one) argument", message):
        return f"{found[1].split('/')[0]} has no value. Put one after it."
    if found := re.fullmatch(r"argument (.+?): (.+)", message, re.S):
        option, what = found[1].split("/")[0], found[2]
        if choice := re.fullmatch(r"invalid choice: '(.*)' \(choose from (.+)\)", what, re.S):
            return _not_among(option, choice[1], choice[2].replace("'", "").split(", "))
        return f"{option}: {what}"
    return message


def _not_among(option: str, value: str, known: Sequence[str]) -> str:
    kind = "unknown command" if option == "COMMAND" else f"{option}: invalid choice:"
    return f"{kind} {value!r}. Expected one of {', '.join(known)}.{_guess(value, known)}"


def unknown_arguments(unknown: Sequence[str], options: Sequence[str]) -> str:
    """Say what is wrong with arguments that no option takes."""
    first = unknown[0]
    if first.startswith("-"):
        name = first.partition("=")[0]
        return f"unknown option {name!r}.{_guess(name, options)}"
    return (
        f"{first!r} stands apart from the sources, or is one too many. Name all sources one after "
        "the other, before the options."
    )


def _guess(value: str, known: Sequence[str]) -> str:
    near = get_close_matches(value, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""
