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

import math
from typing import Annotated, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import WITHOUT_ADDITIONS, Preset, scores
from .._estimator.parameters import with_parameters
from .._estimator.validation import check_spaces
from .._networks.neighbor_objective import NeighborObjective
from .._networks.neighbor_stage import start_rows
from .._networks.task_encoder import TaskEncoder
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..losses import at_least_float32, negative_entropy

_RATE_TIMES_DIM = 2.0  # steps of Adam change a logit by the rate, times the number of columns
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


class TURTLEObjective(NeighborObjective):
    """Task encoders, trained so that linear classifiers learn the labels that they give.

    Several tasks are trained side by side; the paper has one. In the end the one is kept on whose
    labels neighbours agree the most.
    """

    graph_decides: ClassVar[bool] = False
    started: Tensor
    """Whether tasks that start from partitions have; 0 or 1."""
    space_scales: Tensor
    """Factors that give all spaces a mean square of one (n_spaces,); 1 for a single space."""

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        self.dims = check_spaces(settings.spaces, feature_dim)
        rate = settings.inner_learning_rate
        self.inner_rates = [_RATE_TIMES_DIM / d if rate == "auto" else rate for d in self.dims]
        self.n_heads: int = settings.n_heads
        self.tasks = nn.ModuleList(
            TaskEncoder(dim, settings.n_heads, settings.n_clusters) for dim in self.dims
        )
        self.register_buffer("started", torch.tensor(float(not settings.partition_start)))
        self.register_buffer("space_scales", torch.ones(len(self.dims)))

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
        features = gather(self.encoder(torch.cat(batch.views)))
        with torch.autocast(features.device.type, enabled=False):
            spaces = self._spaces(features)
            per_space = [task(z) for task, z in zip(self.tasks, spaces, strict=True)]
            tau = torch.stack(per_space).mean(dim=0)
            with torch.no_grad():
                rows = [F.pad(z, (0, 1), value=1.0) for z in spaces]
                steps = settings.inner_steps
                classifiers = [
                    learned_classifiers(z, tau, new, n_steps=steps, learning_rate=rate)
                    for z, new, rate in zip(rows, batch.noise, self.inner_rates, strict=True)
                ]
            pairs = zip(rows, classifiers, strict=True)
            prediction = torch.stack([prediction_loss(z, w, tau) for z, w in pairs]).sum(dim=0)
            missing = torch.stack([negative_entropy(p.transpose(0, 1)) for p in per_space])
            entropy = (math.log(settings.n_clusters) - missing).sum(dim=0)
            losses = prediction - settings.entropy_weight * entropy
            return LossOutput(
                losses.mean(),
                detached(prediction=prediction.mean(), entropy=entropy.mean()),
            )

    def _spaces(self, features: Tensor) -> list[Tensor]:
        """Return the features of each space (n, d_s), on a common scale, float32."""
        parts = torch.split(features.float(), self.dims, dim=1)
        return [part * scale for part, scale in zip(parts, self.space_scales, strict=True)]

    def assign(self, features: Tensor) -> Tensor:
        """Return the labels of the first task: the only one that is left after training."""
        spaces = self._spaces(features)
        per_space = [task(z)[:, 0] for task, z in zip(self.tasks, spaces, strict=True)]
        return torch.stack(per_space).mean(dim=0)

    def learned_assignments(self, features: Tensor) -> Tensor:
        """Return the labels of all tasks (n_heads, B, n_clusters)."""
        spaces = self._spaces(features)
        per_space = [task(z) for task, z in zip(self.tasks, spaces, strict=True)]
        return torch.stack(per_space).mean(dim=0).transpose(0, 1)

    def before_labeling(self, map_all: MapAll) -> None:
        """Let all tasks be the one whose labels neighbours prefer."""
        best = self._best(map_all.on_sampled(self.encoder))
        for task in self._tasks():
            task.repeat(best)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show the row itself: neighbours have no part in the training."""
        return plan[:, None]

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Learn the scale of the spaces at first, and search the graph that judges the labels."""
        if progress == 0 and self.settings.balance_spaces and len(self.dims) > 1:
            squares = map_all.sum_on_sampled(
                lambda x: self.encoder(x).float().square().sum(dim=0).cpu()
            )
            means = [part.mean() for part in torch.split(squares, self.dims)]
            deviations = (torch.stack(means) / map_all.sampled_shape[0]).sqrt()
            self.space_scales.copy_(1 / deviations.clamp_min(1e-12))
        if not self.started and progress >= self.settings.cluster_start:
            rows = start_rows(map_all.sampled_shape[0])
            self._start(map_all.on_rows(rows, self.encoder))
        self.neighbors.search(progress, map_all, self.encoder)

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep one task."""
        self._select(torch.tensor([self._best(features)], device=features.device))
        self.finish_clusters(features, seed)

    def _start(self, features: Tensor) -> None:
        """Let each task imitate a partition of the rows to start from (r, feature_dim)."""
        self.started.fill_(1)
        spaces = self._spaces(features)
        partitions = self.neighbors.starts(torch.cat(spaces, dim=1), self.n_heads)
        for head, labels in enumerate(partitions):
            if len(torch.unique(labels)) > 1:  # not for one cluster, or rows that are all alike
                for task, z in zip(self._tasks(), spaces, strict=True):
                    task.imitate(head, z, labels)

    def _best(self, features: Tensor) -> int:
        """Return the task on whose labels of features (n, feature_dim) neighbours agree most."""
        if self.n_heads == 1:
            return 0
        return self.neighbors.preferred(self.learned_assignments(features).argmax(dim=2), features)

    def _tasks(self) -> list[TaskEncoder]:
        return cast("list[TaskEncoder]", list(self.tasks))

    def _select(self, heads: Tensor) -> None:
        """Keep some of the tasks."""
        self.n_heads = len(heads)
        for task in self._tasks():
            task.select(heads)

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many tasks as the state."""
        n_heads = len(state_dict["tasks.0.bias"])
        if n_heads < self.n_heads:
            self._select(torch.arange(n_heads, device=self.started.device))


# 6,000 iterations each; readings of later papers, for features of CLIP ViT-L/14 and DINOv2 together
_PAPER = Preset(
    {
        **WITHOUT_ADDITIONS,
        "encoder": "identity",
        "augmentation": "none",
        "scale": None,
        "balance_spaces": False,
        "n_heads": 1,
        "partition_start": False,
        "entropy_weight": 10.0,
        "inner_steps": 10,
        "inner_learning_rate": 1e-3,
        "batch_size": 10_000,
        "optimizer": "adam",
        "learning_rate": 1e-3,
    },
    {
        "cifar10": ({"n_clusters": 10, "max_epochs": 1200}, scores(0.985, 0.995, 0.989)),
        "cifar100": ({"n_clusters": 100, "max_epochs": 1200}, {"ACC": 0.891}),
        "imagenet": ({"n_clusters": 1000, "max_epochs": 47}, {"ACC": 0.729}),
        "food101": ({"n_clusters": 101, "max_epochs": 857}, {"ACC": 0.922}),
        "birdsnap": ({"n_clusters": 500, "max_epochs": 1500}, {"ACC": 0.681}),
        "caltech101": ({"n_clusters": 102, "max_epochs": 6000}, {"ACC": 0.898}),
    },
)


@with_parameters
class TURTLE(BaseDeepClusterer):
    """Labels that linear classifiers learn well (TURTLE) for images or rows.

    A linear layer on fixed features gives soft labels. In each step, a new linear classifier is
    trained on them for a moment, and the labels change so that it would have been right: clusters
    with wide margins are learned fastest. With several feature spaces of the same samples, the
    labels are the mean of one layer for each, and have to be easy to learn in all of them. Meant
    for embeddings, or for images and an encoder with trained weights: ``encoder="timm/NAME"``, or a
    module and ``freeze_encoder=True``.

    Parameters
    ----------
    spaces : tuple of int or None, default=None
        Numbers of columns of several feature spaces, which lie side by side in the rows of X, or
        in the features of the encoder. None takes all columns as one space.
    balance_spaces : bool, default=True
        Whether several spaces are scaled to one mean square; the authors take them as they are.
    n_heads : int, default=4
        Number of tasks, each with labels of its own, that are trained side by side. The one is
        kept on whose labels neighbours agree the most. The authors have one.
    partition_start : bool, default=True
        Whether heads imitate partitions at first: of a graph of the features' neighbours and by
        k-means, in turns. False starts from random weights, as in the paper.
    entropy_weight : float, default=1.0
        gamma: weight of the entropy of the clusters' shares. It draws clusters to equal sizes:
        lower it for clusters of very different size, raise it if clusters stay empty.
    inner_steps : int, default=10
        M: number of steps that a classifier is trained for.
    inner_learning_rate : float or "auto", default="auto"
        Learning rate of these steps. ``"auto"`` is 2 over the number of columns of a space; the
        authors have .001, for some thousand columns.
    cluster_start : float, default=0.0
        Share of the epochs after which the start from partitions takes place, in [0, 1).
    n_neighbors : int or "auto", default="auto"
        Number of nearest neighbours in a graph that chooses among the tasks and calibrates the
        confidence when the training is over. They have no part in the training. ``"auto"`` is 15
        among inputs and frozen features, and 10 among trained ones; 0 leaves the confidence as it
        is, as in the paper.
    neighbor_space : {"auto", "inputs", "features"}, default="auto"
        Where these neighbours are searched: among rows or frozen features, or among the features
        of an encoder that is trained. ``"auto"`` is ``"features"`` for images whose encoder is
        trained, and ``"inputs"`` otherwise.
    max_epochs : int or "auto", default="auto"
        Number of passes over the data. ``"auto"`` is at least 18, and as many as make 840 steps of
        `batch_size` samples.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each term per epoch: ``"prediction"``, the cross-entropy of classifiers and labels,
        and ``"entropy"`` of the clusters' shares, ``log(n_clusters)`` for equal ones. Both are
        sums over the spaces.

    See Also
    --------
    TEMI : Not linear, and trained on pairs of neighbours.
    deepcluster_sk.model_selection.generalization_scorer : The score by which the authors choose
        parameters without labels.

    References
    ----------
    .. [1] Gadetsky, Jiang and Brbic, "Let go of your labels with unsupervised transfer", ICML 2024,
       https://arxiv.org/abs/2406.07236
    """

    _objective_class: ClassVar[type[Objective]] = TURTLEObjective
    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = "a larger entropy_weight"
    _least_training: ClassVar[tuple[int, int] | None] = (18, 840)

    spaces: Annotated[tuple[int, ...] | None, tuple, list, None] = None
    balance_spaces: kinds.Boolean = True
    n_heads: kinds.PositiveInt = 4
    partition_start: kinds.Boolean = True
    entropy_weight: kinds.NonNegativeFloat = 1.0
    inner_steps: kinds.PositiveInt = 10
    inner_learning_rate: kinds.PositiveFloatOrAuto = "auto"

    encoder: kinds.Encoder = "identity"
    augmentation: kinds.Augment = "none"
    cluster_start: kinds.Fraction = 0.0
    batch_size: kinds.PositiveInt = 512
