"""The contract between the training loop and a method.

An objective is the networks and the loss of one method: everything that learns, nothing that
loops. Its loss is a pure function of parameters, buffers and the batch. All randomness arrives in
the batch, and every side effect happens in a hook that the trainer calls outside of the loss.
Where several processes train, the loss is that of the whole batch, in each of them: what it is
computed from is joined by ``gather``, and so is what it hands over to hooks.
"""

import copy
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from .._data.protocols import MapAll


class Settings(SimpleNamespace):
    """Parameters of a method, as they were when the fit began; read-only.

    Parameters
    ----------
    **parameters : object
        Values by name. They are immutable, so that copies of an objective share them.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Settings are read-only: {name} cannot be set.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Settings are read-only: {name} cannot be deleted.")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Batch(NamedTuple):
    """What one loss evaluation sees."""

    views: tuple[Tensor, ...]
    """Float32 batches (B, *sample_shape), one per view, augmented but for ``n_plain_views`` at the
    end; this process's part of them."""
    rows: Tensor
    """Row numbers of the first view in the data set, int64: of this process's part or, where the
    augmentation mixes rows, of the whole batch."""
    noise: tuple[Tensor, ...] = ()
    """What ``sample_noise`` returned, for the whole batch of all processes."""


class LossOutput(NamedTuple):
    """What one loss evaluation returns."""

    total: Tensor
    """The loss, differentiable, shape ()."""
    terms: dict[str, Tensor]
    """Its terms by name, detached; averaged over the epoch into the history."""
    carry: tuple[Tensor, ...] = ()
    """Detached tensors for ``after_step``."""


def detached(**terms: Tensor) -> dict[str, Tensor]:
    """Return the terms of a loss for :attr:`LossOutput.terms`."""
    return {name: term.detach() for name, term in terms.items()}


def take_shapes(module: nn.Module, state_dict: dict[str, Any], prefix: str, *names: str) -> None:
    """Let buffers have the shapes that they have in a state dict that is loaded next."""
    for name in names:
        saved, buffer = state_dict[f"{prefix}{name}"], getattr(module, name)
        if saved.shape != buffer.shape:
            setattr(
                module, name, torch.empty(saved.shape, dtype=buffer.dtype, device=buffer.device)
            )


class Objective(nn.Module, ABC):
    """Networks and loss of one method.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps a batch (B, *sample_shape) to features (B, feature_dim).
    feature_dim : int
        Number of features.
    settings : Settings
        The method's own parameters and those shared ones that concern an objective.
    """

    n_views: ClassVar[int] = 2
    """How many views of a row the default ``view_rows`` asks for; nothing else reads it.

    A ``NeighborObjective`` shows two, unless it has a ``view_rows`` of its own.
    """
    n_plain_views: ClassVar[int] = 0
    """How many of the views, the last ones, show rows as they are, without augmentation.

    Images get the size that the augmentation gives to the others.
    """
    multiply_adds: int | None = None
    """Of the encoder, for one sample; None until it is asked for."""
    n_clusters: int
    """Number of clusters that users see; at most ``settings.n_clusters``, which are trained."""
    cluster_of: Tensor
    """The number that users see of each column of :meth:`calibrated`, int64."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings = settings
        self.n_clusters = settings.n_clusters
        self.register_buffer("cluster_of", torch.arange(settings.n_clusters))

    @abstractmethod
    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate the loss; pure."""

    @abstractmethod
    def assign(self, features: Tensor) -> Tensor:
        """Map features (B, feature_dim) to soft assignments, rows summing to 1.

        Returns
        -------
        assignments : Tensor of shape (B, settings.n_clusters)
        """

    def learned_assignments(self, features: Tensor) -> Tensor:
        """Map features to what learns its own labels: (B, settings.n_clusters), or more axes.

        By default, it is what :meth:`assign` returns. A method with several sets of clusters trains
        all of them, and one whose assignments no gradient reaches trains what they follow.
        """
        return self.assign(features)

    def calibrated(self, assignments: Tensor) -> Tensor:
        """Map soft assignments (B, settings.n_clusters) to those whose values can be trusted.

        Some clusters may be joined to one. By default, all stays as it is.
        """
        return assignments

    def probabilities(self, features: Tensor) -> Tensor:
        """Map features (B, feature_dim) to the assignments that users see (B, n_clusters)."""
        assignments = self.calibrated(self.assign(features))
        if self.n_clusters == len(self.cluster_of):
            return assignments[:, self.cluster_of.argsort()]
        # not the sums: the most probable cluster stays that of the most probable column
        largest = assignments.new_zeros(len(assignments), self.n_clusters).scatter_reduce(
            1, self.cluster_of.expand_as(assignments), assignments, "amax"
        )
        return largest / largest.sum(dim=1, keepdim=True)

    def regroup(self, numbers: Tensor) -> None:
        """Give the clusters that users see new numbers (n_clusters,); equal ones become one."""
        self.cluster_of = numbers[self.cluster_of]
        self.n_clusters = int(numbers.max()) + 1

    def linkage(self) -> np.ndarray | None:
        """Return the tree of the clusters in SciPy's format (n_clusters - 1, 4), if known."""
        return None

    def learn_typicality(self, features: Tensor, map_all: MapAll) -> None:
        """Learn what :meth:`typicality` needs. Runs after ``after_training``, in evaluation mode.

        Parameters
        ----------
        features : Tensor of shape (n, feature_dim)
            Of the rows of ``MapAll.on_sampled``, by the final encoder.
        map_all : MapAll
        """

    def typicality(self, features: Tensor, inputs: Tensor) -> Tensor | None:
        """Tell how typical samples are, if it is known: (B,), higher for more.

        Parameters
        ----------
        features : Tensor of shape (B, feature_dim)
        inputs : Tensor of shape (B, *sample_shape)
            What the encoder has mapped to the features; these themselves with a frozen encoder.
        """
        return None

    def sample_noise(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw what the loss needs beside the views. Runs before each step."""
        return ()

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Choose the row behind each view: from (steps, B) to (steps, views, B). Runs each epoch.

        By default every view shows the row itself; a method may pair it with a neighbour.
        """
        return plan[:, None].expand(-1, self.n_views, -1)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Update what is not learned by gradient. Runs after the optimiser, without gradients."""

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Prepare an epoch, at a share `progress` in [0, 1) of the run; without gradients.

        In ``partial_fit`` the share is 0 before the first pass and 1 after it and before any other:
        whatever starts late has started then.
        ``map_all(function)`` applies a function to all rows, unaugmented, in order and in
        evaluation mode. All processes call it together; what they compute from its values must be
        the same in all of them, or be in the state dict, which rank 0 then shares.
        """

    def labels_itself(self, n_rows: int) -> bool:
        """Tell whether clusters can be learned from their own labels.

        Not where something else than the network decides on them in the end. `n_rows` is the
        number of the sampled rows.
        """
        return True

    def before_labeling(self, map_all: MapAll) -> None:
        """Let the best of several sets of clusters take the place of the others.

        Runs before each epoch of self-labeling, after ``before_epoch(1.0, map_all)``, in place:
        the optimiser keeps its parameters. Labels are those of :meth:`assign`.
        """

    def after_labeled_step(self) -> None:
        """Update what follows :meth:`learned_assignments`, in place of :meth:`after_step`."""

    def after_training(self, features: Tensor, seed: int) -> None:
        """Drop what only training needs. Runs once, at the end, without gradients.

        Parameters
        ----------
        features : Tensor of shape (n, feature_dim)
            Of the rows of ``MapAll.on_sampled``, by the final encoder.
        seed : int
            Of what is drawn here.
        """

    def copy_for_prediction(self) -> Self:
        """Return a copy without the modules that say ``only_in_training``."""
        left_out = [m for m in self.modules() if getattr(m, "only_in_training", False)]
        return copy.deepcopy(self, {id(module): nn.Identity() for module in left_out})

    def before_single_pass(self) -> None:
        """Leave out what takes place at a share of a training. Runs before ``partial_fit``."""

    def state(self) -> dict[str, Tensor]:
        """Return what the next epoch needs beside the state dict, for checkpoints."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Take on the structure of a state dict, such as one from after training.

        Runs before the state dict of a fitted estimator is loaded into new networks.
        """

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have heads whose columns are in the final order
        name = f"{prefix}cluster_of"
        numbers = state_dict.setdefault(name, torch.arange(self.settings.n_clusters))
        take_shapes(self, state_dict, prefix, "cluster_of")
        self.n_clusters = int(numbers.max()) + 1
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)
