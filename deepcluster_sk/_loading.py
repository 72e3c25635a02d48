"""Opening saved estimators."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._estimator.saving import from_saved
from ._runtime.file_format import read_file
from ._runtime.isolation import isolating
from .exceptions import DeviceError, EncoderError, SavedModelError
from .methods import METHODS

if TYPE_CHECKING:
    from ._estimator.base import BaseDeepClusterer


@isolating
def load(
    path: str | os.PathLike[str],
    *,
    encoder: nn.Module | Callable[[], nn.Module] | None = None,
    device: str | torch.device | None = None,
) -> "BaseDeepClusterer":
    """Open an estimator that its ``save`` method wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
        The file.
    encoder : torch.nn.Module, callable or None, default=None
        The module, or what returns it, if the estimator was fitted with an encoder of its own.
        The estimator gets a copy of the module, with the weights of the file.
    device : str, torch.device or None, default=None
        Takes the place of the estimator's ``device``, for a machine with other devices.

    Returns
    -------
    estimator : object
        Fitted; predicts the same as the one that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SavedModelError
        If the file is not a saved estimator, is damaged or has a newer format, or if it needs an
        encoder.
    EncoderError
        If the callable `encoder` returns no module, or the module cannot be copied.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering, load
    >>> images = load_digits().images
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/digits.dcsk")
    ...     same = load(f"{folder}/digits.dcsk")
    >>> bool((same.predict(images) == model.labels_).all())
    True
    """
    header, tensors = read_file(path)
    if "identity" in header:
        raise SavedModelError(
            f"{os.fspath(path)!r} is a checkpoint. Pass it as checkpoint= to an estimator with the "
            "same parameters, and call fit with the same data."
        )
    name = header.get("class")
    if not isinstance(name, str) or name not in METHODS:
        raise SavedModelError(
            f"{os.fspath(path)!r} holds a {name!r}, which this version does not know; expected one "
            f"of {sorted(METHODS)}. Open it with the deepcluster_sk that wrote it."
        )
    try:
        estimator: BaseDeepClusterer = from_saved(
            METHODS[name].load_class(), header, tensors, encoder=encoder, device=device
        )
        return estimator
    except (SavedModelError, DeviceError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        if isinstance(error, EncoderError) and encoder is not None:
            raise  # it is about the encoder that was passed, not about the file
        raise SavedModelError(
            f"{os.fspath(path)!r} does not fit together: {error}. If the estimator has an encoder "
            "of its own, pass the same architecture as encoder=; otherwise the file is damaged."
        ) from error
