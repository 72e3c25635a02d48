"""Deep robust clustering (DRC).

Zhong, Chen, Jin and Hua: "Deep robust clustering by contrastive learning", 2020, arXiv 2008.03030.
No code of the authors is public; the losses are those of an independent implementation that cites
the paper. What the defaults change is this project's reading.

=================  ======================================================
symbol             name in the code
=================  ======================================================
z, z'              z_a, z_b: assignment features (logits) of the two views
p, p'              p_a, p_b: assignment probabilities, their softmax
q_k                column k of p over the batch
T_AF, T_AP         feature_temperature, probability_temperature
lambda             regularization_weight
=================  ======================================================
"""

from collections.abc import Callable
from os import PathLike
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor, nn

from .._estimator.base import BaseDeepClusterer
from .._estimator.papers import Preset, scores
from .._estimator.validation import (
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
)
from .._networks.cluster_heads import ClusterHeads
from .._networks.neighbors import NeighborStage
from .._runtime.distributed import gather
from .._training.objective import Batch, LossOutput, MapAll, Objective
from ..augmentations import images
from ..losses import at_least_float32, info_nce, symmetric_info_nce


def feature_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    temperature: float = 0.5,
    normalize: bool = True,
    symmetric: bool = True,
) -> Tensor:
    """Tell the assignment features of a sample's other view from those of other samples, L_AF.

    Parameters
    ----------
    z_a, z_b : Tensor of shape (..., B, K), float
        Logits of the two views. Leading axes are independent heads.
    temperature : float, default=0.5
        T_AF.
    normalize : bool, default=True
        Whether rows are compared by their cosine; the original form compares raw products.
    symmetric : bool, default=True
        Whether to average over both directions; the original form has the one from `z_a` to `z_b`.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the B rows; ``log B`` for equal logits.
    """
    if normalize:
        z_a, z_b = (F.normalize(at_least_float32(z), dim=-1, eps=1e-8) for z in (z_a, z_b))
    contrast = symmetric_info_nce if symmetric else info_nce
    return contrast(z_a, z_b, temperature=temperature)


def probability_loss(
    p_a: Tensor,
    p_b: Tensor,
    *,
    temperature: float = 1.0,
    normalize: bool = True,
    symmetric: bool = True,
) -> Tensor:
    """Tell the other view of a cluster's column of probabilities from other clusters', L_AP.

    Parameters
    ----------
    p_a, p_b : Tensor of shape (..., B, K), float
        Assignment probabilities of the two views. Leading axes are independent heads.
    temperature : float, default=1.0
        T_AP.
    normalize, symmetric : bool, default=True
        As in :func:`feature_loss`, for the columns.

    Returns
    -------
    loss : Tensor of shape (...), float32
        Mean over the K columns; ``log K`` for uniform probabilities.
    """
    return feature_loss(
        at_least_float32(p_a).mT,
        at_least_float32(p_b).mT,
        temperature=temperature,
        normalize=normalize,
        symmetric=symmetric,
    )


def cluster_regularization(p: Tensor, *, scale_free: bool = True) -> Tensor:
    """Penalise clusters of unequal mass, L_CR: ``1/B * sum over k of (sum over i of p_ik)^2``.

    Parameters
    ----------
    p : Tensor of shape (..., B, K), float
        Assignment probabilities. Leading axes are independent heads.
    scale_free : bool, default=True
        Whether to divide by ``B / K``, the value for equal masses; the original form does not.

    Returns
    -------
    loss : Tensor of shape (...), float32
        In ``[B / K, B]``, or ``[1, K]`` if scale-free.
    """
    n, n_clusters = p.shape[-2:]
    penalty = at_least_float32(p).sum(dim=-2).square().sum(dim=-1) / n
    return penalty * n_clusters / n if scale_free else penalty


class DeepRobustObjective(Objective):
    """Encoder and cluster heads; features and probabilities of the same head are contrasted.

    Several heads share the encoder; the paper has one. In the end the one is kept on which
    neighbours agree the most.
    """

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        *,
        n_clusters: int,
        n_heads: int,
        hidden_dim: int,
        n_fine_clusters: int,
        cluster_start: float,
        feature_temperature: float,
        probability_temperature: float,
        regularization_weight: float,
        normalize: bool,
        symmetric: bool,
        scale_free: bool,
        neighbors: NeighborStage,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.cluster_heads = ClusterHeads(
            feature_dim,
            hidden_dim,
            n_clusters,
            n_heads,
            start=cluster_start if n_fine_clusters else 0.0,
        )
        self.fine_head = None
        if n_fine_clusters:
            self.fine_head = ClusterHeads(feature_dim, hidden_dim, n_fine_clusters)
        self.feature_temperature = feature_temperature
        self.probability_temperature = probability_temperature
        self.regularization_weight = regularization_weight
        self.normalize = normalize
        self.symmetric = symmetric
        self.scale_free = scale_free
        self.neighbors = neighbors

    def forward(self, batch: Batch) -> LossOutput:
        """Evaluate ``L_AF + L_AP + regularization_weight L_CR``, as means over the heads.

        The fine head adds the same sum for its own clusters.
        """
        features = self.encoder(torch.cat(batch.views))
        terms = self._terms(self.cluster_heads, features)
        total = self._sum(terms)
        if self.fine_head is not None:
            fine = self._sum(self._terms(self.fine_head, features))
            total = total + fine
            terms["fine"] = fine
        return LossOutput(total, {name: term.detach() for name, term in terms.items()})

    def _terms(self, heads: ClusterHeads, features: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of some heads, as means over them; 0 before their start."""
        how = {"normalize": self.normalize, "symmetric": self.symmetric}
        z_a, z_b = (gather(z, dim=1) for z in heads(features).float().chunk(2, dim=1))
        p_a, p_b = z_a.softmax(dim=-1), z_b.softmax(dim=-1)
        terms = {
            "feature": feature_loss(z_a, z_b, temperature=self.feature_temperature, **how),
            "probability": probability_loss(
                p_a, p_b, temperature=self.probability_temperature, **how
            ),
            "regularization": cluster_regularization(p_a, scale_free=self.scale_free),
        }
        return {name: heads.started * term.mean() for name, term in terms.items()}

    def _sum(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        regularization = self.regularization_weight * terms["regularization"]
        return terms["feature"] + terms["probability"] + regularization

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Drop the finer head if the state has none, as after training."""
        if not any(name.startswith(prefix + "fine_head.") for name in state_dict):
            self.fine_head = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def assign(self, features: Tensor) -> Tensor:
        """Softmax of the first head: the only one that is left after training."""
        return torch.softmax(self.cluster_heads(features)[0].float(), dim=-1)

    def permute_clusters(self, order: Tensor) -> None:
        """Permute the outputs of the head."""
        self.cluster_heads.select(order)

    def before_epoch(self, progress: float, map_all: MapAll) -> None:
        """Find the neighbours when it is time, and give the worst head a fresh start."""
        self.cluster_heads.before_epoch(progress, map_all, self.encoder, self.neighbors)

    def view_rows(self, plan: Tensor, generator: torch.Generator) -> Tensor:
        """Show a neighbour in the second view, once there are neighbours."""
        return self.neighbors.view_rows(plan, generator)

    def after_training(self, map_all: MapAll) -> None:
        """Keep one head of those for the clusters asked for."""
        self.cluster_heads.keep_best(map_all.on_sampled(self.encoder), self.neighbors)
        self.fine_head = None


# the losses are those of an independent implementation, training and augmentation those of PICA and
# GCC, by the same group: readings, not facts
_PAPER = Preset(
    {
        "encoder": "resnet34",
        "augmentation": images(scale=(0.2, 1.0)),
        "n_heads": 1,
        "hidden_dim": 0,
        "n_fine_clusters": 0,
        "probability_temperature": 0.5,
        "regularization_weight": 0.1,
        "normalize": False,
        "symmetric": False,
        "scale_free": False,
        "cluster_start": 0.0,
        "n_neighbors": 0,
        "max_epochs": 200,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup": 0.0,
    },
    {
        "cifar10": ({"n_clusters": 10}, scores(0.621, 0.727, 0.547)),
        "cifar100": ({"n_clusters": 20}, scores(0.356, 0.367, 0.208)),
        "stl10": ({"n_clusters": 10, "batch_size": 128}, scores(0.644, 0.747, 0.569)),
        "imagenet10": ({"n_clusters": 10}, scores(0.830, 0.884, 0.798)),
        "imagenet_dogs": ({"n_clusters": 15}, scores(0.384, 0.389, 0.233)),
        "tiny_imagenet": ({"n_clusters": 200}, scores(0.321, 0.139, 0.056)),
    },
)


class DeepRobustClustering(BaseDeepClusterer):
    """Deep robust clustering (DRC) of images or rows.

    A head maps features to K logits. The logits of two views of a sample (assignment features) and
    the columns of their softmax (assignment probabilities) are both contrasted, and a penalty keeps
    the clusters of equal mass. There is no projection head, momentum network or queue.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters K, at least 1.
    encoder : str, torch.nn.Module or callable, default="auto"
        Maps a batch to features (n, feature_dim).

        - ``"auto"``: ``"mlp"`` for rows, ``"cnn"`` for images of up to 32 pixels a side,
          ``"resnet18"`` above.
        - ``"mlp"``: two layers of 512 with batch norm.
        - ``"cnn"``: six convolutions (four below 16 pixels); grey images of 16 pixels and more
          are resized to 20 x 20 first.
        - ``"resnet18"``, ``"resnet34"``, ...: untrained, without the classifier, with a 3x3 stem
          and no max-pooling for images of up to 96 pixels.
        - Any other classifier of ``torchvision.models``, by its name, untrained.
        - A module: copied, so that the one passed in is never trained; every fit starts from its
          weights.
        - A callable without arguments that returns a module: called within ``random_state``.

        Images arrive as float32 in [0, 1] of shape (n, C, H, W), rows standardised as (n, d).
    freeze_encoder : bool, default=False
        Whether to leave the encoder as it is and train the heads only; for encoders with trained
        weights. With ``augmentation="auto"`` or ``"rows"`` the features of all samples are
        computed once, without augmentation, and then treated like rows: standardised, varied by
        the recipe ``"rows"``, with neighbours among them. With any other `augmentation` they are
        computed in every step, for views of the samples.
    augmentation : str, callable or Augmentation, default="auto"
        Maps a batch to a random variation of the same shape.

        - ``"auto"``: ``"rows"`` for rows, ``"digits"`` for grey images, ``"images"`` for colour.
        - ``"images"``: the papers' recipe of crops, flips, colour jitter and grey.
        - ``"digits"``: gentle crops, rotations, shears and bending; no flips.
        - ``"rows"``: features swapped with those of other rows, and noise.
        - Anything from :mod:`deepcluster_sk.augmentations`, or a callable on a batch, which may
          draw from the global random states.
    image_shape : tuple of int or None, default=None
        ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of flattened images in a 2-D X. None reads 2-D X
        as rows of features.
    image_size : int, tuple of 2 ints or "auto", default="auto"
        Height and width, or both in one number, that image files are resized to in fit. ``"auto"``
        is the median height and the median width of the files, at most 32 pixels each: a small
        network is quick there. Pass more if clusters differ in details, best with a GPU.
    on_error : {"raise", "skip"}, default="raise"
        What to do about image files that cannot be read: an error that names all of them, or a
        warning and the label -1.
    n_heads : int, default=3
        Number of heads that are trained side by side on one encoder. The one is kept on which
        neighbours agree the most. The paper has one.
    hidden_dim : int, default=256
        Width of the hidden layer of all heads; 0 for none, as in the paper.
    n_fine_clusters : int, default=70
        Number of clusters of an additional, finer head, which is trained by the same loss and
        dropped in the end; 0 for none, as in the paper. A head of K outputs alone leaves features
        in which similar classes are merged. PICA, on whose protocol the paper builds, has such a
        head of 70.
    feature_temperature : float, default=0.5
        T_AF.
    probability_temperature : float, default=1.0
        T_AP.
    regularization_weight : float, default=0.5
        lambda: weight of the penalty on clusters of unequal mass. Lower it for clusters of very
        different size, raise it if clusters stay empty.
    normalize : bool, default=True
        Whether features and columns are compared by their cosine. The paper compares raw products,
        which grow with the logits and the batch.
    symmetric : bool, default=True
        Whether both views are contrasted with the other one; in the paper the first with the
        second.
    scale_free : bool, default=True
        Whether the penalty is divided by its value for equal clusters; it grows with the batch
        otherwise, as in the paper.
    cluster_start : float, default=0.3
        Share of the epochs after which the heads for the K clusters begin to learn, from k-means on
        the features, in [0, 1). Until then only the finer head is at work; without
        one, they begin at once. 0 is the paper's method.
    n_neighbors : int, default=10
        Number of nearest neighbours, one of which the second view shows in the neighbour stage; 0
        leaves the stage out, as in the paper.
    neighbor_start : float, default=0.6
        Share of the epochs after which neighbours are searched among the features, in [0, 1); they
        are searched again in the middle of the rest.
    neighbor_space : {"auto", "inputs", "features"}, default="auto"
        ``"features"``: the neighbour stage begins at `neighbor_start`. ``"inputs"``: it begins with
        the first step, with neighbours among the samples themselves until `neighbor_start`.
        ``"auto"`` is ``"inputs"`` for rows and ``"features"`` for images.
    max_epochs : int or "auto", default="auto"
        Number of passes over the data. ``"auto"`` is at least 12, and as many as make 560 steps of
        `batch_size` samples: 80 for 1,800 samples, 15 for 10,000, 12 from 13,000 on.
    batch_size : int, default=256
        Samples per step, capped at the number of samples. An incomplete last batch is dropped.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
        ``"sgd"`` has Nesterov momentum 0.9.
    learning_rate : float, default=0.003
        Its maximum over the training.
    weight_decay : float, default=0.0
        As the optimizer defines it.
    schedule : {"constant", "cosine"}, default="cosine"
        Of the learning rate, after the warm-up.
    warmup : float, default=0.05
        Share of the steps over which the learning rate rises linearly from 0, in [0, 1).
    device : str or torch.device, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU; a named device that is missing is an error.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the products in training; ``"auto"`` is bfloat16 on GPUs that compute it natively, and on
        CPUs that do (AVX512-BF16, AMX) for images of 16 x 16 pixels and more; float32 elsewhere.
        Predictions are computed in float32.
    compile : bool, default=False
        Whether to compile loss and augmentation with ``torch.compile``, each as one graph. The
        encoder has to allow that; an augmentation that is a mere callable is left as it is.
    max_time : float or None, default=None
        Seconds of training; None for no limit. As many epochs are run as fit, at least one and at
        most `max_epochs`, and the schedule and the starts that are shares of the training are
        those of so many epochs. What follows the last epoch is not counted.
    tol : float or None, default=None
        The training ends early when at most this share of the samples, in [0, 1], has changed its
        cluster in each of `n_iter_no_change` epochs in a row; epochs before `cluster_start` and
        before the neighbour stage do not count. None for no early end. Any other value costs one
        more pass over the data, without gradients, in each epoch that counts.
    n_iter_no_change : int, default=5
        Number of epochs in a row, if `tol` is not None.
    warm_start : bool, default=False
        Whether `fit` begins with the weights of the fitted estimator, in place of new ones. The
        schedule starts again.
    checkpoint : path-like or None, default=None
        A file that `fit` is written to, and goes on from when it is called again with the same
        parameters and data after an interruption. It serves one fit, and is kept in the end: the
        same fit then returns at once.
    checkpoint_every : int or float, default=1
        Between two writings of the checkpoint: epochs if int, seconds if float. Ctrl-C and the end
        of the training write it in any case.
    verbose : int, default=0
        1 shows a progress bar.
    random_state : int, RandomState instance or None, default=None
        One value gives the same bits on the CPU. None draws from the operating system, not from
        numpy's global state, which no method of this class touches.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int64
        Clusters of the training samples, numbered by decreasing size; equal to ``predict`` of them.
        -1 for files that were skipped.
    cluster_sizes_ : ndarray of shape (n_clusters,), int64
        Training samples per cluster, decreasing; empty clusters come last.
    n_iter_ : int
        Number of epochs run.
    loss_curve_ : list of float
        Mean loss of each epoch.
    history_ : dict of str to list of float
        Mean of each loss term per epoch: ``"feature"`` (L_AF), ``"probability"`` (L_AP),
        ``"regularization"`` (L_CR), all 0 before `cluster_start`, and ``"fine"``, the loss of the
        finer head.
    encoder_ : torch.nn.Module
        The trained encoder, on the CPU and in evaluation mode.
    input_shape_ : tuple of int
        Shape of one sample as given in fit.
    device_ : str
        Device that the training ran on.
    precision_ : str
        Precision that the training ran in.
    skipped_ : list of str
        Image files that could not be read, with ``on_error="skip"``.
    n_features_in_ : int
        Number of features, or of pixels times channels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X was a data frame with string names.

    See Also
    --------
    ContrastiveClustering : Instance and cluster heads on one network; the most tested of the four.

    Notes
    -----
    Image files are a folder, searched with its subfolders, or a list, array or Series of paths.
    Files that are all grey give images without a channel axis, others RGB on a white background.
    Memory maps, torch datasets, and files that do not fit into memory are read while training.

    A 4-D X has its channels on the axis of length 1, 3 or 4, last or second; if both fit, the last
    one is taken for numpy arrays and the second one for torch tensors. Float images are scaled to
    [0, 1] by the smallest and largest value of the training set.

    No code of the authors is public. The three losses follow an independent implementation that
    cites the paper; the finer head, the late start and the neighbour stage are this project's.

    References
    ----------
    .. [1] Zhong, Chen, Jin and Hua, "Deep robust clustering by contrastive learning", 2020,
       https://arxiv.org/abs/2008.03030
    .. [2] Huang, Gong and Zhu, "Deep semantic clustering by partition confidence maximisation",
       CVPR 2020 (PICA).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import DeepRobustClustering
    >>> images = load_digits().images
    >>> model = DeepRobustClustering(n_clusters=10, max_epochs=4, random_state=0)
    >>> labels = model.fit_predict(images)
    >>> labels.shape, model.predict_proba(images[:3]).shape
    ((1797,), (3, 10))
    """

    _paper: ClassVar[Preset] = _PAPER
    _against_empty: ClassVar[str] = " a larger regularization_weight,"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepClusterer._parameter_constraints,
        "n_heads": [positive_int],
        "hidden_dim": [non_negative_int],
        "n_fine_clusters": [non_negative_int],
        "feature_temperature": [positive_float],
        "probability_temperature": [positive_float],
        "regularization_weight": [non_negative_float],
        "normalize": ["boolean"],
        "symmetric": ["boolean"],
        "scale_free": ["boolean"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        encoder: str | nn.Module | Callable[[], nn.Module] = "auto",
        freeze_encoder: bool = False,
        augmentation: str | Callable[[Tensor], Tensor] = "auto",
        image_shape: tuple[int, ...] | None = None,
        image_size: int | tuple[int, int] | str = "auto",
        on_error: str = "raise",
        n_heads: int = 3,
        hidden_dim: int = 256,
        n_fine_clusters: int = 70,
        feature_temperature: float = 0.5,
        probability_temperature: float = 1.0,
        regularization_weight: float = 0.5,
        normalize: bool = True,
        symmetric: bool = True,
        scale_free: bool = True,
        cluster_start: float = 0.3,
        n_neighbors: int = 10,
        neighbor_start: float = 0.6,
        neighbor_space: str = "auto",
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        optimizer: str = "adam",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        warmup: float = 0.05,
        device: str | torch.device = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_time: float | None = None,
        tol: float | None = None,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | float = 1,
        verbose: int = 0,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.augmentation = augmentation
        self.image_shape = image_shape
        self.image_size = image_size
        self.on_error = on_error
        self.n_heads = n_heads
        self.hidden_dim = hidden_dim
        self.n_fine_clusters = n_fine_clusters
        self.feature_temperature = feature_temperature
        self.probability_temperature = probability_temperature
        self.regularization_weight = regularization_weight
        self.normalize = normalize
        self.symmetric = symmetric
        self.scale_free = scale_free
        self.cluster_start = cluster_start
        self.n_neighbors = n_neighbors
        self.neighbor_start = neighbor_start
        self.neighbor_space = neighbor_space
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.device = device
        self.precision = precision
        self.compile = compile
        self.max_time = max_time
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose
        self.random_state = random_state

    def _make_objective(self, encoder: nn.Module, feature_dim: int) -> Objective:
        return DeepRobustObjective(
            encoder,
            feature_dim,
            n_clusters=self.n_clusters,
            n_heads=self.n_heads,
            hidden_dim=self.hidden_dim,
            n_fine_clusters=self.n_fine_clusters,
            feature_temperature=self.feature_temperature,
            probability_temperature=self.probability_temperature,
            regularization_weight=self.regularization_weight,
            normalize=self.normalize,
            symmetric=self.symmetric,
            scale_free=self.scale_free,
            cluster_start=self.cluster_start,
            neighbors=self._neighbor_stage(),
        )
