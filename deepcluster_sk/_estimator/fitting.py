"""How an estimator is trained: from samples and parameters to fitted attributes."""

import copy
import math
from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from .._data.image_files import checked_size
from .._data.preprocessing import Layout, Preprocessor
from .._data.protocols import DataSource, Rows
from .._data.sources import open_source
from .._networks.modules import FrozenEncoder
from .._networks.neighbors import NeighborStage
from .._runtime.device import resolve_device, resolve_precision
from .._runtime.distributed import check_same, on_first, rank, share_state, world_size
from .._runtime.random import Seeds, draw_entropy
from .._training.callbacks import Callback, OnFirst, ProgressBar, StableAssignment
from .._training.checkpoint import Checkpoint, data_identity, tensors_identity
from .._training.frozen import (
    assign,
    build_frozen_objective,
    check_is_trained,
    compute_features,
    give_back_encoder,
    network_of,
    put_encoder,
    stand_in,
)
from .._training.inference import default_batch_size, map_batches
from .._training.objective import Objective
from .._training.state import EpochRecord, TrainConfig, TrainState
from .._training.steps import StepsState
from .._training.trainer import Trainer, interrupts_wait
from ..augmentations._base import Augmentation
from ..augmentations._recipes import make_augmentation
from ..encoders import input_size, make_encoder
from ..exceptions import DivergenceError
from .saving import fit_identity
from .sklearn_callbacks import CallbackSupportMixin, FitTasks, with_callbacks
from .validation import (
    FileOptions,
    Samples,
    check_equal_parts,
    check_input,
    check_n_samples,
    check_new_input,
    check_rows_to_contrast,
)


class _Online(NamedTuple):
    """What the next ``partial_fit`` goes on from, beside the networks."""

    entropy: int
    optimizer: str
    steps: StepsState


class _TrainingData(NamedTuple):
    """What a training reads, and how."""

    samples: Samples
    stored: DataSource
    """X as it is stored."""
    source: DataSource
    """The same, or the features of a frozen encoder."""
    preprocess: nn.Module
    augment: Augmentation
    frozen: FrozenEncoder | None
    """The encoder that the objective has when it is fitted, if it is not trained."""


class FittingMixin(CallbackSupportMixin, BaseEstimator):
    """What ``fit`` and ``partial_fit`` do once the parameters are checked."""

    _objective: Objective
    _preprocessor: Preprocessor
    _online: _Online | None = None

    @abstractmethod
    def _make_objective(self, encoder: nn.Module, feature_dim: int) -> Objective:
        """Build the networks and the loss of the method."""

    @with_callbacks
    def _train(self, X: Any, y: Any) -> TrainState:
        """Run the whole training; set the fitted attributes."""
        goes_on = self.warm_start and hasattr(self, "_objective")
        check_same(self._joint_identity(goes_on=goes_on))
        checkpoint = None
        if self.checkpoint is not None:
            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_every)
            checkpoint.match(fit_identity(self))
        samples = self._read(X, goes_on=goes_on)
        check_same_rows(samples)
        check_n_samples(len(samples.rows), self.n_clusters)
        device = resolve_device(self.device)
        seeds = Seeds(on_first(lambda: draw_entropy(self.random_state)))
        if checkpoint is not None and checkpoint.entropy is not None:
            seeds = Seeds(checkpoint.entropy)  # what None or a RandomState gave at the first start
        if not goes_on:
            self._preprocessor = _learned_scale(samples.rows, samples.layout)
        objective = self._make_networks(seeds, device)
        if goes_on:
            self._hand_down_weights(objective)
        share_state(objective)
        data = self._open(samples, objective, device, first=not goes_on)
        if checkpoint is not None:
            checkpoint.match(self._start_identity(data, seeds, objective))
        config = self._train_config(data.source.n_samples, device)
        attributes = partial(self._numbered_by_size, data=data, config=config, device=device)
        tasks = FitTasks(self, X, y, attributes)
        callbacks = [*self._watchers(objective, data), OnFirst(tasks)]
        trainer = Trainer(config, seeds=seeds, device=device, callbacks=callbacks)
        state = trainer.run(objective, data.source, data.preprocess, data.augment, checkpoint)
        with interrupts_wait(state):
            fitted = attributes(objective, state)
            self._set_fitted(fitted)
            self.__dict__.pop("_online", None)
            on_first(lambda: tasks.on_success(fitted))
        return state

    def _train_one_pass(self, X: Any) -> None:
        """Run one epoch of a training without a known end; set the fitted attributes."""
        first = not hasattr(self, "_objective")
        check_same(self._joint_identity(goes_on=not first))
        samples = self._read(X, goes_on=not first)
        check_same_rows(samples)
        if first:
            check_n_samples(len(samples.rows), self.n_clusters)
        check_rows_to_contrast(len(samples.rows))
        device = resolve_device(self.device)
        before = self._online
        seeds = Seeds(
            on_first(lambda: draw_entropy(self.random_state)) if before is None else before.entropy
        )
        if first:
            self._preprocessor = _learned_scale(samples.rows, samples.layout)
            objective = self._make_networks(seeds, device)
        else:
            objective = copy.deepcopy(self._objective).to(device)
        share_state(objective)
        objective.neighbors = NeighborStage(0, 0.0, among_inputs=False)
        data = self._open(samples, objective, device, first=first)
        config = self._train_config(data.source.n_samples, device)
        config = replace(config, max_epochs=1, schedule="constant", warmup=0.0)
        goes_on = before is not None and before.optimizer == self.optimizer
        record, after = Trainer(config, seeds=seeds, device=device).run_one_pass(
            objective,
            data.source,
            data.preprocess,
            data.augment,
            number=0 if first else self.n_iter_,
            before=before.steps if before is not None and goes_on else None,
            starts=first,
        )
        self._set_fitted(
            {
                **self._attributes(objective, data, config, device),
                **self._appended(record, first=first),
                "_online": _Online(seeds.entropy, self.optimizer, after.cpu()),
            }
        )

    def _set_fitted(self, attributes: dict[str, Any]) -> None:
        """Set attributes; nothing of a fitted estimator stays on a device."""
        for name, value in attributes.items():
            setattr(self, name, value)
        self._objective.cpu()

    def _appended(self, record: EpochRecord, *, first: bool) -> dict[str, Any]:
        """Return the course of the training, one epoch longer."""
        if first:
            past: dict[str, list[float]] = {name: [] for name in record.terms}
            losses: list[float] = []
        else:
            past, losses = self.history_, self.loss_curve_
        return {
            "n_iter_": len(losses) + 1,
            "loss_curve_": [*losses, record.total],
            # a part that fit has dropped, such as a finer head, has no loss any more
            "history_": {name: [*past[name], record.terms.get(name, 0.0)] for name in past},
        }

    def _read(self, X: Any, *, goes_on: bool) -> Samples:
        """Check training samples."""
        files = self._file_options()
        if not goes_on:
            return check_input(self, X, image_shape=self.image_shape, files=files)
        if self.n_clusters != len(self.cluster_sizes_):
            raise ValueError(
                f"n_clusters={self.n_clusters}, but the training goes on from "
                f"{len(self.cluster_sizes_)} clusters. Restore n_clusters, or call fit with "
                "warm_start=False to start again."
            )
        was_frozen = isinstance(self._objective.encoder, FrozenEncoder)
        if self.freeze_encoder != was_frozen:
            raise ValueError(
                f"freeze_encoder={self.freeze_encoder}, but the training goes on from one with "
                f"freeze_encoder={was_frozen}. Restore freeze_encoder, or call fit with "
                "warm_start=False to start again."
            )
        return check_new_input(self, X, self._preprocessor.layout, files=files)

    def _file_options(self) -> FileOptions:
        """Resolve the parameters of image files."""
        tells = bool(self.verbose) and rank() == 0
        return FileOptions(checked_size(self.image_size), self.on_error, tells)

    def _preprocessor_of(self, samples: Samples) -> Preprocessor:
        """Return what scales samples; in files, white is white, whatever the training set."""
        if samples.from_files:
            return Preprocessor.of_bytes(self._preprocessor.layout)
        return self._preprocessor

    def _joint_identity(self, *, goes_on: bool) -> dict[str, Any]:
        """Tell what processes that train together must have in common, beside X."""
        return {**fit_identity(self), "n_iter_": self.n_iter_ if goes_on else 0}

    def _start_identity(
        self, data: _TrainingData, seeds: Seeds, objective: Objective
    ) -> dict[str, Any]:
        """Tell a fit from others by all that it starts from, beside the parameters."""
        weights = dict(objective.state_dict())
        if data.frozen is not None:
            weights |= data.frozen.state_dict(prefix="encoder.")
        return {
            **data_identity(data.stored),
            "X.scaling": tensors_identity(self._preprocessor_of(data.samples).state_dict()),
            "entropy": seeds.entropy,
            "initial weights": tensors_identity(weights),
        }

    def _make_networks(self, seeds: Seeds, device: torch.device) -> Objective:
        """Build the networks with new weights."""
        if self.freeze_encoder:
            check_is_trained(self.encoder)
        with seeds.fork_global("init", device=device):
            encoder, self._n_features_out = make_encoder(
                self.encoder, self._preprocessor.layout.sample_shape
            )
            return self._build_objective(encoder).to(device)

    def _build_objective(self, encoder: nn.Module) -> Objective:
        """Build the objective around an encoder, frozen or not."""
        if self.freeze_encoder:
            return build_frozen_objective(self._make_objective, encoder, self._n_features_out)
        return self._make_objective(encoder, self._n_features_out)

    def _open(
        self, samples: Samples, objective: Objective, device: torch.device, *, first: bool
    ) -> _TrainingData:
        """Let the objective and samples fit together; at first, learn the scale of features."""
        shape = self._preprocessor.layout.sample_shape
        preprocess: nn.Module = copy.deepcopy(self._preprocessor_of(samples)).to(device)
        stored = source = open_source(samples.rows, device=device)
        frozen = objective.encoder if isinstance(objective.encoder, FrozenEncoder) else None
        if frozen is not None:
            if first or self._trains_on_features:
                network, multiple = frozen.network, self._multiple
                features = compute_features(network, stored, preprocess, multiple=multiple)
            if first:
                layout = Layout((self._n_features_out,))
                frozen.rescale = _learned_scale(features, layout).to(device)
            if self._trains_on_features:
                source, preprocess = open_source(features, device=device), frozen.rescale
                shape = (self._n_features_out,)
            put_encoder(objective, stand_in() if self._trains_on_features else frozen)
        augment = make_augmentation(self.augmentation, shape, input_size(objective.encoder))
        return _TrainingData(samples, stored, source, preprocess, augment.to(device), frozen)

    @property
    def _trains_on_features(self) -> bool:
        """Whether a frozen encoder's features are computed once, and varied as rows are."""
        on_rows = isinstance(self.augmentation, str) and self.augmentation in ("auto", "rows")
        return self.freeze_encoder and on_rows

    def _hand_down_weights(self, objective: Objective) -> None:
        """Let the networks begin with the present weights."""
        try:
            objective.load_state_dict(self._objective.state_dict())
        except RuntimeError as error:
            raise ValueError(
                "warm_start=True goes on from the present weights, which do not fit the "
                f"parameters: {error}. Restore the parameters that shape the networks, or pass "
                "warm_start=False."
            ) from error

    def _watchers(self, objective: Objective, data: _TrainingData) -> list[Callback]:
        """Return the callbacks of our own that the parameters ask for."""
        watchers: list[Callback] = []
        if self.verbose:
            watchers.append(OnFirst(ProgressBar(type(self).__name__)))
        if self.tol is not None:

            def labels() -> Tensor:
                objective.eval()
                assigned = torch.from_numpy(self._assigned(objective, data))
                objective.train()
                return assigned

            last_start = max(self.cluster_start, self.neighbor_start if self.n_neighbors else 0.0)
            watchers.append(
                StableAssignment(
                    labels,
                    tol=self.tol,
                    n_iter_no_change=self.n_iter_no_change,
                    start=last_start,
                )
            )
        return watchers

    def _neighbor_stage(self) -> NeighborStage:
        """Resolve the parameters of the neighbours."""
        space = self.neighbor_space
        if space == "auto":
            is_rows = self._trains_on_features or not self._preprocessor.layout.is_image
            space = "inputs" if is_rows else "features"
        return NeighborStage(self.n_neighbors, self.neighbor_start, among_inputs=space == "inputs")

    def _train_config(self, n_samples: int, device: torch.device) -> TrainConfig:
        """Resolve the parameters of the training loop."""
        batch_size = min(self.batch_size, n_samples)
        check_equal_parts(batch_size, world_size(), compiled=self.compile)
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            max_epochs = default_epochs(n_samples, batch_size)
        return TrainConfig(
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            precision=resolve_precision(
                self.precision, device, self._preprocessor.layout.sample_shape
            ),
            compile=self.compile,
            max_time=self.max_time,
        )

    def _numbered_by_size(
        self,
        objective: Objective,
        state: TrainState,
        *,
        data: _TrainingData,
        config: TrainConfig,
        device: torch.device,
    ) -> dict[str, Any]:
        """Return the fitted attributes; the clusters are numbered by decreasing size."""
        sizes = np.bincount(self._assigned(objective, data), minlength=self.n_clusters)
        order = np.argsort(-sizes, kind="stable")
        objective.permute_clusters(torch.as_tensor(order))
        history = state.history
        return {
            "n_iter_": len(history),
            "loss_curve_": [record.total for record in history],
            "history_": {
                name: [record.terms[name] for record in history] for name in history[0].terms
            },
            **self._attributes(objective, data, config, device),
        }

    def _attributes(
        self, objective: Objective, data: _TrainingData, config: TrainConfig, device: torch.device
    ) -> dict[str, Any]:
        """Return the fitted attributes that do not depend on the course of the training."""
        labels = self._assigned(objective, data)
        if data.frozen is not None:
            give_back_encoder(objective, data.frozen)
        return {
            "_objective": objective,
            "encoder_": network_of(objective),
            "input_shape_": self._preprocessor.layout.shape,
            "device_": str(device),
            "precision_": config.precision,
            "labels_": data.samples.with_skipped(labels, -1),
            "cluster_sizes_": np.bincount(labels, minlength=self.n_clusters),
            "skipped_": list(data.samples.skipped.values()),
        }

    def _assigned(self, objective: Objective, data: _TrainingData) -> np.ndarray:
        """Return the labels of the rows, computed as ``predict`` does: with the same bits."""
        batches = map_batches(
            lambda x: assign(objective, data.preprocess(x)),
            data.source,
            batch_size=default_batch_size(data.stored.n_features),
            multiple=self._multiple,
        )
        labels, known = [], []
        for batch in batches:
            labels.append(batch.argmax(dim=1).cpu())
            known.append(batch.isfinite().all().cpu())
        if not all(known):
            raise DivergenceError(
                "Assignments became NaN or infinite. Lower learning_rate (now "
                f"{self.learning_rate:g})."
            )
        return torch.cat(labels).numpy()

    @property
    def _multiple(self) -> int:
        """Rows per batch of inference come in multiples of this; images are too dear to fill up."""
        return 1 if self._preprocessor.layout.is_image else 32


def check_same_rows(samples: Samples) -> None:
    """Refuse to work together on the rows of different data sets."""
    if world_size() > 1:
        check_same(data_identity(open_source(samples.rows, device=torch.device("cpu"))))


def _learned_scale(X: Rows, layout: Layout) -> Preprocessor:
    """Learn the statistics of rows, once for all processes."""
    return on_first(lambda: Preprocessor.learn(X, layout))


def default_epochs(n_samples: int, batch_size: int) -> int:
    """Return the epochs of ``max_epochs="auto"``: at least 12, and at least 560 steps."""
    return max(12, math.ceil(560 / (n_samples // batch_size)))
