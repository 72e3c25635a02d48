"""What is said about a training that cannot go on.

Every error that a user can cause here is made in this file: it says what was got, what was
expected, and what to do.
"""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sklearn.exceptions import NotFittedError

from ..exceptions import DivergenceError, EncoderError, ResumeError

if TYPE_CHECKING:
    from .state import EpochRecord, TrainConfig

Shape = tuple[int, ...]


def loss_diverged(record: "EpochRecord", epoch: int, config: "TrainConfig") -> DivergenceError:
    """Say that the loss is not a number."""
    terms = ", ".join(f"{name}={value:.4g}" for name, value in record.terms.items())
    return DivergenceError(
        f"Loss became {record.total} in epoch {epoch} ({terms}). Lower learning_rate (now "
        f"{config.learning_rate:g}), or use precision='float32' (now {config.precision!r})."
    )


def features_diverged(epoch: int, learning_rate: float) -> DivergenceError:
    """Say that features of the encoder are not numbers."""
    return DivergenceError(
        f"Features became NaN or infinite after epoch {epoch}. Lower learning_rate (now "
        f"{learning_rate:g})."
    )


def out_of_memory(device: torch.device, batch_size: int) -> MemoryError:
    """Say that a training step does not fit into the memory."""
    return MemoryError(
        f"Out of memory in a training step on {device} with batch_size={batch_size}. Lower "
        "batch_size, or use a smaller encoder."
    )


def frozen_without_weights(encoder: str) -> EncoderError:
    """Say that random weights are not to be frozen."""
    return EncoderError(
        f"freeze_encoder=True was passed with encoder={encoder!r}, which is untrained and would "
        "stay so. Pass the name of a pretrained encoder, such as 'torchvision/resnet18' or "
        "'timm/NAME', a module with trained weights, or freeze_encoder=False."
    )


def cache_is_no_folder(path: str | os.PathLike[str]) -> NotADirectoryError:
    """Say that features cannot be kept where something else is."""
    return NotADirectoryError(
        errno.ENOTDIR,
        f"cache={os.fspath(path)!r} is not a folder. Pass the path of a folder, which is created "
        "if it does not exist",
    )


def frozen_features_not_finite(sample: int, n_bad: int, n_samples: int) -> EncoderError:
    """Say which sample a frozen encoder cannot encode."""
    return EncoderError(
        f"The frozen encoder returned NaN or infinity for sample {sample} ({n_bad} of {n_samples} "
        "samples). Check its weights and the range of its input: images arrive as float32 in "
        "[0, 1]."
    )


def other_fit(path: Path, name: str, there: Any, here: Any) -> ResumeError:
    """Say in what a checkpoint differs from the fit."""
    return ResumeError(
        f"Cannot resume from {os.fspath(path)!r}: it was written with {name}={there!r}, this fit "
        f"has {name}={here!r}. Restore it, delete the file to start again, or pass another "
        "checkpoint."
    )


def typicality_unknown() -> NotFittedError:
    """Say that nothing is known about the features of the training set."""
    return NotFittedError(
        "How typical samples are is learned at the end of fit, and this estimator has been through "
        "partial_fit alone, or was saved by version 0.1.0. Call fit."
    )


def damaged_checkpoint(path: Path, error: Exception) -> ResumeError:
    """Say that a file is not a whole checkpoint."""
    return ResumeError(
        f"Cannot resume from {os.fspath(path)!r}: it is damaged, or not a checkpoint "
        f"({type(error).__name__}: {error}). Delete the file to start again, or pass another "
        "checkpoint."
    )


def other_optimizer_shape(
    key: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> ValueError:
    """Say that a checkpoint is of another network; it becomes part of the message above."""
    return ValueError(f"{key} of the optimiser has shape {shape}, expected {expected}")


def checkpoint_replaces_no_file(path: Path, kind: str) -> OSError:
    """Say that something is there that a checkpoint must not replace."""
    number = errno.EISDIR if path.is_dir() else errno.EEXIST
    return OSError(
        number,
        f"checkpoint={os.fspath(path)!r} is {kind}, which a checkpoint never replaces. Pass the "
        "name of a new file, or of a checkpoint",
    )


def checkpoint_not_writable(path: Path, error: OSError) -> OSError:
    """Say that a checkpoint cannot be put there."""
    return OSError(
        error.errno,
        f"checkpoint={os.fspath(path)!r} cannot be written ({error.strerror}). Pass the name of a "
        "file in a folder that exists and that you may write to",
    )
