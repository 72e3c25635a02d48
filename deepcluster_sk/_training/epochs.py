"""One objective on one data set: its epochs, and what follows the last one."""

import copy
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor

from .._runtime.batch_norm import global_batch_norm
from .._runtime.device import autocast, is_out_of_memory, training_switches
from .._runtime.distributed import share_state, world_size
from .._runtime.random import Seeds, may_draw
from . import errors
from .companion import Companion, WeightGradients, companion
from .inference import calibrate_batch_norm
from .objective import Batch, LossOutput, Objective
from .row_map import RowMap
from .self_labeling import SelfLabeling
from .state import EpochRecord, TrainConfig, Trained, TrainingData
from .steps import Steps, compile_whole
from .views import rows_to_read, vary

_ROUNDED = 1e-9  # of shares of the epochs, such as .7 + .3
_CALIBRATION_BATCHES = 64  # 16,384 samples by default: more change the statistics by less than 1 %


Views = tuple[tuple[Tensor, ...], Tensor]
"""The views of a batch, and the numbers of the rows that were read."""


class Epochs:
    """One objective on one data set: its epochs, and what follows the last one.

    Parameters
    ----------
    config : TrainConfig
    seeds : Seeds
        Source of all randomness.
    device : torch.device
        Where objective and data lie.
    objective : Objective
    data : TrainingData
    """

    def __init__(
        self,
        config: TrainConfig,
        seeds: Seeds,
        device: torch.device,
        objective: Objective,
        data: TrainingData,
    ) -> None:
        self.config, self.seeds, self.device = config, seeds, device
        self.objective = objective
        self.source, self.preprocess, self.augment = data
        self._draws_globally = self.augment.draws_globally or may_draw(objective)
        self._transform = self.augment.transform
        if self.config.compile and self.augment.compilable:
            self._transform = compile_whole(self.augment.transform)
        self.steps = Steps(self.config, objective, self.source.n_samples)
        # whose hooks run in an epoch: the method's objective, or SelfLabeling around it
        self._active, self._loss = objective, self.steps.loss

    def run(self, number: int, *, progress: float) -> EpochRecord:
        """Run one pass over the data."""
        record = self._pass(number, progress)
        if not math.isfinite(record.total):
            raise errors.loss_diverged(record, number + 1, self.config)
        return record

    def _pass(self, number: int, progress: float) -> EpochRecord:
        """Run one pass; the losses are read from the device once, at its end."""
        order = self.seeds.generator("order", number)
        self._choose_objective(number, progress)
        self.prepare(number, progress=progress)
        plan = self._active.view_rows(self.steps.plan(self.source.n_samples, order), order)
        with (
            training_switches(self.device, self.config.precision),
            closing(self._batches(plan, number)) as batches,
            self._companion() as helper,
        ):
            sums, names = self._take_steps(batches, len(plan), number, helper)
        total, *terms = (sums / len(plan)).tolist()
        return EpochRecord(total, dict(zip(names, terms, strict=True)))

    def _choose_objective(self, number: int, progress: float) -> None:
        """Let an epoch train by the method's loss or, near the end, by the network's own labels."""
        self._active, self._loss = self.objective, self.steps.loss
        share = self.config.self_labeling
        if not share or progress + share < 1 - _ROUNDED:
            return
        n_sampled, _ = self._row_map(self.objective, number).sampled_shape
        if self.objective.labels_itself(n_sampled):
            self._active, self._loss = self._self_labeling

    @cached_property
    def _self_labeling(self) -> tuple[Objective, Callable[[Batch], LossOutput]]:
        labelling = SelfLabeling(self.objective)
        return labelling, (
            compile_whole(labelling.forward) if self.config.compile else labelling.forward
        )

    def _companion(self) -> AbstractContextManager[Companion | None]:
        # code that is not ours may do anything with weights, and its draws are of this thread
        helps = self.config.one_thread and not self.config.compile and not self._draws_globally
        return companion() if helps else nullcontext()

    def _take_steps(
        self, batches: Iterator[Views], n_steps: int, number: int, helper: Companion | None
    ) -> tuple[Tensor, list[str]]:
        """Take a step for each batch of an epoch, and never wait for the device.

        Return the sums of the loss and of its terms, and the names of the terms.
        """
        noise = self.seeds.generator("noise", number, device=self.device)
        if helper is not None:
            batches = helper.one_ahead(batches)
        sums: Tensor | None = None
        for step in range(n_steps):
            with self._seeded_globals(number, step):
                views, rows = next(batches)
                batch = Batch(views, rows, self._active.sample_noise(self.steps.batch_size, noise))
                output = self._step(batch, helper)
            losses = torch.stack([output.total.detach(), *output.terms.values()])
            sums = losses if sums is None else sums + losses
        assert sums is not None
        return sums, list(output.terms)

    def _batches(self, plan: Tensor, number: int) -> Generator[Views, None, None]:
        """Yield the views of each batch of a plan, and the numbers of the rows that were read."""
        n_views = plan.shape[1]
        draws = self.seeds.generator("augment", number, device=self.device)
        for index, stored in self.source.batches(rows_to_read(plan, self.augment)):
            views = vary(
                self.preprocess(stored),
                n_views,
                self.augment,
                self._transform,
                draws,
                n_plain=self._active.n_plain_views,
            )
            yield views, index[: len(index) // n_views]

    def _step(self, batch: Batch, helper: Companion | None) -> LossOutput:
        """Take one step."""
        gradients = None if helper is None else WeightGradients(helper)
        with (
            autocast(self.device, self.config.precision),
            global_batch_norm(),
            gradients or nullcontext(),
        ):
            output = self._loss(batch)
        self.steps.descend(output.total, gradients)
        with torch.no_grad():
            self._active.after_step(output.carry, self.steps.progress)
        return output

    def _seeded_globals(self, number: int, *step: int) -> AbstractContextManager[None]:
        """Seed the global random states, if what is not ours may draw from them."""
        if not self._draws_globally:
            return nullcontext()
        return self.seeds.fork_global("global", number, *step, device=self.device)

    def prepare(self, number: int, *, progress: float) -> None:
        """Let the objective prepare an epoch."""
        with torch.no_grad():
            self._active.before_epoch(progress, self._row_map(self.objective, number))
        # k-means may round differently on every rank
        share_state(self.objective)

    def finished_copy(self) -> Trained:
        """Return a copy of the objective as if the run ended here, and the features."""
        return self.finish(copy.deepcopy(self.objective))

    def finish(self, objective: Objective) -> Trained:
        """Turn the objective, after its last epoch, into what a fitted estimator keeps."""
        self.calibrate(objective, self.config.max_epochs)  # as the epoch after the last one
        map_all = self._row_map(objective, self.steps.n_epochs)
        with torch.no_grad():
            features = map_all.on_sampled(objective.encoder)
            objective.after_training(features, map_all.seed)
        objective.eval()
        share_state(objective)  # whose clusters are looked at next
        with torch.no_grad():
            objective.learn_typicality(features, map_all)
        share_state(objective)
        objective.zero_grad(set_to_none=True)  # a fitted estimator keeps no gradients
        # the encoder of another process may round differently
        are_all = map_all.sampled is None and world_size() == 1
        return Trained(objective, features if are_all else None)

    def calibrate(self, objective: Objective, number: int) -> None:
        """Measure batch norm's statistics for the final weights, on views as in training."""
        draws = self.seeds.generator("augment", number, device=self.device)
        plan = self.steps.plan(self.source.n_samples, self.seeds.generator("order", number))
        plan = rows_to_read(plan[:_CALIBRATION_BATCHES, None], self.augment)
        with self._seeded_globals(number):
            calibrate_batch_norm(
                objective.encoder,
                (
                    vary(self.preprocess(stored), 1, self.augment, self.augment.transform, draws)[0]
                    for _, stored in self.source.batches(plan)
                ),
            )

    def _row_map(self, objective: Objective, number: int) -> RowMap:
        return RowMap(
            objective,
            self.source,
            self.preprocess,
            device=self.device,
            one_thread=self.config.one_thread,
            multiple=self.config.row_multiple,
            seed=self.seeds.seed("partition"),
            diverged=lambda: errors.features_diverged(number, self.config.learning_rate),
        )

    @contextmanager
    def explained_out_of_memory(self) -> Iterator[None]:
        """Say what to do where the memory is too small."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise errors.out_of_memory(self.device, self.steps.batch_size) from error
