"""The process group of a job that ``torchrun`` started: begin, join, end."""

import atexit
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from . import errors
from .device import claim_device, resolve_device
from .distributed import Place, is_together, of_all, placed, rank


def may_write() -> bool:
    """Tell whether this is the process that writes files, inside or outside of a block."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return not _started_by_torchrun() or int(os.environ["RANK"]) == 0


def check_same(values: dict[str, Any]) -> None:
    """Refuse to work together on different things.

    Parameters
    ----------
    values : dict
        What has to be the same on all ranks, by name.

    Raises
    ------
    ValueError
        On all ranks, with the first difference.
    """
    first, *others = of_all(values)
    for number, theirs in enumerate(others, start=1):
        for name, value in first.items():
            if theirs.get(name) != value:
                raise errors.different_inputs(name, value, number, theirs.get(name))


@contextmanager
def together(device: str | torch.device) -> Iterator[None]:
    """Work with the other processes of the job for the length of a block; rank 0 alone warns.

    A running process group is used. Where none is running and ``torchrun`` started several
    processes, one is started, which ends with the process.

    Parameters
    ----------
    device : str or torch.device
        As the user passed it. Where the group is started here, one without a number is that with
        the process's number on its machine.

    Raises
    ------
    DeviceError
        If the processes cannot exchange tensors of the device.
    """
    if is_together() or not _joined(device):
        yield
        return
    with placed(Place(dist.get_rank(), dist.get_world_size())), warnings.catch_warnings():
        if rank():
            warnings.simplefilter("ignore")
        yield


def _joined(device: str | torch.device) -> bool:
    """Start the process group if it is time to; return whether there is one."""
    if not dist.is_available():
        return False
    if not dist.is_initialized():
        if not _started_by_torchrun():
            return False
        dist.init_process_group(claim_device(device, int(os.environ.get("LOCAL_RANK", 0))))
        atexit.register(_leave)
    kind, known = resolve_device(device).type, dist.get_backend_config()
    if dist.get_world_size() > 1 and f"{kind}:" not in known:
        raise errors.device_outside_of_group(device, kind, known)
    return True


def _started_by_torchrun() -> bool:
    """Tell whether this process is one of several of a job."""
    several = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
    # workers of joblib inherit the environment, but are not part of the job
    return several and multiprocessing.parent_process() is None


def _leave() -> None:
    """End the group at the end of a process, unless an error ends it: others may be waiting."""
    if dist.is_initialized() and getattr(sys, "last_value", None) is None:
        dist.destroy_process_group()
