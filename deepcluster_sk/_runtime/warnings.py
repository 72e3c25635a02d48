"""Warnings that show the line of the user."""

import inspect
import warnings

_NOT_THE_USERS = {__name__.partition(".")[0], "sklearn", "joblib", "contextlib"}


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the last line on the stack that is neither ours nor of what runs us for the user.

    How many of our own and of scikit-learn's lines lie in between differs from method to method.
    """
    frame, level = inspect.currentframe(), 1
    while frame is not None and _package(frame.f_globals) in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _package(names: dict[str, object]) -> str:
    return str(names.get("__name__")).partition(".")[0]
