"""The locks of the package, around what belongs to the whole process."""

import os
import threading
from typing import Any

process_lock = threading.RLock()
"""Held while the global states of random generators, or switches of libraries, are ours."""
dtype_lock = threading.Lock()
"""Held for an instant. A lock of its own: calls inside of datasets run in threads for which the
holder of the other one may be waiting."""


def _renew() -> None:
    """Free the locks in a new process that was forked while another thread held them."""
    locks: list[Any] = [process_lock, dtype_lock]
    for lock in locks:
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
