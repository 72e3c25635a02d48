"""The last part of a training, in which the network learns its own confident labels.

Van Gansbeke, Vandenhende, Georgoulis, Proesmans and Van Gool: "SCAN: learning to classify images
without labels", ECCV 2020, section 2.3. The paper calls rows confident whose largest probability
is above .99. Probabilities of the methods here are on scales of their own, so that the most
confident half of each cluster takes the place of a threshold.
"""

import torch
from torch import Tensor

from .._data.protocols import MapAll
from .._runtime.distributed import gather, share_state
from .objective import Batch, LossOutput, Objective, detached

TERM = "self_labeling"  # in the history
_LEAST = 1e-20  # probability whose logarithm is taken


def self_labeling_loss(assignments: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of assignments and labels.

    Parameters
    ----------
    assignments : Tensor of shape (..., B, K), float
        Rows sum to one. Leading axes are independent heads.
    labels : Tensor of shape (B,), int64
    weights : Tensor of shape (B,), float32
        0 for rows that are not to be learned.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over heads and rows; those of the weight 0 count as rows, so that batches with more
        confident rows have more to say.
    """
    numbers = labels.expand(assignments.shape[:-1])[..., None]
    log_p = assignments.gather(-1, numbers)[..., 0].float().clamp_min(_LEAST).log()
    return -(weights * log_p).mean()


def confident_weights(labels: Tensor, doubts: Tensor) -> Tensor:
    """Return weights of rows: those of the less doubtful half of each cluster, 0 for all others.

    Parameters
    ----------
    labels : Tensor of shape (n,), int64
    doubts : Tensor of shape (n,), float
        Low where a label is sure. Of equal ones, the first rows are taken.

    Returns
    -------
    weights : Tensor of shape (n,), float32
        Their sums are equal for all clusters with members, and n for all of them together.
    """
    order = doubts.argsort(stable=True)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels)
    places = torch.empty_like(labels)
    places[order] = torch.arange(len(labels), device=labels.device)
    places -= (sizes.cumsum(0) - sizes)[labels]
    n_confident = (sizes + 1) // 2
    share = len(labels) / ((sizes > 0).sum() * n_confident[labels])
    return share * (places < n_confident[labels])


class SelfLabeling(Objective):
    """An objective, in the epochs in which it learns its own confident labels.

    Before each epoch, all rows are labelled without augmentation. One augmented view of each row is
    trained to get its label. Nothing is kept from one epoch to the next, so that checkpoints
    need nothing of it.

    Parameters
    ----------
    learner : Objective
    """

    n_views = 1

    def __init__(self, learner: Objective) -> None:
        super().__init__(learner.encoder, 0, learner.settings)
        self.learner = learner
        self._labels, self._weights = torch.zeros(0), torch.zeros(0)
        self._lessons: list[tuple[Tensor, Tensor]] = []  # of later steps of the epoch

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Label all rows by the best clusters that there are."""
        learner = self.learner
        learner.before_epoch(1.0, map_all)  # whatever starts late has started by now
        learner.before_labeling(map_all)
        share_state(learner)
        doubts, labels = map_all(self._labelled).cpu().unbind(dim=1)
        self._labels = labels.long()
        self._weights = confident_weights(self._labels, doubts)

    def _labelled(self, x: Tensor) -> Tensor:
        """Return doubts and labels of rows: (n, 2).

        The doubt is the sum of all other probabilities: among sure labels, the largest one is 1.
        """
        assignments = self.assign(self.learner.encoder(x))
        labels = assignments.argmax(dim=1, keepdim=True)
        doubts = assignments.scatter(1, labels, 0.0).sum(dim=1, keepdim=True)
        return torch.cat([doubts, labels], dim=1)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show the row itself, and look up its label."""
        device = self.learner.cluster_of.device
        labels, weights = self._labels[plan].to(device), self._weights[plan].to(device)
        self._lessons = list(zip(labels.flip(0), weights.flip(0), strict=True))
        return super().view_rows(plan, generator)

    def sample_noise(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Hand over labels and weights of the next step."""
        return self._lessons.pop()

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate the cross-entropy of views and labels."""
        assignments = self.learner.learned_assignments(self.learner.encoder(batch.views[0]))
        assignments = gather(assignments, dim=assignments.ndim - 2)
        loss = self_labeling_loss(assignments, *batch.noise)
        return LossOutput(loss, detached(**{TERM: loss}))

    def assign(self, features: Tensor) -> Tensor:
        """Return the assignments of the learner."""
        return self.learner.assign(features)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Update what follows."""
        self.learner.after_labeled_step()
