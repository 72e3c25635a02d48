"""Encoders that are not trained, and what the features of an objective are with one and without.

The frozen encoder of a fitted objective is its ``encoder``. Where the objective holds the encoder
elsewhere, as in a momentum copy, a stand-in without weights takes its place. In a training, all of
them are the encoder, or all are stand-ins: then the features are computed once, and are the rows.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from .._data.preprocessing import Layout, Preprocessor
from .._data.protocols import DataSource
from .._runtime.device import Precision, autocast
from .._runtime.progress import progress_bar
from .._runtime.random import is_foreign
from .._runtime.threads import one_thread
from . import errors
from .feature_cache import FeatureCache
from .inference import collect, map_batches
from .objective import Objective

_HALF_ROWS = 32  # that a network sees at a time in half precision


class FrozenEncoder(nn.Module):
    """An encoder that is not trained: always in evaluation mode, and without gradients.

    Parameters
    ----------
    network : torch.nn.Module
        Maps a batch to features (B, feature_dim).
    rescale : torch.nn.Module
        Maps these to what the heads see, on a common scale.

    Attributes
    ----------
    precision : str
        Number format of the network in evaluation mode, while an objective is trained.
    """

    precision: Precision = "float32"

    def __init__(self, network: nn.Module, rescale: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.rescale = rescale

    def train(self, mode: bool = True) -> Self:
        """Change nothing about the network: batch norm and dropout stay as in prediction."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return rescaled features."""
        with torch.no_grad():
            if self.training:  # in the precision of the step
                features = self.network(x).float()
            else:
                features = features_in(self.precision, self.network, x)
            rescaled: Tensor = self.rescale(features)
        return rescaled


def features_in(precision: Precision, network: nn.Module, x: Tensor) -> Tensor:
    """Return the features (B, feature_dim), float32, of a network that computes in a precision.

    In half precision, the network sees batches of one size, filled up where rows are missing: the
    rounding depends on the size, and a row should get the same bits wherever it is.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "float16"}
    network : torch.nn.Module
        Not trained.
    x : Tensor of shape (B, ...), float32
    """
    if precision == "float32":
        features: Tensor = network(x).float()
        return features
    parts = []
    for rows in torch.split(x, _HALF_ROWS):
        missing = _HALF_ROWS - len(rows)
        filled = torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
        if filled.ndim == 4:  # convolutions take half the time
            filled = filled.contiguous(memory_format=torch.channels_last)
        with autocast(x.device, precision):
            parts.append(network(filled).float()[: len(rows)])
    return torch.cat(parts)


def stand_in() -> FrozenEncoder:
    """Return what takes the place of a frozen encoder and leaves features as they are."""
    return FrozenEncoder(nn.Identity(), nn.Identity())


def build_frozen_objective(
    make: Callable[[nn.Module, int], Objective], network: nn.Module, feature_dim: int
) -> Objective:
    """Build an objective as after a training, whose features are not rescaled yet.

    Parameters
    ----------
    make : callable
        Builds an objective from an encoder and the number of its features.
    network : torch.nn.Module
        The encoder that stays as it is.
    feature_dim : int
    """
    objective = make(stand_in(), feature_dim)
    shift, scale = (torch.full((feature_dim,), v, dtype=torch.float64) for v in (0.0, 1.0))
    objective.encoder = FrozenEncoder(network, Preprocessor(Layout((feature_dim,)), shift, scale))
    return objective


def put_encoder(objective: Objective, encoder: FrozenEncoder) -> None:
    """Let the encoder, and momentum copies of it, be another one."""
    for parent in list(objective.modules()):
        for name, child in parent.named_children():
            if isinstance(child, FrozenEncoder):
                setattr(parent, name, encoder)


def give_back_encoder(objective: Objective, encoder: FrozenEncoder) -> None:
    """Let the encoder be this one, as after a training."""
    put_encoder(objective, stand_in())
    objective.encoder = encoder


def frozen_encoder(objective: Objective) -> FrozenEncoder | None:
    """Return the encoder of an objective if it is frozen."""
    return objective.encoder if isinstance(objective.encoder, FrozenEncoder) else None


def check_is_trained(encoder: Any) -> None:
    """Refuse to freeze random weights.

    Raises
    ------
    EncoderError
        If the parameter is the name of an architecture.
    """
    if isinstance(encoder, str):
        raise errors.frozen_without_weights(encoder)


def compute_features(
    network: nn.Module,
    source: DataSource,
    preprocess: nn.Module,
    *,
    precision: Precision,
    multiple: int,
    is_small: bool,
    cache: FeatureCache | None = None,
    verbose: bool = False,
) -> np.ndarray:
    """Return the features (n, feature_dim) of all rows, float32.

    With a `cache`, only those are computed that it does not have; with `verbose`, a progress bar is
    shown meanwhile.

    Raises
    ------
    EncoderError
        If some are NaN or infinite.
    """

    def compute(rows: Tensor) -> Tensor:
        batches = map_batches(
            lambda x: features_in(precision, network, preprocess(x)),
            source,
            rows=rows,
            multiple=multiple,
            one_thread=is_small,
            foreign=is_foreign(network),
        )
        return collect(_with_progress(batches, len(rows)) if verbose else batches, len(rows))

    if cache is None:
        features = compute(torch.arange(source.n_samples))
    else:
        features = cache.features(source, compute)
    bad = (~features.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise errors.frozen_features_not_finite(int(bad[0]), len(bad), len(features))
    return features.numpy()


def _with_progress(batches: Iterable[Tensor], n_samples: int) -> Iterator[Tensor]:
    """Show a progress bar over batches of features."""
    options = {"desc": "Computing features", "unit": "sample", "leave": False}
    with progress_bar(total=n_samples, **options) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def network_of(objective: Objective) -> nn.Module:
    """Return the encoder without what belongs to a frozen one."""
    encoder = objective.encoder
    return encoder.network if isinstance(encoder, FrozenEncoder) else encoder


def features_of(objective: Objective, x: Tensor, precision: Precision) -> Tensor:
    """Return the features of a preprocessed batch as users see them.

    The precision is that of a frozen encoder; one that was trained computes in float32.
    """
    trained = frozen_encoder(objective) is None
    return features_in("float32" if trained else precision, network_of(objective), x)


def encode(objective: Objective, features: Tensor, inputs: Tensor) -> Tensor:
    """Return the features as users see them."""
    return features


def assign(objective: Objective, features: Tensor, inputs: Tensor) -> Tensor:
    """Return the soft assignments of samples with these features."""
    return assign_encoded(objective, seen_by_heads(objective, features))


def scores(objective: Objective, features: Tensor, inputs: Tensor) -> Tensor:
    """Return how typical samples are, (B, 1).

    Raises
    ------
    NotFittedError
        If the objective does not know.
    """
    return _known_typicality(objective, seen_by_heads(objective, features), inputs)


def assign_and_score(objective: Objective, features: Tensor, inputs: Tensor) -> Tensor:
    """Return assignments and scores side by side."""
    encoded = seen_by_heads(objective, features)
    parts = [assign_encoded(objective, encoded), _known_typicality(objective, encoded, inputs)]
    return torch.cat(parts, dim=1)


def describe(objective: Objective, features: Tensor, inputs: Tensor) -> Tensor:
    """Return assignments, scores if the objective knows them, and features side by side."""
    encoded = seen_by_heads(objective, features)
    typical = _typicality(objective, encoded, inputs)
    known = [] if typical is None else [typical]
    return torch.cat([assign_encoded(objective, encoded), *known, features], dim=1)


def _known_typicality(objective: Objective, encoded: Tensor, inputs: Tensor) -> Tensor:
    """Return how typical samples are (B, 1), or raise."""
    typical = _typicality(objective, encoded, inputs)
    if typical is None:
        raise errors.typicality_unknown()
    return typical


def _typicality(objective: Objective, encoded: Tensor, inputs: Tensor) -> Tensor | None:
    """Return how typical these are (B, 1), in one thread as the assignments; None if unknown."""
    seen = encoded if isinstance(objective.encoder, FrozenEncoder) else inputs
    with one_thread():
        typical = objective.typicality(encoded, seen)
    return None if typical is None else typical[:, None]


def seen_by_heads(objective: Objective, features: Tensor) -> Tensor:
    """Return what the objective's own encoder returns where users see these features."""
    encoder = objective.encoder
    if not isinstance(encoder, FrozenEncoder):
        return features
    rescaled: Tensor = encoder.rescale(features.float())
    return rescaled


def assign_encoded(objective: Objective, features: Tensor) -> Tensor:
    """Return the soft assignments of what the objective's own encoder returned.

    In one thread: features that were just computed get the same bits as those computed before.
    """
    with one_thread():
        return objective.probabilities(features)
