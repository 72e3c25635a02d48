"""TEMI: cluster heads on fixed embeddings, trained by the agreement of neighbours.

Adaloglou, Michels, Kalisch and Kollmann, "Exploring the limits of deep image clustering using
pretrained models", BMVC 2023. Student heads learn to give a row the cluster that a slowly following
teacher gives to one of its neighbours. Loss, networks and optimiser are the published ones; what
differs is for a CPU. There are 4 heads instead of 16, smaller batches, and 50 epochs or 1,500
steps, whatever is longer, instead of 100 epochs. Rows of more than 256 columns are projected on
their 256 principal directions, after the search for neighbours.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

BATCH_SIZE = 512
N_HEADS = 4
N_EPOCHS, N_STEPS = 50, 1500
N_DIMENSIONS, N_HIDDEN, N_PROJECTED = 256, 512, 256
LEARNING_RATE = 1e-4  # for a batch of 256 rows
WARM_UP = 20  # epochs
WEIGHT_DECAY = 1e-4
TEMPERATURE, BETA = 0.1, 0.6
FOLLOW, REMEMBER = 0.996, 0.9  # of the teacher and of the mean probabilities


class Heads(nn.Module):
    """All heads at once: two layers, unit length, and products with unit directions.

    Parameters
    ----------
    n_heads, n_columns, n_clusters : int
    generator : torch.Generator
    """

    def __init__(
        self, n_heads: int, n_columns: int, n_clusters: int, generator: torch.Generator
    ) -> None:
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            weights = torch.empty(n_heads, *shape)
            return nn.Parameter(nn.init.trunc_normal_(weights, std=0.02, generator=generator))

        self.first = drawn(n_columns, N_HIDDEN)
        self.first_bias = nn.Parameter(torch.zeros(n_heads, 1, N_HIDDEN))
        self.second = drawn(N_HIDDEN, N_PROJECTED)
        self.second_bias = nn.Parameter(torch.zeros(n_heads, 1, N_PROJECTED))
        self.directions = drawn(N_PROJECTED, n_clusters)
        self.lengths = nn.Parameter(torch.ones(n_heads, 1, n_clusters))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (n, n_columns) to probabilities (n_heads, n, n_clusters)."""
        hidden = F.gelu(rows @ self.first + self.first_bias)
        projected = F.normalize(hidden @ self.second + self.second_bias, dim=-1)
        logits = projected @ F.normalize(self.directions, dim=1) * self.lengths
        return (logits / TEMPERATURE).softmax(dim=-1)


def loss(students: list[Tensor], teachers: list[Tensor], mean: Tensor) -> Tensor:
    """Return the loss of each head (n_heads,).

    Parameters
    ----------
    students, teachers : two Tensors of shape (n_heads, n, n_clusters) each
        Probabilities of the rows and of their neighbours.
    mean : Tensor of shape (n_heads, 1, n_clusters)
        Mean probabilities of the teacher.
    """
    # a pair that the teacher puts in different clusters is likely no pair
    weights = (teachers[0] * teachers[1]).sum(dim=-1).mean(dim=0)
    losses = [
        (weights * -((student * teacher) ** BETA / mean).sum(dim=-1).log()).mean(dim=1)
        for student, teacher in zip(students, reversed(teachers), strict=True)
    ]
    return (losses[0] + losses[1]) / 2


def temi(
    rows: np.ndarray, n_clusters: int, seed: int, n_heads: int = N_HEADS, n_steps: int = N_STEPS
) -> dict[str, np.ndarray]:
    """Return the labels that the teacher gives with the head of the lowest loss.

    Parameters
    ----------
    rows : ndarray of shape (n, n_columns), float32
    n_clusters, seed, n_heads : int
    n_steps : int
        There are 50 epochs, and at least so many steps.
    """
    n_neighbors = min(25 if len(rows) <= 5000 else 50, len(rows) - 1)
    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine").fit(rows)
    neighbors = torch.from_numpy(search.kneighbors(return_distance=False))
    X = projected(torch.from_numpy(rows))
    generator = torch.Generator().manual_seed(seed)
    student = Heads(n_heads, X.shape[1], n_clusters, generator)
    teacher, losses = trained(student, X, neighbors, n_steps, generator)
    with torch.no_grad():
        parts = [teacher(part)[losses.argmin()].argmax(dim=1) for part in X.split(BATCH_SIZE)]
    return {"TEMI": torch.cat(parts).numpy()}


def projected(X: Tensor) -> Tensor:
    """Return rows in their principal directions, if they have many columns."""
    if X.shape[1] <= N_DIMENSIONS:
        return X
    return X @ torch.linalg.eigh(X.T @ X).eigenvectors[:, -N_DIMENSIONS:]


def trained(
    student: Heads, X: Tensor, neighbors: Tensor, n_steps: int, generator: torch.Generator
) -> tuple[Heads, Tensor]:
    """Train; return the teacher, and the loss of each head in the last epoch."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    mean = torch.full_like(teacher.lengths, 1 / teacher.lengths.shape[-1])
    batch_size = min(BATCH_SIZE, len(X))
    n_batches = len(X) // batch_size
    optimizer = _optimizer(student, LEARNING_RATE * batch_size / 256)
    warm_up = torch.optim.lr_scheduler.LinearLR(
        optimizer, 1 / (WARM_UP * n_batches), total_iters=WARM_UP * n_batches - 1
    )
    for epoch in range(max(N_EPOCHS, math.ceil(n_steps / n_batches))):
        losses = torch.zeros(len(mean))
        order = torch.randperm(len(X), generator=generator)
        for batch in order[: n_batches * batch_size].split(batch_size):
            drawn = torch.randint(neighbors.shape[1], (batch_size,), generator=generator)
            views = [X[batch], X[neighbors[batch, drawn]]]
            with torch.no_grad():
                teachers = [teacher(view) for view in views]
                mean.lerp_(torch.cat(teachers, dim=1).mean(dim=1, keepdim=True), 1 - REMEMBER)
            of_heads = loss([student(view) for view in views], teachers, mean)
            optimizer.zero_grad()
            of_heads.mean().backward()
            if epoch == 0:  # the last layer waits
                student.directions.grad = student.lengths.grad = None
            optimizer.step()
            warm_up.step()
            follow(teacher, student)
            losses += of_heads.detach()
    return teacher, losses


@torch.no_grad()
def follow(teacher: Heads, student: Heads) -> None:
    """Move the teacher a little towards the student."""
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - FOLLOW)


def _optimizer(student: Heads, lr: float) -> torch.optim.Optimizer:
    """Return AdamW; weights decay, biases do not."""
    weights = [student.first, student.second, student.directions]
    others = [student.first_bias, student.second_bias, student.lengths]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=WEIGHT_DECAY)
