"""Cluster contrast (CueCo), in this project's reading.

Giakoumoglou and Stathaki: "Cluster contrast for unsupervised visual representation learning", ICIP
2025, arXiv 2507.12359. No code is public. The formulas are a reconstruction from the abstract,
the introduction and the captions: two networks, a contrastive loss that spreads the samples apart,
and a clustering objective that groups them.

==================  ===================================================
symbol              name in the code
==================  ===================================================
q, k                q: query projections; k: key projections, momentum
mu_c                centroids
a(i)                the centroid nearest to the key of sample i
tau, tau_c          instance_temperature, cluster_temperature
lambda              cluster_weight
==================  ===================================================
"""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .._data.protocols import MapAll
from .._estimator import kinds
from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import Preset
from .._estimator.parameters import with_parameters
from .._networks.centroid_objective import CentroidObjective
from .._networks.centroids import centroids_of, kmeans_centroids
from .._networks.modules import FeatureQueue, MomentumCopy, projection_head
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, Objective, Settings, detached
from ..augmentations import images
from ..losses import info_nce, inner_products


def clustering_loss(
    q: Tensor,
    centroids: Tensor,
    nearest: Tensor,
    *,
    form: str = "cross-entropy",
    temperature: float = 0.3,
) -> Tensor:
    """Pull each query to the centroid of its key.

    Parameters
    ----------
    q : Tensor of shape (B, d), float
        Query projections of unit length.
    centroids : Tensor of shape (K, d), float
        Of unit length; no gradient reaches them.
    nearest : Tensor of shape (B,), int64
        a(i).
    form : {"cross-entropy", "pull"}, default="cross-entropy"
        ``"pull"`` is ``1 - q . mu_a(i)``; ``"cross-entropy"`` is that of the softmax of
        ``q . mu / temperature``, which also pushes the query from the other centroids.
    temperature : float, default=0.3
        tau_c.

    Returns
    -------
    loss : Tensor of shape (), float32
        Mean over the B queries. ``"pull"`` is in [0, 2], and 0 when each query equals its centroid.
    """
    similarity = inner_products(q, centroids.detach())
    if form == "pull":
        return 1 - similarity.gather(1, nearest[:, None]).mean()
    return F.cross_entropy(similarity / temperature, nearest)


class ClusterContrastObjective(CentroidObjective):
    """A query network, its momentum copy, a queue of keys, and centroids."""

    centroids: Tensor

    def __init__(self, encoder: nn.Module, feature_dim: int, settings: Settings) -> None:
        super().__init__(encoder, feature_dim, settings)
        dim = settings.projection_dim
        self.projector = projection_head(feature_dim, settings.hidden_dim, dim)
        self.key_encoder = MomentumCopy(encoder)
        self.key_projector = MomentumCopy(self.projector)
        self.queue = FeatureQueue(settings.queue_size, dim)
        centroids = F.normalize(torch.randn(settings.n_clusters, dim), dim=1)
        self.register_buffer("centroids", centroids)

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_contrast + cluster_weight L_cluster``; the second one from its start on."""
        settings = self.settings
        query, key = batch.views
        q = gather(self.project(self.encoder(query)))
        k = gather(F.normalize(self.key_projector(self.key_encoder(key)).float(), dim=1))
        instance = info_nce(
            q,
            k,
            temperature=settings.instance_temperature,
            extra_keys=self.queue.features,
            batch_negatives=settings.batch_negatives,
        )
        nearest = inner_products(k, self.centroids).argmax(dim=1)
        form, tau_c = settings.cluster_form, settings.cluster_temperature
        pull = clustering_loss(q, self.centroids, nearest, form=form, temperature=tau_c)
        cluster = self.started * pull
        return LossOutput(
            instance + settings.cluster_weight * cluster,
            detached(instance=instance, cluster=cluster),
            carry=(k, nearest),
        )

    def nearness(self, vectors: Tensor) -> Tensor:
        """Return the products with the centroids."""
        return vectors @ self.centroids.mT

    def assign(self, features: Tensor) -> Tensor:
        """Softmax over the centroids."""
        temperature: float = self.settings.cluster_temperature
        return (self.nearness(self.project(features)) / temperature).softmax(dim=1)

    def after_step(self, carry: tuple[Tensor, ...], progress: float) -> None:
        """Move the key network, the queue and the centroids."""
        keys, nearest = carry
        self.key_encoder.update(self.encoder, self.settings.momentum)
        self.key_projector.update(self.projector, self.settings.momentum)
        self.queue.push(keys)
        if self.settings.centroid_update == "moving-average":
            members = F.one_hot(nearest, len(self.centroids)).to(keys.dtype)
            counts = members.sum(dim=0)[:, None]
            means = members.mT @ keys / counts.clamp_min(1)
            weight = (1 - self.settings.centroid_momentum) * self.started * (counts > 0)
            self.centroids.copy_(F.normalize(self.centroids.lerp(means, weight), dim=1))

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Prepare the epoch; with ``centroid_update="k-means"``, by a new k-means."""
        if self.settings.centroid_update != "k-means":
            super().before_epoch(progress, map_all)
            return
        features = self.neighbors.search(progress, map_all, self.encoder)
        if progress >= self.settings.cluster_start or self.started:
            features = map_all.on_sampled(self.encoder) if features is None else features
            fresh = kmeans_centroids(self.project(features), len(self.centroids))
            # clusters keep their numbers, also from one partial_fit to the next
            self.centroids.copy_(self._in_order(fresh) if self.started else fresh)
            self.started.fill_(1)

    def settle(self, features: Tensor) -> None:
        """Gather the projections."""
        if self.neighbors.gather(self.projector, features, self.settings.cluster_temperature):
            self.key_projector.update(self.projector, momentum=0)

    def _in_order(self, fresh: Tensor) -> Tensor:
        """Give new centroids the numbers of those that they resemble, by the sum of products."""
        similarity = (self.centroids @ fresh.mT).cpu().numpy()
        _, order = linear_sum_assignment(similarity, maximize=True)
        return fresh[torch.from_numpy(order)]

    def take(self, vectors: Tensor, labels: Tensor) -> None:
        """Let the centroids be those of the clusters."""
        self.centroids.copy_(centroids_of(vectors, labels, len(self.centroids)))


# the results are the paper's; the settings are those of momentum contrast in the benchmark that the
# results belong to: readings, not facts
_PAPER = Preset(
    {
        "encoder": "resnet18",
        "augmentation": images(scale=(0.2, 1.0)),
        "hidden_dim": 2048,
        "projection_dim": 256,
        "instance_temperature": 0.2,
        "cluster_weight": 0.5,
        "cluster_form": "pull",
        "cluster_start": 0.1,
        "centroid_update": "k-means",
        "momentum": 0.99,
        "queue_size": 32_768,
        "batch_negatives": False,
        "n_neighbors": 0,
        "max_epochs": 1000,
        "optimizer": "sgd",
        "learning_rate": 0.3,
        "weight_decay": 1e-4,
        "warmup": 0.01,
    },
    {
        "cifar10": ({"n_clusters": 10}, {"linear evaluation": 0.9140}),
        "cifar100": ({"n_clusters": 100}, {"linear evaluation": 0.6856}),
        "imagenet100": (
            {"n_clusters": 100, "queue_size": 65_536, "max_epochs": 400},
            {"linear evaluation": 0.7865},
        ),
    },
)


@with_parameters
class ClusterContrast(BaseDeepClusterer):
    """Cluster contrast (CueCo): representations and clusters of images or rows.

    A query network learns to recognise the key that a slowly moving copy of it computes from
    another view of the sample (which scatters), and is pulled to the centroid of that key (which
    aligns). A learner of representations first: its main output is ``transform``.

    Parameters
    ----------
    hidden_dim : int, default=256
        Width of the hidden layer of the projector.
    projection_dim : int, default=128
        Number of outputs of the projector.
    instance_temperature : float, default=0.5
        tau; lower values press harder on the most similar other samples.
    cluster_temperature : float, default=0.3
        tau_c of the softmax over the centroids, in the cross-entropy form and in `predict_proba`.
    cluster_weight : float, default=1.0
        lambda; 0 with `batch_negatives=False` is momentum contrast (MoCo).
    cluster_form : {"cross-entropy", "pull"}, default="cross-entropy"
        ``"pull"``: one minus the cosine to the centroid, the wording of the paper.
        ``"cross-entropy"``: that of a softmax over all centroids, which also pushes from the
        others.
    cluster_start : float or "auto", default="auto"
        Share of the epochs after which the clustering loss begins, with centroids by k-means, in
        [0, 1). ``"auto"`` is .3, and 168 steps in a training of more than 560 steps without
        `max_time`.
    centroid_update : {"moving-average", "k-means"}, default="moving-average"
        How centroids follow the keys: by a moving average at every step, or by spherical k-means on
        all samples before every epoch.
    centroid_momentum : float, default=0.9
        Share of the old centroid in the moving average, in [0, 1).
    momentum : float, default=0.9
        Share of the old weights in the key network's average, in [0, 1). Long runs and
        photographs want more: .99 to .999.
    queue_size : int, default=256
        Number of past keys that serve as negatives; 0 for none.
    batch_negatives : bool, default=True
        Whether the other keys of the batch are negatives; in MoCo only the queue is.

    Attributes
    ----------
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"instance"`` and ``"cluster"`` (0 before
        `cluster_start`).

    Notes
    -----
    No code is public, and the formulas were checked against the abstract, the introduction and the
    captions of the paper only: everything beyond two networks, a contrastive loss and a pull to the
    cluster is this project's reading. The centroid of a cluster that is never the nearest stays
    where it is.

    References
    ----------
    .. [1] Giakoumoglou and Stathaki, "Cluster contrast for unsupervised visual representation
       learning", ICIP 2025, https://arxiv.org/abs/2507.12359
    .. [2] He et al., "Momentum contrast for unsupervised visual representation learning", CVPR
       2020.
    """

    _objective_class: ClassVar[type[Objective]] = ClusterContrastObjective
    _paper: ClassVar[Preset] = _PAPER

    hidden_dim: kinds.PositiveInt = 256
    projection_dim: kinds.PositiveInt = 128
    instance_temperature: kinds.PositiveFloat = 0.5
    cluster_temperature: kinds.PositiveFloat = 0.3
    cluster_weight: kinds.NonNegativeFloat = 1.0
    cluster_form: Annotated[str, kinds.one_of("cross-entropy", "pull")] = "cross-entropy"
    centroid_update: Annotated[str, kinds.one_of("moving-average", "k-means")] = "moving-average"
    centroid_momentum: kinds.Fraction = 0.9
    momentum: kinds.Fraction = 0.9
    queue_size: kinds.NonNegativeInt = 256
    batch_negatives: kinds.Boolean = True

    def _queues_in_use(self) -> list[str]:
        return ["queue_size"]
