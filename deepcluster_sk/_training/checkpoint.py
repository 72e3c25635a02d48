"""The file that an interrupted fit goes on from."""

import hashlib
import json
import os
import tempfile
import time
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._data.protocols import DataSource
from .._runtime.distributed import on_first, rank
from .._runtime.file_format import read_file, write_file
from .._runtime.files import special_target
from .._runtime.warnings import warn_user
from .._version import __version__
from ..exceptions import SavedModelError
from . import errors
from .objective import Objective
from .state import EpochRecord, TrainState
from .steps import Steps, StepsState

_TORCH = str(torch.__version__)
_HASHED_ROWS = 1000
_ROWS_AT_A_TIME = 100  # of images larger than memory


class Checkpoint:
    """A file of tensors and JSON with all that a fit needs to go on, bit for bit.

    Of several processes, rank 0 reads and writes it.

    Parameters
    ----------
    path : path-like
    every : int or float
        Epochs, or seconds, between two writings.

    Raises
    ------
    OSError
        If the file cannot be written.
    ResumeError
        If there is a file that is not a checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | float) -> None:
        self._path = Path(path)
        self._every = every
        self._identity: dict[str, Any] = {}
        self._found = on_first(self._open)
        self._pending: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self._written = 0
        self._written_at = time.monotonic()

    @property
    def found(self) -> bool:
        """Whether there is something to go on from."""
        return self._found is not None

    @property
    def entropy(self) -> int | None:
        """What the randomness of the fit in the file follows from."""
        return None if self._found is None else int(self._found[0]["identity"]["entropy"])

    def match(self, identity: dict[str, Any]) -> None:
        """Add to what tells this fit from others, and compare with the file.

        Parameters
        ----------
        identity : dict
            Anything that JSON holds.

        Raises
        ------
        ResumeError
            If the file belongs to another fit; the message names the difference.
        """
        identity = json.loads(json.dumps(identity))
        self._identity |= identity
        if self._found is None:
            return
        there = self._found[0]["identity"]
        for name, here in identity.items():
            if name not in there or there[name] != here:
                raise errors.other_fit(self._path, name, there.get(name), here)

    def restore(self, state: TrainState, objective: Objective, steps: Steps) -> None:
        """Put a run where the file's was."""
        assert self._found is not None
        header, tensors = self._found
        try:
            objective.load_state_dict(_group(tensors, "objective"))
            objective.load_state(_own_state(tensors))
            steps.load(StepsState(_group(tensors, "steps"), header["steps"]))
            state.history = [EpochRecord(total, terms) for total, terms in header["history"]]
            state.seconds, state.n_stable = header["seconds"], header["n_stable"]
            state.stopped = header["stopped"]
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise errors.damaged_checkpoint(self._path, error) from error
        self._written = len(state.history)
        self._found = None  # it may be as large as the networks

    def keep(
        self,
        state: TrainState,
        finished: dict[str, Tensor],
        objective: Objective,
        steps: Steps,
    ) -> None:
        """Take the state at the end of an epoch, and write it if it is time.

        Parameters
        ----------
        state : TrainState
        finished : dict of str to Tensor
            A copy of the objective's state.
        objective : Objective
        steps : Steps
        """
        if rank():
            return
        done = steps.state()
        header = {
            "version": __version__,
            "torch": _TORCH,
            "identity": self._identity,
            "history": [[record.total, record.terms] for record in state.history],
            "seconds": state.seconds,
            "n_stable": state.n_stable,
            "stopped": state.stopped,
            "steps": done.values,
        }
        tensors = dict(objective.state())
        tensors |= {f"objective.{name}": tensor for name, tensor in finished.items()}
        tensors |= {f"steps.{name}": tensor for name, tensor in done.tensors.items()}
        self._pending = header, tensors
        if self._is_due(len(state.history)):
            self.write()

    def write(self) -> None:
        """Write what was taken last, unless it is written.

        Warns
        -----
        RuntimeWarning
            If that fails, for example on a full disk: the training goes on.
        """
        if self._pending is None:
            return
        header, tensors = self._pending
        try:
            write_file(self._path, header, {name: t.cpu() for name, t in tensors.items()})
        except OSError as error:
            warn_user(
                f"The checkpoint {os.fspath(self._path)!r} could not be written after epoch "
                f"{len(header['history'])}: {error}. The training goes on.",
                RuntimeWarning,
            )
            return
        self._pending = None
        self._written, self._written_at = len(header["history"]), time.monotonic()

    def _is_due(self, n_epochs: int) -> bool:
        if isinstance(self._every, Integral):
            return n_epochs - self._written >= self._every
        return time.monotonic() - self._written_at >= self._every

    def _open(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Check that the file can be written, and read it if it is there."""
        _check_writable(self._path)
        return self._read() if self._path.exists() else None

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            header, tensors = read_file(self._path)
            known_torch = header["torch"]
            int(header["identity"]["entropy"])
        except (SavedModelError, KeyError, TypeError, ValueError) as error:
            raise errors.damaged_checkpoint(self._path, error) from error
        if known_torch != _TORCH:
            warn_user(
                f"{os.fspath(self._path)!r} was written under torch {known_torch}, this is "
                f"{_TORCH}: the result may differ from that of an uninterrupted fit.",
                RuntimeWarning,
            )
        return header, tensors


def data_identity(source: DataSource) -> dict[str, Any]:
    """Tell a data set from others by its size, its type and some of its rows."""
    n_hashed = min(source.n_samples, _HASHED_ROWS)
    rows = torch.linspace(0, source.n_samples - 1, n_hashed, dtype=torch.float64).long()
    digest = hashlib.sha256()
    shape: tuple[int, ...] = ()
    dtype = ""
    for _, stored in source.batches(torch.split(rows, _ROWS_AT_A_TIME)):
        digest.update(stored.cpu().numpy().tobytes())
        dtype, shape = str(stored.dtype), tuple(stored.shape[1:])
    return {
        "X.n_samples": source.n_samples,
        "X.shape": shape,
        "X.dtype": dtype,
        "X.content": digest.hexdigest()[:16],
    }


def tensors_identity(tensors: dict[str, Tensor]) -> str:
    """Tell tensors from others, by their bits."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _own_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the objective keeps beside its state dict, under names of its own."""
    return {n: t for n, t in tensors.items() if not n.startswith(("objective.", "steps."))}


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}."
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _check_writable(path: Path) -> None:
    """Find out before the training whether a file can be put there."""
    kind = special_target(path)
    if kind is not None:
        raise errors.checkpoint_replaces_no_file(path, kind)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise errors.checkpoint_not_writable(path, error) from error
