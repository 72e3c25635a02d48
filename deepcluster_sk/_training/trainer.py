"""The training loop: everything that loops, nothing of any method."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import torch

from .._runtime.distributed import on_first
from .._runtime.random import Seeds
from .callbacks import Callback
from .checkpoint import Checkpoint
from .epochs import Epochs
from .interrupts import Interrupts
from .objective import Objective
from .self_labeling import TERM
from .state import EpochRecord, TrainConfig, Trained, TrainingData, TrainState
from .steps import StepsState


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
        data: TrainingData,
        checkpoint: Checkpoint | None = None,
        interrupts: Interrupts | None = None,
    ) -> tuple[TrainState, Trained]:
        """Train in place; return the history, and what the training leaves.

        Parameters
        ----------
        objective : Objective
        data : TrainingData
        checkpoint : Checkpoint or None, default=None
            Where the run goes on from, if there is something, and is written to.
        interrupts : Interrupts or None, default=None
            Afterwards says whether Ctrl-C cut epochs. None for new ones.

        Raises
        ------
        DivergenceError
            If the loss is NaN or infinite at the end of an epoch.
        MemoryError
            If a step does not fit into memory.
        KeyboardInterrupt
            If Ctrl-C comes before the end of the first epoch.
        """
        interrupts = interrupts or Interrupts()
        state = TrainState(self.config.max_epochs)
        epochs = Epochs(self.config, self.seeds, self.device, objective, data)
        if checkpoint is not None and checkpoint.found:
            checkpoint.restore(state, objective, epochs.steps)
            interrupts.take(objective, state)
        objective.train()
        with ExitStack() as closing, ExitStack() as begun:
            for callback in self.callbacks:
                callback.on_fit_begin(state)
                begun.callback(callback.on_fit_end, state)
            try:
                with epochs.explained_out_of_memory(), interrupts.deferred():
                    self._loop(state, epochs, checkpoint, interrupts)
                    if interrupts.came():  # in the last epoch, which needs no cut
                        interrupts.warn_of_late_one()
            except KeyboardInterrupt:
                if not interrupts.n_epochs:
                    raise
                interrupts.go_back(objective, state)
            finally:
                closing.enter_context(interrupts.waiting())
                if checkpoint is not None:
                    checkpoint.write()
                begun.close()
            return state, epochs.finish(objective)

    def run_one_pass(
        self,
        objective: Objective,
        data: TrainingData,
        *,
        number: int,
        before: StepsState | None,
        starts: bool,
    ) -> tuple[EpochRecord, StepsState]:
        """Train in place for one epoch of a training without a known end.

        Clusters that start late in a training start at the end of the first pass: on features that
        were trained for a pass, k-means is much better than on those of a new network.

        Parameters
        ----------
        objective : Objective
        data : TrainingData
        number : int
            Number of the pass, from which its random draws follow.
        before : StepsState or None
            What the previous pass returned.
        starts : bool
            Whether this is the first pass of new networks.

        Returns
        -------
        record : EpochRecord
        after : StepsState
        """
        epochs = Epochs(self.config, self.seeds, self.device, objective, data)
        if before is not None:
            epochs.steps.load(before)
        objective.train()
        with epochs.explained_out_of_memory():
            record = epochs.run(number, progress=0.0 if starts else 1.0)
        epochs.calibrate(objective, number)
        if starts:
            epochs.prepare(number, progress=1.0)
        objective.eval()
        objective.zero_grad(set_to_none=True)
        return record, epochs.steps.state()

    def _loop(
        self,
        state: TrainState,
        epochs: Epochs,
        checkpoint: Checkpoint | None,
        interrupts: Interrupts,
    ) -> None:
        """Run epochs until they are enough, the time is over, or a callback stops."""
        begin = time.monotonic() - state.seconds
        while not state.stopped and len(state.history) < self._planned_epochs(state):
            interrupts.check()
            state.max_epochs = self._planned_epochs(state)
            epochs.steps.spread_over(state.max_epochs)
            number = len(state.history)
            for callback in self.callbacks:
                callback.on_epoch_begin(state)
            record = epochs.run(number, progress=number / state.max_epochs)
            state.history.append(self._with_all_terms(record, state.history))
            stops = [cb.on_epoch_end(state, epochs.finished_copy) for cb in self.callbacks]
            state.stopped = any(stops)
            state.seconds = on_first(lambda: time.monotonic() - begin)
            interrupts.take(epochs.objective, state)
            if checkpoint is not None:
                checkpoint.keep(state, interrupts.tensors, epochs.objective, epochs.steps)

    def _with_all_terms(self, record: EpochRecord, history: list[EpochRecord]) -> EpochRecord:
        """Give all epochs the terms of both losses, if there are two; 0 for those not in use."""
        if not self.config.self_labeling:
            return record
        names = history[0].terms if history else [*record.terms, TERM]
        return EpochRecord(record.total, {**dict.fromkeys(names, 0.0), **record.terms})

    def _planned_epochs(self, state: TrainState) -> int:
        """Return how many epochs the run will have: as asked for, or as many as the time allows."""
        done = len(state.history)
        if self.config.max_time is None or not done:
            return self.config.max_epochs
        pace = max(state.seconds / done, 1e-9)
        return min(
            self.config.max_epochs, done + int((self.config.max_time - state.seconds) / pace)
        )
