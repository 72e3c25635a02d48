"""Names of samples for people: paths without what all of them share, or numbers."""

import os
from collections.abc import Sequence
from typing import Any


def sample_names(samples: Any) -> list[str]:
    """Return paths without the folder that all share, the index of a data frame, or numbers."""
    if hasattr(samples, "iloc") and getattr(samples, "ndim", 1) == 2:
        return [str(name) for name in samples.index]
    values = samples.to_numpy() if hasattr(samples, "iloc") else samples
    if not isinstance(values[0], str | os.PathLike):
        return [str(row) for row in range(len(values))]
    return short_paths(values)


def short_paths(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return paths without the folder that all share; those of several drives begin with theirs."""
    absolute = [os.path.abspath(path) for path in paths]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:  # of Windows: several drives share no folder
        return [_with_drive_as_folder(path) for path in absolute]
    return [os.path.relpath(path, shared) for path in absolute]


def _with_drive_as_folder(path: str) -> str:
    """Turn ``C:/photos/a.png`` into ``C/photos/a.png``, which has a place below any folder."""
    drive, rest = os.path.splitdrive(path)
    return os.path.join(drive.replace(":", "").strip("\\/"), rest.strip("\\/"))


def paths_of(samples: Any) -> list[str] | None:
    """Return the paths that samples consist of; None for everything else."""
    shape = getattr(samples, "shape", None)
    if len(shape) != 1 if shape is not None else not isinstance(samples, list | tuple):
        return None
    values = samples.to_numpy() if hasattr(samples, "to_numpy") else samples
    if len(values) == 0 or not all(isinstance(value, str | os.PathLike) for value in values):
        return None
    return [os.fspath(value) for value in values]
