"""The one lock of the package, around what belongs to the whole process."""

import os
import threading

process_lock = threading.RLock()
"""Held while the global states of random generators, or switches of libraries, are ours."""


def _renew() -> None:
    """Free the lock in a new process that was forked while another thread held it."""
    global process_lock
    process_lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
