"""The errors of devices, processes and files: each function builds one of them."""

import errno
import os
from typing import Any

import torch

from ..exceptions import DeviceError, SavedModelError

_Path = str | os.PathLike[str]
_Device = str | torch.device


def unknown_device(device: _Device) -> DeviceError:
    """Return the error for a name that torch does not know."""
    return DeviceError(
        f"device={device!r} is not a device name. Pass 'auto', 'cpu', 'cuda' or 'cuda:1'."
    )


def missing_device(device: _Device, n_present: int, kind: str) -> DeviceError:
    """Return the error for a device that this machine does not have."""
    return DeviceError(
        f"device={device!r} was requested, but this machine has {n_present} device(s) of type "
        f"{kind!r}. Pass device='auto' or device='cpu'."
    )


def device_without_messages(device: _Device, kind: str) -> DeviceError:
    """Return the error for a device that no backend of torch.distributed can use."""
    return DeviceError(
        f"device={device!r} is {kind!r} here, which cannot exchange tensors between processes. "
        "Pass device='cpu', or start a single process."
    )


def too_few_devices(n_present: int, local_rank: int) -> DeviceError:
    """Return the error for more processes on a machine than it has devices."""
    return DeviceError(
        f"This machine has {n_present} CUDA device(s), which leaves no device for its "
        f"process {local_rank}. "
        "Start as many processes as there are devices, or pass device='cpu'."
    )


def device_outside_of_group(device: _Device, kind: str, backends: str) -> DeviceError:
    """Return the error for a process group that has no backend for the device."""
    return DeviceError(
        f"device={device!r} was requested, but the processes of this job exchange tensors by "
        f"{backends!r}, which has no backend for the type {kind!r}. Pass another device, or start "
        "the process group with a backend for it."
    )


def different_inputs(name: str, first: Any, rank: int, other: Any) -> ValueError:
    """Return the error for processes that were not given the same."""
    return ValueError(
        f"The processes of this job have different inputs: {name}={first!r} in rank 0, "
        f"{name}={other!r} in rank {rank}. Pass the same parameters and the same, whole X in all "
        "of them; the rows are shared out inside."
    )


def special_target(path: _Path, kind: str) -> OSError:
    """Return the error for a path at which there is no regular file to replace."""
    number = errno.EISDIR if os.path.isdir(path) else errno.EEXIST
    return OSError(  # IsADirectoryError or FileExistsError
        number,
        f"{os.fspath(path)!r} is {kind}, which a file never replaces. Pass the name of a new file, "
        "or of a regular file",
    )


def missing_file(path: _Path) -> FileNotFoundError:
    """Return the error for a path that does not lead to a file."""
    return FileNotFoundError(
        f"{os.fspath(path)!r} is not a file. Pass the path of a file that save() wrote."
    )


def unreadable_file(path: _Path, error: Exception) -> SavedModelError:
    """Return the error for a file that is not in the safetensors format."""
    return SavedModelError(
        f"{os.fspath(path)!r} is damaged, or is not a saved estimator: {error}. Save it again."
    )


def changed_file(path: _Path) -> SavedModelError:
    """Return the error for a file whose content does not have the digest in its header."""
    return SavedModelError(
        f"{os.fspath(path)!r} is damaged: its content is not what was written. Save it again."
    )


def foreign_file(path: _Path) -> SavedModelError:
    """Return the error for a file of tensors that another program wrote."""
    return SavedModelError(
        f"{os.fspath(path)!r} was not written by deepcluster_sk. Pass a file that save() wrote."
    )


def newer_format(path: _Path, found: Any, version: Any, known: int) -> SavedModelError:
    """Return the error for a file of a format that this version does not read."""
    return SavedModelError(
        f"{os.fspath(path)!r} has format {found!r} and was written by deepcluster_sk {version!r}; "
        f"this version reads format {known}. Install a newer deepcluster_sk."
    )
