"""Cluster heads: from features to logits of clusters."""

from itertools import chain, pairwise

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._runtime.threads import libraries_in_one_thread
from .neighbor_objective import NeighborObjective
from .neighbor_stage import NeighborStage, start_rows

_START_ITERATIONS = 20  # of the regression: training goes on from there
_FINAL_ITERATIONS = 200  # nothing is trained afterwards
_IMITATED_ROWS = 20_000  # enough to copy a partition into a head
# of the logits of a row at the start: heads that are sure of a partition keep its mistakes
_SPREAD = 0.5


def imitation(
    features: Tensor, labels: Tensor, n_clusters: int, n_iterations: int = _START_ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Return the linear layer that a logistic regression of given labels finds.

    Parameters
    ----------
    features : Tensor of shape (n, d)
    labels : Tensor of shape (n,), int64
        Clusters in ``[0, n_clusters)``, at least two of them.
    n_clusters : int
    n_iterations : int
        Of the regression, at the most.

    Returns
    -------
    weight : Tensor of shape (n_clusters, d)
        On the CPU, of the type of the features.
    bias : Tensor of shape (n_clusters,)
        Far below zero for clusters without members.
    """
    rows = features.cpu().numpy()
    with libraries_in_one_thread():
        model = LogisticRegression(max_iter=n_iterations).fit(rows, labels.cpu().numpy())
    weight = torch.zeros(n_clusters, rows.shape[1], dtype=features.dtype)
    bias = torch.full((n_clusters,), -10.0, dtype=features.dtype)
    coef, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row stands for the difference of both
        coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
    weight[model.classes_] = torch.from_numpy(coef).to(weight)
    bias[model.classes_] = torch.from_numpy(intercept).to(bias)
    return weight, bias


class ClusterHeads(nn.Module):
    """Several linear heads on shared hidden layers, ``Linear -> ReLU``: a ``Linear`` for each.

    A single head is caught by chance in a partition where two classes share a cluster and another
    one is cut in two, and its loss hardly tells. So several are trained side by side, each starts
    from a partition of its own, of the neighbour graph or by k-means, and the best one is kept.
    They start with small logits, which leave it to the loss where rows between two clusters belong.
    With one head this is :func:`projection_head`.

    Parameters
    ----------
    in_features, hidden_features, n_clusters : int
        Widths; 0 hidden features leave the hidden layer out.
    n_heads : int
        Number of heads.
    n_hidden_layers : int, default=1
        Number of hidden layers, all of the same width.
    start : float, default=0.0
        Share of the training after which the heads begin to learn, in [0, 1): from partitions, or
        from random weights if it is 0. Until then the features are shaped by the rest of the loss.
    """

    started: Tensor

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        n_clusters: int,
        n_heads: int = 1,
        *,
        n_hidden_layers: int = 1,
        start: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden: nn.Module = nn.Identity()
        if hidden_features:
            widths = [in_features] + [hidden_features] * n_hidden_layers
            layers = [(nn.Linear(*pair), nn.ReLU(inplace=True)) for pair in pairwise(widths)]
            self.hidden = nn.Sequential(*chain.from_iterable(layers))
        self.output = nn.Linear(hidden_features or in_features, n_heads * n_clusters)
        self.n_clusters = n_clusters
        self.n_heads = n_heads
        self.start = start
        self.register_buffer("started", torch.tensor(float(start == 0)))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, in_features) to logits (n_heads, n, n_clusters)."""
        logits = self.output(self.hidden(x))
        return torch.unflatten(logits, 1, (self.n_heads, -1)).transpose(0, 1)

    def before_epoch(
        self, progress: float, map_all: MapAll, encoder: nn.Module, neighbors: NeighborStage
    ) -> None:
        """Search neighbours and start the heads when it is time to.

        Parameters
        ----------
        progress : float
            Share of the training that is done.
        map_all : MapAll
        encoder : torch.nn.Module
        neighbors : NeighborStage
        """
        features = neighbors.search(progress, map_all, encoder)
        if not self.started and progress >= self.start:
            rows = start_rows(map_all.sampled_shape[0])
            some = map_all.on_rows(rows, encoder) if features is None else features[rows]
            self._start(some, neighbors)

    def keep_one(self, features: Tensor, neighbors: NeighborStage) -> None:
        """Leave one head: that on which neighbours agree the most, or a new one.

        Where the graph decides on the clusters, the head that is left imitates its best partition:
        heads do not keep to it while they share an encoder with the rest of the loss.

        Parameters
        ----------
        features : Tensor of shape (n, in_features)
            Of the sampled rows.
        neighbors : NeighborStage
        """
        best = 0
        if neighbors.partitions is not None:
            generator = torch.Generator().manual_seed(0)
            some = torch.randperm(len(features), generator=generator)[:_IMITATED_ROWS]
            self.imitate(best, features[some], neighbors.partitions[0][some])
            self.started.fill_(1)
        else:
            if not self.started:  # the training was too short
                self._start(features[start_rows(len(features))], neighbors)
            if self.n_heads > 1:
                best = self.best(features, neighbors)
        first = best * self.n_clusters
        self.select(torch.arange(first, first + self.n_clusters))

    def best(self, features: Tensor, neighbors: NeighborStage) -> int:
        """Return the head on which neighbours of features (n, in_features) agree the most."""
        return neighbors.preferred(self(features).argmax(dim=2), features)

    def repeat(self, head: int) -> None:
        """Let all heads be equal to one of them; the parameters stay."""
        for x in (self.output.weight, self.output.bias):
            heads = torch.unflatten(x, 0, (self.n_heads, -1))
            heads.copy_(heads[head].clone().expand_as(heads))

    def _start(self, features: Tensor, neighbors: NeighborStage) -> None:
        """Let each head imitate a partition of the rows to start from, without being sure of it."""
        self.started.fill_(1)
        for head, labels in enumerate(neighbors.starts(features, self.n_heads)):
            self.imitate(head, features, labels, _START_ITERATIONS, spread=_SPREAD)

    def imitate(
        self,
        head: int,
        features: Tensor,
        labels: Tensor,
        n_iterations: int = _FINAL_ITERATIONS,
        *,
        spread: float | None = None,
    ) -> None:
        """Set one head to a logistic regression of given labels on the hidden layer.

        Of one cluster there is nothing to learn; the head stays as it is.

        Parameters
        ----------
        head : int
        features : Tensor of shape (n, in_features)
        labels : Tensor of shape (n,), int64
            Clusters in ``[0, n_clusters)``.
        n_iterations : int
            Of the regression, at the most.
        spread : float or None, default=None
            Largest standard deviation of the logits of a row, in the mean over the rows; larger
            ones are scaled down. None leaves them as they are.
        """
        if len(torch.unique(labels)) == 1:
            return
        hidden = self.hidden(features)
        weight, bias = imitation(hidden, labels, self.n_clusters, n_iterations)
        weight, bias = weight.to(features.device), bias.to(features.device)
        if spread is not None:
            scale = spread / (hidden @ weight.mT + bias).std(dim=1).mean().clamp_min(spread)
            weight, bias = scale * weight, scale * bias
        outputs = slice(head * self.n_clusters, (head + 1) * self.n_clusters)
        with torch.no_grad():
            self.output.weight[outputs] = weight
            self.output.bias[outputs] = bias

    def adapt_to(self, n_outputs: int) -> None:
        """Have as many heads as a state with so many outputs: one after training."""
        n_heads = n_outputs // self.n_clusters
        if n_heads != self.n_heads:
            self.select(torch.arange(n_heads * self.n_clusters, device=self.output.bias.device))
            self.n_heads = n_heads

    def select(self, outputs: Tensor) -> None:
        """Keep the given outputs, numbered over all heads, as one head in this order."""
        last = self.output
        last.weight = nn.Parameter(last.weight.detach()[outputs].clone())
        last.bias = nn.Parameter(last.bias.detach()[outputs].clone())
        last.out_features, self.n_heads = len(outputs), 1


class ClusterHeadsObjective(NeighborObjective):
    """An objective that assigns samples by one of several cluster heads.

    The heads share the encoder. In the end one is kept: that on which neighbours agree the most or,
    where the graph decides on the clusters, one that imitates its best partition. A subclass sets
    ``cluster_heads`` in its constructor, and multiplies their terms of the loss by
    ``cluster_heads.started``, which is 0 until they have a start.
    """

    cluster_heads: ClusterHeads

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the first head: the only one that is left after training."""
        logits: Tensor = self.cluster_heads(features)[0]
        return logits.float().softmax(dim=-1)

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours and start the heads when it is time to."""
        self.cluster_heads.before_epoch(progress, map_all, self.encoder, self.neighbors)

    def learned_assignments(self, features: Tensor) -> Tensor:
        """Softmax of all heads: (n_heads, B, n_clusters)."""
        logits: Tensor = self.cluster_heads(features)
        return logits.float().softmax(dim=-1)

    def before_labeling(self, map_all: MapAll) -> None:
        """Let all heads be the best one."""
        if self.cluster_heads.n_heads > 1:
            features = map_all.on_sampled(self.encoder)
            self.cluster_heads.repeat(self.cluster_heads.best(features, self.neighbors))

    def after_training(self, features: Tensor, seed: int) -> None:
        """Keep one head."""
        self.cluster_heads.keep_one(features, self.neighbors)
        self.finish_clusters(features, seed)

    def adapt_to(self, state_dict: dict[str, Tensor]) -> None:
        """Have as many heads as the state."""
        self.cluster_heads.adapt_to(len(state_dict["cluster_heads.output.bias"]))
