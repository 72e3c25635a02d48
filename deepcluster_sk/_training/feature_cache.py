"""Features of frozen encoders that are kept in a folder, so that no sample is encoded twice."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .._data.protocols import DataSource
from .._runtime.file_format import read_file, write_file
from .._runtime.warnings import warn_user
from ..exceptions import SavedModelError
from . import errors

_DIGEST_BYTES = 16
_ROWS_AT_A_TIME = 256
_WRITTEN_AT_ONCE = 16_384  # samples: an interruption loses no more of them
_SUFFIX = ".safetensors"


class FeatureCache:
    """Features in files of a folder, found by the contents of the samples.

    Each call of :meth:`features` writes what it had to compute to a file of its own: several
    processes can use one folder at the same time.

    Parameters
    ----------
    folder : path-like
        Created when something is written. Encoders have folders of their own in it.
    key : str
        Tells encoders, and what is done to samples before, from each other.

    Raises
    ------
    NotADirectoryError
        If `folder` is something else than a folder.
    """

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        check_folder(folder)
        self._folder = Path(folder) / key

    def features(self, source: DataSource, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features of all samples: those in the folder, and the rest computed.

        Parameters
        ----------
        source : DataSource
        compute : callable
            Maps numbers of samples (m,), int64 and ascending, to their features (m, d), float32,
            on the CPU.

        Returns
        -------
        features : Tensor of shape (n, d), float32

        Warns
        -----
        UserWarning
            If a file in the folder is damaged, or features cannot be written.
        """
        unique, first, position = np.unique(
            _digests(source), return_index=True, return_inverse=True
        )
        found = self._read(unique)
        new = np.setdiff1d(first, first[list(found)])
        place = {row: number for number, row in enumerate(first.tolist())}
        for rows in np.split(new, range(_WRITTEN_AT_ONCE, len(new), _WRITTEN_AT_ONCE)):
            if len(rows):
                computed = compute(torch.from_numpy(rows))
                numbers = [place[row] for row in rows.tolist()]
                self._write(unique[numbers], computed)
                found.update(zip(numbers, computed, strict=True))
        return torch.stack([found[number] for number in position.tolist()])

    def _read(self, wanted: np.ndarray) -> dict[int, Tensor]:
        """Return the features in the folder of some digests (m,), sorted, by their number."""
        found: dict[int, Tensor] = {}
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                with safe_open(path, framework="pt") as file:
                    here = _from_bytes(file.get_tensor("digests"))
                if not np.isin(here, wanted).any():
                    continue
                _, tensors = read_file(path)  # which compares the digest of the whole file
                here, features = _from_bytes(tensors["digests"]), tensors["features"]
            except (SavedModelError, SafetensorError, OSError, KeyError) as error:
                warn_user(
                    f"The file {os.fspath(path)!r} of cache= cannot be read and is left out: "
                    f"{error}. Its features are computed again; delete the file.",
                    UserWarning,
                )
                continue
            numbers = np.searchsorted(wanted, here).clip(max=len(wanted) - 1)
            for row in np.flatnonzero(wanted[numbers] == here).tolist():
                found[int(numbers[row])] = features[row]
        return found

    def _write(self, digests: np.ndarray, features: Tensor) -> None:
        """Keep features, those that are finite; go on without if that fails."""
        finite = features.isfinite().all(dim=1)
        digests, features = digests[finite.numpy()], features[finite]
        if not len(digests):
            return
        path = self._folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_file(path, {}, {"digests": _to_bytes(digests), "features": features})
        except OSError as error:
            warn_user(
                f"Features cannot be kept in cache={os.fspath(self._folder.parent)!r} "
                f"({error.strerror}): they are used, and computed again the next time. Pass a "
                f"folder that you may write to, with {features.nbytes / 1e6:,.1f} MB free.",
                UserWarning,
            )


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse to keep features where something else is.

    Raises
    ------
    NotADirectoryError
        If it is something else than a folder, or a new one.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise errors.cache_is_no_folder(folder)


def _digests(source: DataSource) -> np.ndarray:
    """Return a hash of each sample (n,), as hexadecimal bytes."""
    plan = torch.split(torch.arange(source.n_samples), _ROWS_AT_A_TIME)
    found = [
        hashlib.blake2b(row.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
        for _, stored in source.batches(plan)
        for row in stored.cpu().numpy()
    ]
    return np.array(found, dtype=f"S{2 * _DIGEST_BYTES}")


def _to_bytes(digests: np.ndarray) -> Tensor:
    """Return hexadecimal digests (m,) as bytes (m, 32), uint8."""
    return torch.from_numpy(digests.view(np.uint8).reshape(len(digests), -1).copy())


def _from_bytes(digests: Tensor) -> np.ndarray:
    """Undo :func:`_to_bytes`."""
    return digests.numpy().reshape(-1).view(f"S{2 * _DIGEST_BYTES}")
