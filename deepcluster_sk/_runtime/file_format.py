"""The file of an estimator or a checkpoint: tensors and JSON, in the safetensors format.

Nothing in it is code, and reading it executes nothing. The library checks the sizes that the header
names against the size of the file before it allocates anything. A digest of the whole content tells
a damaged file: a flipped bit in a weight would be a weight like any other.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from . import errors
from .files import special_target

_KEY = "deepcluster_sk"
_FORMAT = 1
# On Windows, virus scanners and indexers open new files for a moment, and nobody can replace them
# meanwhile: seconds to wait before each further attempt.
_PAUSES = (0.05, 0.2, 1.0) if sys.platform == "win32" else ()


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

    Raises
    ------
    OSError
        If the file cannot be written, or something there is no regular file.
    """
    text = json.dumps({"format": _FORMAT, **header}, allow_nan=False)
    apart = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    # the library's own save_file hides a full disk in an error of another kind, and leaves files
    # with random names behind when it is killed
    content = save(apart, metadata={_KEY: f"{_digest(text, apart)}\n{text}"})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_target(path: str | os.PathLike[str]) -> None:
    """Refuse to write where there is something that a file must not replace.

    Raises
    ------
    OSError
        If a device, a pipe, a socket or a folder is there.
    """
    kind = special_target(path)
    if kind is not None:
        raise errors.special_target(path, kind)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty file to write to, which takes the place of `path` at the end of the block.

    Its name is always the same: what a killed process left is replaced by the next one.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.part")
    for target in (path, temporary):
        check_target(target)
    temporary.unlink(missing_ok=True)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a crash may leave the new name on an empty file
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _replace(temporary: Path, path: Path) -> None:
    for pause in _PAUSES:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    temporary.replace(path)


def read_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_file` wrote, into memory of its own.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SavedModelError
        If the file was not written by this package, is damaged, or has a newer format.
    """
    if not Path(path).is_file():
        raise errors.missing_file(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            digest, _, text = (file.metadata() or {}).get(_KEY, "").partition("\n")
            header = _parsed(text, path)
            # The library maps the file. A copy lets it go: as long as a file is mapped, Windows
            # refuses to replace it, and elsewhere whoever changes it changes the tensors.
            tensors = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise errors.unreadable_file(path, error) from error
    if digest != _digest(text, tensors):
        raise errors.changed_file(path)
    return header, tensors


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """Return a hash of the header and of the names, types, shapes and bytes of all tensors."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parsed(text: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the header, if it is one that this version understands."""
    try:
        header: dict[str, Any] = json.loads(text)
        version = header["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise errors.foreign_file(path) from error
    if version != _FORMAT:
        raise errors.newer_format(path, version, header.get("version"), _FORMAT)
    return header
