"""The training loop: everything that loops, nothing of any method."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ._callbacks import Callback
from ._data import DataSource
from ._device import autocast, is_out_of_memory
from ._inference import calibrate_batch_norm, map_batches
from ._objective import Batch, LossOutput, Objective
from ._random import Seeds
from ._state import EpochRecord, TrainConfig, TrainState
from .augmentations import Augmentation
from .exceptions import DivergenceError

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}

_CALIBRATION_BATCHES = 64  # some 10,000 images: more change the statistics by less than 1 %


class Trainer:
    """Train an objective on the rows of a source.

    Parameters
    ----------
    config : TrainConfig
    seeds : Seeds
        Source of all randomness.
    device : torch.device
        Where objective and source lie.
    callbacks : sequence of Callback
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        seeds: Seeds,
        device: torch.device,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.config = config
        self.seeds = seeds
        self.device = device
        self.callbacks = callbacks

    def run(
        self,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
    ) -> TrainState:
        """Train in place; return the history.

        Ctrl-C after the first epoch ends the run in the state of the last finished epoch.

        Raises
        ------
        DivergenceError
            If a loss term is NaN or infinite at the end of an epoch.
        MemoryError
            If a step does not fit into memory.
        """
        state = TrainState(self.config.max_epochs)
        objective.train()
        steps = _Steps(self.config, objective, source.n_samples)
        finished: dict[str, Tensor] = {}
        for callback in self.callbacks:
            callback.on_fit_begin(state)
        try:
            for epoch in range(self.config.max_epochs):
                with self.seeds.fork_global("global", epoch, device=self.device):
                    record = self._epoch(epoch, objective, source, preprocess, augment, steps)
                self._check_finite(record, epoch)
                finished = {k: v.clone() for k, v in objective.state_dict().items()}
                state.history.append(record)
                for callback in self.callbacks:
                    callback.on_epoch_end(state)
        except KeyboardInterrupt:
            if not finished:
                raise
            objective.load_state_dict(finished)
            state.interrupted = True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"Out of memory in a training step on {self.device} with "
                f"batch_size={steps.batch_size}. Lower batch_size, or use a smaller encoder."
            ) from error
        finally:
            for callback in self.callbacks:
                callback.on_fit_end(state)
        self._calibrate(objective, source, preprocess, augment, steps)
        with torch.no_grad():
            objective.after_training(
                partial(self._map_all, len(state.history), objective, source, preprocess)
            )
        objective.eval()
        objective.zero_grad(set_to_none=True)  # gradients are no part of a fitted estimator
        return state

    def _epoch(
        self,
        epoch: int,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
        steps: "_Steps",
    ) -> EpochRecord:
        """Run one pass over the data; the losses are read from the device once, at its end."""
        order = self.seeds.generator("order", epoch)
        map_all = partial(self._map_all, epoch, objective, source, preprocess)
        with torch.no_grad():
            objective.before_epoch(epoch / self.config.max_epochs, map_all)
        draws = self.seeds.generator("augment", epoch, device=self.device)
        noise = self.seeds.generator("noise", epoch, device=self.device)
        plan = objective.view_rows(steps.plan(source.n_samples, order), order)
        sums: Tensor | None = None
        for index, stored in source.batches(plan.flatten(1)):
            views = augment(preprocess(stored), draws).chunk(plan.shape[1])
            batch = Batch(
                views, index[: steps.batch_size], objective.sample_noise(steps.batch_size, noise)
            )
            with autocast(self.device, self.config.precision):
                output = steps.loss(batch)
            steps.descend(output.total)
            with torch.no_grad():
                objective.after_step(output.carry, steps.progress)
            losses = torch.stack([output.total.detach(), *output.terms.values()])
            sums = losses if sums is None else sums + losses
        assert sums is not None
        total, *terms = (sums / len(plan)).tolist()
        return EpochRecord(total, dict(zip(output.terms, terms, strict=True)))

    def _calibrate(
        self,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
        steps: "_Steps",
    ) -> None:
        """Measure batch norm's statistics for the final weights, on views as in training."""
        address = self.config.max_epochs  # the epoch after the last one
        draws = self.seeds.generator("augment", address, device=self.device)
        plan = steps.plan(source.n_samples, self.seeds.generator("order", address))
        batches = source.batches(plan[:_CALIBRATION_BATCHES])
        with self.seeds.fork_global("global", address, device=self.device):
            calibrate_batch_norm(
                objective.encoder, (augment(preprocess(stored), draws) for _, stored in batches)
            )

    def _map_all(
        self,
        epoch: int,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        function: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return a function's values on all preprocessed rows, in evaluation mode, as float32."""
        objective.eval()
        batches = map_batches(lambda x: function(preprocess(x)).float(), source)
        values = torch.cat(list(batches))
        objective.train()
        if not values.isfinite().all():
            raise DivergenceError(
                f"Features became NaN or infinite after epoch {epoch}. Lower learning_rate (now "
                f"{self.config.learning_rate:g})."
            )
        return values

    def _check_finite(self, record: EpochRecord, epoch: int) -> None:
        if math.isfinite(record.total):
            return
        terms = ", ".join(f"{name}={value:.4g}" for name, value in record.terms.items())
        raise DivergenceError(
            f"Loss became {record.total} in epoch {epoch + 1} ({terms}). Lower learning_rate (now "
            f"{self.config.learning_rate:g}), or use precision='float32' (now "
            f"{self.config.precision!r})."
        )


class _Steps:
    """Batches and optimiser steps of one run."""

    def __init__(self, config: TrainConfig, objective: Objective, n_samples: int) -> None:
        self.batch_size = min(config.batch_size, n_samples)
        self.loss: Callable[[Batch], LossOutput] = objective
        if config.compile:
            self.loss = torch.compile(objective, fullgraph=True)
        self._done = 0
        # an incomplete last batch is dropped: its rows come first in another epoch's order
        self._total = config.max_epochs * (n_samples // self.batch_size)
        parameters = [p for p in objective.parameters() if p.requires_grad]
        device = parameters[0].device
        self._optimizer = _OPTIMIZERS[config.optimizer](
            parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type != "mps",  # one kernel for all parameters
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            partial(
                learning_rate_factor,
                n_steps=self._total,
                schedule=config.schedule,
                warmup=config.warmup,
            ),
        )
        self._scaler = torch.amp.GradScaler(
            device.type, enabled=config.precision == "float16" and device.type != "mps"
        )

    @property
    def progress(self) -> float:
        """Share of the run's steps that are done, in (0, 1]."""
        return self._done / self._total

    def plan(self, n_samples: int, generator: torch.Generator) -> Tensor:
        """Draw an epoch's order and cut it into full batches: (steps, batch_size)."""
        order = torch.randperm(n_samples, generator=generator)
        n_steps = n_samples // self.batch_size
        return order[: n_steps * self.batch_size].view(n_steps, self.batch_size)

    def descend(self, loss: Tensor) -> None:
        """Take one optimiser step."""
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()
        self._done += 1


def learning_rate_factor(step: int, *, n_steps: int, schedule: str, warmup: float) -> float:
    """Return the learning rate at a step, relative to its maximum.

    Parameters
    ----------
    step : int
        Number of steps done.
    n_steps : int
        Number of steps of the run.
    schedule : {"constant", "cosine"}
        Constant, or half a cosine from 1 to 0 after the warm-up.
    warmup : float
        Share of the steps over which the rate rises linearly from 0; in [0, 1).
    """
    n_warmup = warmup * n_steps
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))
