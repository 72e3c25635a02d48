"""The file of an estimator or a checkpoint: tensors and JSON, in the safetensors format.

Nothing in it is code, and reading it executes nothing. The library checks the sizes that the header
names against the size of the file before it allocates anything.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .exceptions import SavedModelError

_KEY = "deepcluster_sk"
_FORMAT = 1


def write_file(
    path: str | os.PathLike[str], header: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write a file at once: it is complete, or it is what was there before.

    Parameters
    ----------
    path : path-like
    header : dict
        Anything that JSON holds.
    tensors : dict of str to Tensor
        On the CPU.
    """
    path = Path(path)
    text = json.dumps({"format": _FORMAT, **header}, allow_nan=False)
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(apart, temporary, metadata={_KEY: text})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # or a crash may leave the new name on an empty file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_file` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SavedModelError
        If the file was not written by this package, is damaged, or has a newer format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{os.fspath(path)!r} is not a file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(_KEY)
            header = _parsed(text, path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SavedModelError(
            f"{os.fspath(path)!r} is damaged, or no saved estimator: {error}. Save it again."
        ) from error
    return header, tensors


def _parsed(text: str | None, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the header, if it is one that this version understands."""
    try:
        header = json.loads(text or "")
        version = header["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SavedModelError(
            f"{os.fspath(path)!r} was not written by deepcluster_sk. Pass a file that save() wrote."
        ) from error
    if version != _FORMAT:
        raise SavedModelError(
            f"{os.fspath(path)!r} has format {version!r} and was written by deepcluster_sk "
            f"{header.get('version')!r}; this version reads format {_FORMAT}. Install a newer "
            "deepcluster_sk."
        )
    return header
