"""TURTLE: clusters that linear classifiers find easy to learn, in one or several feature spaces.

Gadetsky, Jiang and Brbic: "Let go of your labels with unsupervised transfer", ICML 2024, arXiv
2406.07236. Losses, initialisation and optimisers are those of the authors' code.

=================  ====================================================================
symbol             name in the code
=================  ====================================================================
phi_s(x), z_s      parts of the features, one for each space
theta_s            task encoder: a weight-normalised linear layer for each space
tau(x)             labels: mean over the spaces of the softmax of the task encoders
w_s, M, eta        linear classifiers, inner_steps, inner_learning_rate
gamma              entropy_weight
=================  ====================================================================
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import errors, kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset
from .._estimator.parameters import with_parameters
from .._networks.neighbor_stage import NeighborObjective
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..losses import at_least_float32

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # of Adam, for the classifiers


def learned_classifiers(
    z: Tensor, tau: Tensor, weights: Tensor, *, n_steps: int = 10, learning_rate: float = 1e-3
) -> Tensor:
    """Train linear classifiers on soft labels, by a few steps of Adam on the whole batch.

    The loss is the mean cross-entropy, whose gradient is written out.

    Parameters
    ----------
    z : Tensor of shape (B, d), float
        Features; a constant column takes the place of a bias.
    tau : Tensor of shape (B, H, K), float
        Labels of H independent tasks, rows summing to one.
    weights : Tensor of shape (d, H * K), float
        Of new classifiers.
    n_steps : int, default=10
        M.
    learning_rate : float, default=1e-3
        eta.

    Returns
    -------
    weights : Tensor of shape (d, H * K), float
        Of the trained classifiers, without gradients.
    """
    z, tau = z.detach(), tau.detach()
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(1, n_steps + 1):
        errors_made = torch.unflatten(z @ weights, 1, tau.shape[1:]).softmax(dim=-1) - tau
        gradient = z.mT @ errors_made.flatten(1) / len(z)
        first = torch.lerp(gradient, first, _BETA_1)
        second = torch.lerp(gradient.square(), second, _BETA_2)
        root = (second / (1 - _BETA_2**step)).sqrt() + _EPSILON
        weights = weights - learning_rate / (1 - _BETA_1**step) * first / root
    return weights


def prediction_loss(z: Tensor, weights: Tensor, tau: Tensor) -> Tensor:
    """Cross-entropy of what classifiers predict and the labels, for the gradient of the labels.

    Parameters
    ----------
    z : Tensor of shape (B, d), float
    weights : Tensor of shape (d, H * K), float
        Of the classifiers.
    tau : Tensor of shape (B, H, K), float
        Labels; the only argument that the gradient reaches.

    Returns
    -------
    loss : Tensor of shape (H,), float32
        Mean over the B rows, one for each task.
    """
    logits = torch.unflatten(z.detach() @ weights.detach(), 1, tau.shape[1:])
    log_q = at_least_float32(logits).log_softmax(dim=-1)
    return -(tau * log_q).sum(dim=-1).mean(dim=0)


def share_entropy(p: Tensor) -> Tensor:
    """Entropy of the shares of the clusters.

    Parameters
    ----------
    p : Tensor of shape (B, H, K), float
        Soft assignments by one task encoder each.

    Returns
    -------
    entropy : Tensor of shape (H,), float32
        In nats: in ``[0, log K]``, highest for equal shares.
    """
    shares = at_least_float32(p).mean(dim=0)
    return -torch.special.xlogy(shares, shares.clamp_min(1e-12)).sum(dim=-1)


class TURTLEObjective(NeighborObjective):
    """Task encoders, trained so that linear classifiers learn the labels that they give.

    Several tasks are trained side by side; the paper has one. In the end the one is kept whose loss
    was the lowest in the last epoch.
    """

    n_views: ClassVar[int] = 1
    graph_decides: ClassVar[bool] = False
    space_scales: Tensor
    """Factors that give all spaces a mean square of one (n_spaces,); 1 for a single space."""
    task_losses: Tensor
    """Sum of the losses of each task (n_heads,) in this epoch."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.dims = _dims_of_spaces(settings.spaces, feature_dim)
        self.n_heads: int = settings.n_heads
        self.tasks = nn.ModuleList(
            TaskEncoder(dim, settings.n_heads, settings.n_clusters) for dim in self.dims
        )
        self.register_buffer("space_scales", torch.ones(len(self.dims)))
        self.register_buffer("task_losses", torch.zeros(settings.n_heads))

    def sample_noise(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the weights of new classifiers, one set for each space."""
        n_outputs = self.n_heads * self.settings.n_clusters
        draws = [
            torch.rand(dim + 1, n_outputs, generator=generator, device=generator.device)
            for dim in self.dims
        ]
        return tuple((2 * x - 1) / (len(x) - 1) ** 0.5 for x in draws)

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``sum over spaces of prediction - gamma entropy``, as a mean over the tasks."""
        settings = self.settings
        spaces = self._spaces(gather(self.encoder(torch.cat(batch.views))))
        per_space = [task(z) for task, z in zip(self.tasks, spaces, strict=True)]
        tau = torch.stack(per_space).mean(dim=0)
        how = {"n_steps": settings.inner_steps, "learning_rate": settings.inner_learning_rate}
        with torch.no_grad():
            rows = [F.pad(z, (0, 1), value=1.0) for z in spaces]
            classifiers = [
                learned_classifiers(z, tau, new, **how)
                for z, new in zip(rows, batch.noise, strict=True)
            ]
        pairs = zip(rows, classifiers, strict=True)
        prediction = torch.stack([prediction_loss(z, w, tau) for z, w in pairs]).sum(dim=0)
        entropy = torch.stack([share_entropy(p) for p in per_space]).sum(dim=0)
        losses = prediction - settings.entropy_weight * entropy
        return LossOutput(
            losses.mean(),
            detached(prediction=prediction.mean(), entropy=entropy.mean()),
            carry=(losses.detach(),),
        )

    def _spaces(self, features: Tensor) -> list[Tensor]:
        """Return the features of each space (n, d_s), on a common scale, float32."""
        parts = features.float().split(self.dims, dim=1)
        return [part * scale for part, scale in zip(parts, self.space_scales, strict=True)]

    def assign(self, features: Tensor) -> Tensor:
        """Return the labels of the first task: the only one that is left after training."""
        spaces = self._spaces(features)
        per_space = [task(z)[:, 0] for task, z in zip(self.tasks, spaces, strict=True)]
        return torch.stack(per_space).mean(dim=0)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show the row itself: neighbours have no part in the training."""
        return plan[:, None]

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Count the losses."""
        self.task_losses.add_(carry[0])

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Learn the scale of the spaces at first, and search the graph that judges the labels."""
        if progress == 0 and len(self.dims) > 1:
            squares = map_all.sum_on_sampled(lambda x: self.encoder(x).float().square().sum(dim=0))
            means = [part.mean() for part in squares.split(self.dims)]
            deviations = (torch.stack(means) / map_all.sampled_shape[0]).sqrt()
            self.space_scales.copy_(1 / deviations.clamp_min(1e-12))
        self.neighbors.search(progress, map_all, self.encoder)
        self.task_losses.zero_()

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep the task of the lowest loss."""
        self._select(self.task_losses.argmin()[None])
        self.end_stage(features, seed)

    def _select(self, heads: Tensor) -> None:
        """Keep some of the tasks."""
        self.task_losses = self.task_losses[heads]
        self.n_heads = len(heads)
        for task in self.tasks:
            task.select(heads)

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many tasks as the state."""
        n_heads = len(state_dict["task_losses"])
        if n_heads < self.n_heads:
            self._select(torch.arange(n_heads, device=self.task_losses.device))


class TaskEncoder(nn.Module):
    """From the features of one space to soft labels of several tasks: weight-normalised layers.

    Parameters
    ----------
    in_features, n_heads, n_clusters : int
        Widths.
    """

    def __init__(self, in_features: int, n_heads: int, n_clusters: int) -> None:
        super().__init__()
        bound = in_features**-0.5
        weight = torch.empty(in_features, n_heads, n_clusters).uniform_(-bound, bound)
        self.directions = nn.Parameter(weight)
        self.lengths = nn.Parameter(weight.norm(dim=0))
        self.bias = nn.Parameter(torch.empty(n_heads, n_clusters).uniform_(-bound, bound))

    def forward(self, z: Tensor) -> Tensor:
        """Map features (n, in_features) to soft labels (n, n_heads, n_clusters), float32."""
        weight = F.normalize(self.directions, dim=0) * self.lengths
        logits = torch.unflatten(z @ weight.flatten(1), 1, self.lengths.shape) + self.bias
        return logits.float().softmax(dim=-1)

    def select(self, heads: Tensor) -> None:
        """Keep some of the tasks."""
        self.directions = nn.Parameter(self.directions.detach()[:, heads].clone())
        self.lengths = nn.Parameter(self.lengths.detach()[heads].clone())
        self.bias = nn.Parameter(self.bias.detach()[heads].clone())


def _dims_of_spaces(spaces: Sequence[int] | None, feature_dim: int) -> list[int]:
    """Return the number of columns of each space."""
    dims = [feature_dim] if spaces is None else [int(dim) for dim in spaces]
    if min(dims, default=0) < 1 or sum(dims) != feature_dim:
        raise errors.other_spaces(spaces, feature_dim)
    return dims


_PAPER = Preset({}, {})


@with_parameters
class TURTLE(BaseDeepClusterer):
    """x (TURTLE).

    Parameters
    ----------
    spaces : tuple of int or None, default=None
        x
    n_heads : int, default=4
        x
    inner_steps : int
        x
    inner_learning_rate : float
        x
    entropy_weight : float
        x
    """

    _objective_class: ClassVar[type[Objective]] = TURTLEObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = " a larger entropy_weight,"
    _training_length: ClassVar[float] = 5.0

    spaces: Annotated[tuple[int, ...] | None, tuple, list, None] = None
    n_heads: kinds.PositiveInt = 4
    inner_steps: kinds.PositiveInt = 10
    inner_learning_rate: kinds.PositiveFloat = 1e-3
    entropy_weight: kinds.NonNegativeFloat = 10.0

    encoder: kinds.Encoder = "identity"
    augmentation: kinds.Augment = "none"
    batch_size: kinds.PositiveInt = 1024
    learning_rate: kinds.PositiveFloat = 1e-3
