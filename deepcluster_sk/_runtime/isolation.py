"""Work as in a new process, whatever switches the caller has set, and leave them as they are."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import sklearn
import torch

from .device import without_autocast
from .locks import dtype_lock

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def isolated() -> Iterator[None]:
    """Hide the caller's switches of torch, NumPy and scikit-learn for the length of a block.

    These are modes of gradients and inference, autocast, the default dtype and device, errors of
    NumPy's floating point, and what scikit-learn's transformers return. Switches that ask for
    deterministic algorithms, or for anomalies of gradients to be found, stay.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(without_autocast())
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_float32_by_default())
        # NumPy's own defaults
        stack.enter_context(np.errstate(all="warn", under="ignore"))
        stack.enter_context(
            sklearn.config_context(array_api_dispatch=False, transform_output="default")
        )
        yield


def isolating(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function run isolated."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with isolated():
            return function(*args, **kwargs)

    return run


class _DefaultDtype:
    """The default dtype belongs to all threads: the first user changes it, the last restores it."""

    n_users = 0
    before = torch.float32


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """Let new tensors be float32."""
    with dtype_lock:
        counts = _DefaultDtype.n_users > 0 or torch.get_default_dtype() != torch.float32
        if counts:
            if not _DefaultDtype.n_users:
                _DefaultDtype.before = torch.get_default_dtype()
                torch.set_default_dtype(torch.float32)
            _DefaultDtype.n_users += 1
    try:
        yield
    finally:
        if counts:
            with dtype_lock:
                _DefaultDtype.n_users -= 1
                if not _DefaultDtype.n_users:
                    torch.set_default_dtype(_DefaultDtype.before)
