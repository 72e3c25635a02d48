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

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset, scores
from .._estimator.parameters import with_parameters
from .._networks.modules import MomentumCopy
from .._networks.neighbor_objective import NeighborObjective
from .._networks.neighbor_stage import start_rows
from .._networks.unit_heads import UnitHeads
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..losses import at_least_float32, negative_entropy

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

    In the end the head is kept on which neighbours agree the most.
    """

    graph_decides: ClassVar[bool] = False
    started: Tensor
    """Whether heads that start from partitions have; 0 or 1."""
    moves: Tensor
    """Whether the last layer of the heads learns: from the second epoch on; 0 or 1."""
    marginal: Tensor
    """Mean probabilities of the teachers (n_heads, 1, n_clusters)."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        n_heads, n_clusters = settings.n_heads, settings.n_clusters
        widths = settings.hidden_dim, settings.projection_dim
        self.students = UnitHeads(feature_dim, *widths, n_clusters, n_heads)
        self.teachers = MomentumCopy(self.students, only_in_training=False)
        self.students.only_in_training = True
        self.register_buffer("started", torch.tensor(float(not settings.partition_start)))
        self.register_buffer("moves", torch.zeros(()))
        self.register_buffer("marginal", torch.full((n_heads, 1, n_clusters), 1 / n_clusters))

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
        loss = losses.mean() / 2
        return LossOutput(
            loss,
            detached(
                distillation=loss,
                weight=weights.mean(),
                entropy=math.log(settings.n_clusters) - negative_entropy(marginal).mean(),
            ),
            carry=(marginal.detach(),),
        )

    def _log_probabilities(self, logits: Tensor) -> list[Tensor]:
        """Return those of all processes, for each of the two views: (n_heads, B, n_clusters)."""
        scaled = logits.float() / self.settings.temperature
        return [gather(x, dim=1).log_softmax(dim=-1) for x in scaled.chunk(2, dim=1)]

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the first teacher: the only one that is left after training."""
        logits: Tensor = self.teachers(features)[0]
        return torch.softmax(logits.float() / self.settings.temperature, dim=-1)

    def learned_assignments(self, features: Tensor) -> Tensor:
        """Softmax of all students, which the teachers follow: (n_heads, B, n_clusters)."""
        logits: Tensor = self.students(features)
        return torch.softmax(logits.float() / self.settings.temperature, dim=-1)

    def before_labeling(self, map_all: MapAll) -> None:
        """Let all heads be the one whose teacher's clusters neighbours prefer."""
        best = self._best(map_all.on_sampled(self.encoder))
        for heads in (self.students, self.teachers.module):
            assert isinstance(heads, UnitHeads)
            heads.repeat(best)

    def after_labeled_step(self) -> None:
        """Let the teachers follow."""
        self.teachers.update(self.students, self.settings.momentum)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Let the teachers follow."""
        self.teachers.update(self.students, self.settings.momentum)
        self.marginal.copy_(carry[0])

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Start heads, find neighbours when it is time, and let the last layer learn later on."""
        if not self.started and progress >= self.settings.cluster_start:
            rows = start_rows(map_all.sampled_shape[0])
            self._start(map_all.on_rows(rows, self.encoder))
        self.neighbors.search(progress, map_all, self.encoder)
        self.moves.fill_(float(progress > 0))

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep one head."""
        self._select(torch.tensor([self._best(features)], device=self.marginal.device))
        self.finish_clusters(features, seed)

    def _start(self, features: Tensor) -> None:
        """Let each head imitate a partition of the rows to start from (r, feature_dim)."""
        self.started.fill_(1)
        partitions = self.neighbors.starts(features, self.settings.n_heads)
        self.students.imitate(features, partitions, temperature=self.settings.temperature)
        self.teachers.update(self.students, momentum=0)

    def _best(self, features: Tensor) -> int:
        """Return the head on whose clusters of features (n, feature_dim) neighbours agree most."""
        return self.neighbors.preferred(self.teachers(features).argmax(dim=2), features)

    def _select(self, heads: Tensor) -> None:
        """Keep some of the heads."""
        for module in (self.students, self.teachers.module):
            assert isinstance(module, UnitHeads)
            module.select(heads)
        self.marginal = self.marginal[heads]

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many heads as the state."""
        n_heads = len(state_dict["marginal"])
        if n_heads < len(self.marginal):
            self._select(torch.arange(n_heads, device=self.marginal.device))


# the results are as later papers report them, for DINO's ViT-B/16: readings, not facts
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "timm/vit_base_patch16_224.dino",
        "augmentation": "none",
        "scale": "unit",
        "n_heads": 16,
        "hidden_dim": 512,
        "projection_dim": 256,
        "partition_start": False,
        "momentum": 0.996,
        "n_neighbors": 50,
        "max_epochs": 100,
        "batch_size": 1024,
        "optimizer": "adamw",
        "learning_rate": 4e-4,
        "weight_decay": 1e-4,
        "warmup": 0.2,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.886, 0.945, 0.885)),
        "cifar100": ({"n_clusters": 100}, scores(0.769, 0.671, 0.533)),
        "imagenet": ({"n_clusters": 1000}, scores(0.814, 0.580, 0.459)),
    },
)


@with_parameters
class TEMI(BaseDeepClusterer):
    """Teacher ensemble-weighted mutual information (TEMI) of images or rows.

    Student heads on fixed features learn to give a row the cluster that their teachers, slowly
    moving averages of themselves, give to one of its nearest neighbours. Pairs that the teachers
    put into different clusters count less. Meant for embeddings, or for images and an
    encoder with trained weights: ``encoder="timm/NAME"``, or a module and ``freeze_encoder=True``.

    Parameters
    ----------
    n_heads : int, default=4
        Number of heads that are trained side by side, and weight the pairs together. The one is
        kept on which neighbours agree the most. The authors have 16, and keep that of the lowest
        loss.
    hidden_dim : int, default=128
        Width of the hidden layer of each head; 512 in the authors' code.
    projection_dim : int, default=64
        Dimension of the unit vectors that the last layer compares with directions of the clusters;
        256 in the authors' code.
    partition_start : bool, default=True
        Whether heads imitate partitions at first: of a graph of the features' neighbours and by
        k-means, in turns. False starts from random weights, as in the paper.
    temperature : float, default=0.1
        tau, of students and teachers.
    beta : float, default=0.6
        Below 1, it holds off the collapse into few clusters; in (0, 1]. Raise it for many small
        clusters, lower it if clusters stay empty.
    momentum : float, default=0.99
        Share of the old weights in the teachers' averages, in [0, 1); .996 in the authors' code,
        for longer trainings.
    marginal_momentum : float, default=0.9
        Share of the old value in the average of the clusters' shares, in [0, 1).
    scale : {"auto", "columns", "global", "unit"} or None, default=None
        How rows are scaled, or the features of a frozen encoder, as for the other methods. None
        leaves them as they are, as the authors do. Pass ``"auto"`` for columns of different units.
    cluster_start : float, default=0.0
        Share of the epochs after which the start from partitions takes place, in [0, 1).
    n_neighbors : int or "auto", default="auto"
        Number of nearest neighbours, one of which is the other row of a pair. ``"auto"`` is 15
        among inputs and frozen features, and 10 among trained ones; 50 in the authors' code. 0
        pairs each row with itself. The graph calibrates the confidence and does not decide on the
        clusters.
    neighbor_space : {"auto", "inputs", "features"}, default="auto"
        ``"inputs"``: neighbours are those among rows or frozen features, from the first step on.
        ``"features"``: they are searched at `neighbor_start` among the features of an encoder that
        is trained; until then, each row is paired with itself. ``"auto"`` is ``"features"`` for
        images whose encoder is trained, and ``"inputs"`` otherwise.
    max_epochs : int or "auto", default="auto"
        Number of passes over the data. ``"auto"`` is at least 18, and as many as make 840 steps of
        `batch_size` samples.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each term per epoch: ``"distillation"``, the loss; ``"weight"``, how far teachers
        put both rows of a pair into one cluster, in [0, 1]; and ``"entropy"`` of the clusters'
        shares, ``log(n_clusters)`` for equal ones.

    See Also
    --------
    TURTLE : Linear, and for several feature spaces at once.
    ContrastiveClustering : Trains an encoder.

    References
    ----------
    .. [1] Adaloglou, Michels, Kalisch and Kollmann, "Exploring the limits of deep image clustering
       using pretrained models", BMVC 2023, https://arxiv.org/abs/2303.17896
    """

    _objective_class: ClassVar[type[Objective]] = TEMIObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a smaller beta"
    _least_training: ClassVar[tuple[int, int] | None] = (18, 840)

    n_heads: kinds.PositiveInt = 4
    hidden_dim: kinds.PositiveInt = 128
    projection_dim: kinds.PositiveInt = 64
    partition_start: kinds.Boolean = True
    temperature: kinds.PositiveFloat = 0.1
    beta: kinds.PositiveFraction = 0.6
    momentum: kinds.Fraction = 0.99
    marginal_momentum: kinds.Fraction = 0.9

    encoder: kinds.Encoder = "identity"
    augmentation: kinds.Augment = "none"
    scale: kinds.Scale = None
    cluster_start: kinds.Fraction = 0.0
    optimizer: Annotated[str, kinds.one_of("adam", "adamw", "sgd")] = "adamw"
    weight_decay: kinds.NonNegativeFloat = 1e-4
