"""TEMI: clustering on fixed features by self-distillation between neighbours.

Adaloglou, Michels, Kalisch and Kollmann: "Exploring the limits of deep image clustering using
pretrained models", BMVC 2023, arXiv 2303.17896. Loss, heads and their initialisation are those of
the authors' code.

=================  ====================================================================
symbol             name in the code
=================  ====================================================================
x, x'              the two views: a row and one of its neighbours
p_s, p_t           softmax of the logits of students and teachers
p~(c)              marginal: moving average of the teacher's mean probabilities
tau                temperature, of students and teachers
w                  weight of a pair: how far the teachers put both in one cluster
=================  ====================================================================
"""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset, scores
from .._estimator.parameters import with_parameters
from .._networks.modules import MomentumCopy
from .._networks.neighbor_stage import NeighborObjective
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached, take_shapes
from ..losses import at_least_float32

_INITIAL_STD = 0.02
_LEAST_SHARE = 1e-8  # of a cluster that nothing belongs to: its logarithm must be finite


def pair_weights(log_t_a: Tensor, log_t_b: Tensor) -> Tensor:
    """Tell how far the teachers put both rows of each pair in one cluster.

    Parameters
    ----------
    log_t_a, log_t_b : Tensor of shape (H, B, K), float
        Logarithms of the probabilities that the teachers give to rows and to their neighbours.

    Returns
    -------
    weights : Tensor of shape (B,), float32
        Mean over the H heads of the products of both, in (0, 1].
    """
    return (at_least_float32(log_t_a) + at_least_float32(log_t_b)).exp().sum(dim=-1).mean(dim=0)


def distillation_loss(
    log_s: Tensor, log_t: Tensor, marginal: Tensor, weights: Tensor, *, beta: float = 0.6
) -> Tensor:
    """Raise the pointwise mutual information of a student and a teacher on the two rows of a pair.

    ``mean over i of  -w_i log sum over k of (p_s[i, k] p_t[i, k])^beta / p~[k]``

    Parameters
    ----------
    log_s : Tensor of shape (..., B, K), float
        Logarithms of the probabilities that students give to one row of each pair.
    log_t : Tensor of shape (..., B, K), float
        Those that teachers give to the other row. Leading axes are independent heads.
    marginal : Tensor of shape (..., 1, K), float
        Mean probabilities of the teachers.
    weights : Tensor of shape (B,), float
        Of the pairs.
    beta : float, default=0.6
        Below 1, uncertain assignments and more clusters are preferred; in (0, 1].

    Returns
    -------
    loss : Tensor of shape (...), float32
    """
    log_s, log_t = at_least_float32(log_s), at_least_float32(log_t)
    log_marginal = at_least_float32(marginal).clamp_min(_LEAST_SHARE).log()
    information = (beta * (log_s + log_t) - log_marginal).logsumexp(dim=-1)
    return -(weights * information).mean(dim=-1)


class TEMIObjective(NeighborObjective):
    """Student heads on features, and the teachers that slowly follow them.

    In the end the head is kept whose loss was the lowest in the last epoch.
    """

    graph_decides: ClassVar[bool] = False
    moves: Tensor
    """Whether the last layer of the heads learns: from the second epoch on; 0 or 1."""
    marginal: Tensor
    """Mean probabilities of the teachers (n_heads, 1, n_clusters)."""
    head_losses: Tensor
    """Sum of the losses of each head (n_heads,) in this epoch."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        n_heads, n_clusters = settings.n_heads, settings.n_clusters
        widths = settings.hidden_dim, settings.projection_dim
        self.students = Heads(feature_dim, *widths, n_clusters, n_heads)
        self.teachers = MomentumCopy(self.students)
        self.teachers.only_in_training, self.students.only_in_training = False, True
        self.register_buffer("moves", torch.zeros(()))
        self.register_buffer("marginal", torch.full((n_heads, 1, n_clusters), 1 / n_clusters))
        self.register_buffer("head_losses", torch.zeros(n_heads))

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate the mean over the heads, and over which row of a pair the student sees."""
        settings = self.settings
        features = self.encoder(torch.cat(batch.views))
        log_s_a, log_s_b = self._log_probabilities(self.students(features, self.moves))
        log_t_a, log_t_b = self._log_probabilities(self.teachers(features))
        mean = torch.cat([log_t_a, log_t_b], dim=1).exp().mean(dim=1, keepdim=True)
        marginal = torch.lerp(mean, self.marginal, settings.marginal_momentum)
        weights = pair_weights(log_t_a, log_t_b)
        losses = distillation_loss(log_s_a, log_t_b, marginal, weights, beta=settings.beta)
        losses = losses + distillation_loss(log_s_b, log_t_a, marginal, weights, beta=settings.beta)
        losses = losses / 2
        return LossOutput(
            losses.mean(),
            detached(
                distillation=losses.mean(),
                weight=weights.mean(),
                entropy=-torch.special.xlogy(marginal, marginal).sum(dim=-1).mean(),
            ),
            carry=(marginal.detach(), losses.detach()),
        )

    def _log_probabilities(self, logits: Tensor) -> list[Tensor]:
        """Return those of all processes, for each of the two views: (n_heads, B, n_clusters)."""
        scaled = logits.float() / self.settings.temperature
        return [gather(x, dim=1).log_softmax(dim=-1) for x in scaled.chunk(2, dim=1)]

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the first teacher: the only one that is left after training."""
        logits: Tensor = self.teachers(features)[0]
        return (logits.float() / self.settings.temperature).softmax(dim=-1)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Let the teachers follow."""
        marginal, losses = carry
        self.teachers.update(self.students, self.settings.momentum)
        self.marginal.copy_(marginal)
        self.head_losses.add_(losses)

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and let the last layer learn after an epoch."""
        self.neighbors.search(progress, map_all, self.encoder)
        self.moves.fill_(float(progress > 0))
        self.head_losses.zero_()

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep the head of the lowest loss."""
        self._select(self.head_losses.argmin()[None])
        self.end_stage(features, seed)

    def _select(self, heads: Tensor) -> None:
        """Keep some of the heads."""
        self.students.select(heads)
        self.teachers.module.select(heads)
        self.marginal, self.head_losses = self.marginal[heads], self.head_losses[heads]

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many heads as the state."""
        n_heads = len(state_dict["head_losses"])
        if n_heads < len(self.head_losses):
            self._select(torch.arange(n_heads, device=self.head_losses.device))


class Heads(nn.Module):
    """Several heads at once: two layers, unit length, and products with unit directions.

    Parameters
    ----------
    in_features, hidden_features, projected_features, n_clusters : int
        Widths.
    n_heads : int
        Number of heads.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        projected_features: int,
        n_clusters: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        self.first = _drawn(n_heads, in_features, hidden_features)
        self.first_bias = nn.Parameter(torch.zeros(n_heads, 1, hidden_features))
        self.second = _drawn(n_heads, hidden_features, projected_features)
        self.second_bias = nn.Parameter(torch.zeros(n_heads, 1, projected_features))
        self.directions = _drawn(n_heads, projected_features, n_clusters)
        self.lengths = nn.Parameter(torch.ones(n_heads, 1, n_clusters))

    def forward(self, x: Tensor, last_moves: Tensor | None = None) -> Tensor:
        """Map features (n, in_features) to logits (n_heads, n, n_clusters).

        With `last_moves`, the gradient of the last layer is multiplied by it.
        """
        hidden = F.gelu(torch.matmul(x, self.first) + self.first_bias)
        projected = F.normalize(torch.baddbmm(self.second_bias, hidden, self.second), dim=-1)
        directions, lengths = F.normalize(self.directions, dim=1), self.lengths
        if last_moves is not None:
            directions = torch.lerp(directions.detach(), directions, last_moves)
            lengths = torch.lerp(lengths.detach(), lengths, last_moves)
        return torch.bmm(projected, directions) * lengths

    def select(self, heads: Tensor) -> None:
        """Keep some of the heads."""
        for name, parameter in list(self.named_parameters()):
            kept = parameter.detach()[heads].clone()
            setattr(self, name, nn.Parameter(kept, requires_grad=parameter.requires_grad))


def _drawn(*shape: int) -> nn.Parameter:
    """Return weights from a truncated normal distribution."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=_INITIAL_STD))


_PAPER = Preset({}, {})


@with_parameters
class TEMI(BaseDeepClusterer):
    """Self-distillation between neighbours (TEMI) on fixed features.

    Parameters
    ----------
    n_heads : int, default=4
        x
    hidden_dim : int
        x
    projection_dim : int
        x
    temperature : float
        x
    beta : float
        x
    momentum : float
        x
    marginal_momentum : float
        x
    """

    _objective_class: ClassVar[type[Objective]] = TEMIObjective
    _paper: ClassVar[Preset] = _PAPER
    _training_length: ClassVar[float] = 5.0

    n_heads: kinds.PositiveInt = 4
    hidden_dim: kinds.PositiveInt = 512
    projection_dim: kinds.PositiveInt = 256
    temperature: kinds.PositiveFloat = 0.1
    beta: kinds.ClosedFraction = 0.6
    momentum: kinds.Fraction = 0.996
    marginal_momentum: kinds.Fraction = 0.9

    encoder: kinds.Encoder = "identity"
    augmentation: kinds.Augment = "none"
    batch_size: kinds.PositiveInt = 512
    optimizer: Annotated[str, kinds.one_of("adam", "adamw", "sgd")] = "adamw"
    learning_rate: kinds.PositiveFloat = 2e-4
    weight_decay: kinds.NonNegativeFloat = 1e-4
