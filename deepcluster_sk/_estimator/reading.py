"""How samples are read, in fit and in predictions alike."""

from typing import Any

import torch

from .._data.image_files import checked_size
from .._data.preprocessing import Layout, Preprocessor
from .._data.sources import open_source
from .._runtime.distributed import check_same, rank, world_size
from .._training.checkpoint import data_identity
from .opening import FileOptions
from .validation import Samples


def file_options(estimator: Any) -> FileOptions:
    """Resolve the parameters of image files."""
    tells = bool(estimator.verbose) and rank() == 0
    return FileOptions(checked_size(estimator.image_size), estimator.on_error, tells)


def check_same_rows(samples: Samples) -> None:
    """Refuse to work together on the rows of different data sets."""
    if world_size() > 1:
        check_same(data_identity(open_source(samples.rows, device=torch.device("cpu"))))


def preprocessor_of(samples: Samples, learned: Preprocessor) -> Preprocessor:
    """Return what scales samples: image files are always divided by 255."""
    return Preprocessor.of_bytes(learned.layout) if samples.from_files else learned


def row_multiple(layout: Layout) -> int:
    """Rows per batch of inference are padded to this multiple; padding images costs too much."""
    return 1 if layout.is_image else 32
