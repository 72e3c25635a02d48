"""One objective on one data set: its epochs, and what follows the last one."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .._runtime.batch_norm import global_batch_norm
from .._runtime.device import autocast, is_out_of_memory, training_switches
from .._runtime.distributed import share_state
from .._runtime.random import Seeds
from . import errors
from .inference import calibrate_batch_norm
from .objective import Batch, Objective
from .row_map import RowMap
from .state import EpochRecord, TrainConfig, TrainingData
from .steps import Steps, compile_whole
from .views import rows_to_read, vary

_CALIBRATION_BATCHES = 64  # some 10,000 images: more change the statistics by less than 1 %


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
        self._transform = self.augment.transform
        if self.config.compile and self.augment.compilable:
            self._transform = compile_whole(self.augment.transform)
        self.steps = Steps(self.config, objective, self.source.n_samples)

    def run(self, number: int, *, progress: float) -> EpochRecord:
        """Run one pass over the data."""
        with self.seeds.fork_global("global", number, device=self.device):
            record = self._pass(number, progress)
        if not math.isfinite(record.total):
            raise errors.loss_diverged(record, number + 1, self.config)
        return record

    def _pass(self, number: int, progress: float) -> EpochRecord:
        """Run one pass; the losses are read from the device once, at its end."""
        objective = self.objective
        order = self.seeds.generator("order", number)
        self.prepare(number, progress=progress)
        plan = objective.view_rows(self.steps.plan(self.source.n_samples, order), order)
        with training_switches(self.device, self.config.precision):
            sums, names = self._take_steps(plan, number)
        total, *terms = (sums / len(plan)).tolist()
        return EpochRecord(total, dict(zip(names, terms, strict=True)))

    def _take_steps(self, plan: Tensor, number: int) -> tuple[Tensor, list[str]]:
        """Take a step for each batch of a plan (steps, views, B), and never wait for the device.

        Return the sums of the loss and of its terms, and the names of the terms.
        """
        objective, steps = self.objective, self.steps
        draws = self.seeds.generator("augment", number, device=self.device)
        noise = self.seeds.generator("noise", number, device=self.device)
        sums: Tensor | None = None
        n_views = plan.shape[1]
        for index, stored in self.source.batches(rows_to_read(plan, self.augment)):
            x = self.preprocess(stored)
            views = vary(x, n_views, self.augment, self._transform, draws)
            rows = index[: len(index) // n_views]
            batch = Batch(views, rows, objective.sample_noise(steps.batch_size, noise))
            with autocast(self.device, self.config.precision), global_batch_norm():
                output = steps.loss(batch)
            steps.descend(output.total)
            with torch.no_grad():
                objective.after_step(output.carry, steps.progress)
            losses = torch.stack([output.total.detach(), *output.terms.values()])
            sums = losses if sums is None else sums + losses
        assert sums is not None
        return sums, list(output.terms)

    def prepare(self, number: int, *, progress: float) -> None:
        """Let the objective prepare an epoch."""
        with torch.no_grad():
            self.objective.before_epoch(progress, self._row_map(self.objective, number))
        # k-means may round differently on every rank
        share_state(self.objective)

    def finished_copy(self) -> Objective:
        """Return a copy of the objective as if the run ended here."""
        objective = copy.deepcopy(self.objective)
        self.finish(objective)
        return objective

    def finish(self, objective: Objective) -> None:
        """Turn the objective, after its last epoch, into what a fitted estimator keeps."""
        self.calibrate(objective, self.config.max_epochs)  # as the epoch after the last one
        with torch.no_grad():
            objective.after_training(self._row_map(objective, self.steps.n_epochs))
        share_state(objective)
        objective.eval()
        objective.zero_grad(set_to_none=True)  # a fitted estimator keeps no gradients

    def calibrate(self, objective: Objective, number: int) -> None:
        """Measure batch norm's statistics for the final weights, on views as in training."""
        draws = self.seeds.generator("augment", number, device=self.device)
        plan = self.steps.plan(self.source.n_samples, self.seeds.generator("order", number))
        plan = rows_to_read(plan[:_CALIBRATION_BATCHES, None], self.augment)
        with self.seeds.fork_global("global", number, device=self.device):
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
