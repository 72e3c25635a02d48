"""The training loop: everything that loops, nothing of any method."""

import copy
import inspect
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from .._data.sources import DataSource
from .._networks.neighbors import sampled_rows
from .._runtime.batch_norm import global_batch_norm
from .._runtime.device import (
    autocast,
    is_out_of_memory,
    training_switches,
)
from .._runtime.distributed import (
    all_sum,
    dealt,
    deferred_interrupts,
    on_first,
    rank,
    share_state,
    world_size,
)
from .._runtime.random import Seeds
from .._runtime.warnings import warn_user
from ..augmentations import Augmentation
from ..exceptions import DivergenceError
from .callbacks import Callback
from .checkpoint import Checkpoint
from .inference import calibrate_batch_norm, collect, default_batch_size, map_batches
from .objective import Batch, Objective
from .state import EpochRecord, TrainConfig, TrainState
from .steps import Steps, StepsState, compile_whole
from .views import rows_to_read, vary

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
        checkpoint: Checkpoint | None = None,
    ) -> TrainState:
        """Train in place; return the history.

        Ctrl-C after the first epoch ends the run in the state of the last finished epoch. After
        the last one, it waits for the end.

        Parameters
        ----------
        objective : Objective
        source : DataSource
        preprocess : Module
        augment : Augmentation
        checkpoint : Checkpoint or None
            Where the run goes on from, if there is something, and is written to.

        Raises
        ------
        DivergenceError
            If a loss term is NaN or infinite at the end of an epoch.
        MemoryError
            If a step does not fit into memory.
        """
        state = TrainState(self.config.max_epochs)
        epochs = _Epochs(self, objective, source, preprocess, augment)
        if checkpoint is not None and checkpoint.found:
            checkpoint.restore(state, objective, epochs.steps)
        finished = _Finished(objective, state)
        objective.train()
        for callback in self.callbacks:
            callback.on_fit_begin(state)
        with ExitStack() as closing:
            try:
                with epochs.explained_out_of_memory(), deferred_interrupts() as interrupted:
                    self._loop(state, epochs, finished, checkpoint, interrupted)
                    if interrupted():  # in the last epoch, which needs no cut
                        _warn_of_late_interrupt()
            except KeyboardInterrupt:
                if not finished.n_epochs:
                    raise
                finished.restore(objective, state)
                state.interrupted = True
            finally:
                closing.enter_context(interrupts_wait(state))
                if checkpoint is not None:
                    checkpoint.write()
                for callback in self.callbacks:
                    callback.on_fit_end(state)
            epochs.finish(objective)
        return state

    def run_one_pass(
        self,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
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
        source : DataSource
        preprocess : Module
        augment : Augmentation
        number : int
            Of the pass: the address of its random draws.
        before : StepsState or None
            What the previous pass returned.
        starts : bool
            Whether this is the first pass of new networks.

        Returns
        -------
        record : EpochRecord
        after : StepsState
        """
        epochs = _Epochs(self, objective, source, preprocess, augment)
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
        epochs: "_Epochs",
        finished: "_Finished",
        checkpoint: Checkpoint | None,
        interrupted: Callable[[], bool],
    ) -> None:
        """Run epochs until they are enough, the time is over, or a callback stops."""
        begin = time.monotonic() - state.seconds
        while not state.stopped and len(state.history) < self._planned_epochs(state):
            if interrupted():
                raise KeyboardInterrupt
            state.max_epochs = self._planned_epochs(state)
            epochs.steps.spread_over(state.max_epochs)
            number = len(state.history)
            for callback in self.callbacks:
                callback.on_epoch_begin(state)
            state.history.append(epochs.run(number, progress=number / state.max_epochs))
            stops = [cb.on_epoch_end(state, epochs.finished_copy) for cb in self.callbacks]
            state.stopped = any(stops)
            state.seconds = on_first(lambda: time.monotonic() - begin)
            finished.take(epochs.objective, state)
            if checkpoint is not None:
                checkpoint.keep(state, finished.tensors, epochs.objective, epochs.steps)

    def _planned_epochs(self, state: TrainState) -> int:
        """Return how many epochs the run will have: as asked for, or as many as the time allows."""
        done = len(state.history)
        if self.config.max_time is None or not done:
            return self.config.max_epochs
        pace = max(state.seconds / done, 1e-9)
        return min(
            self.config.max_epochs, done + int((self.config.max_time - state.seconds) / pace)
        )


@contextmanager
def interrupts_wait(state: TrainState) -> Iterator[None]:
    """Let the first Ctrl-C wait for the end of a block after the last epoch; warn of it then.

    The second one interrupts at once. A handler that neither is nor wraps Python's own stays, and
    so does every one outside of the main thread, where none can be set.

    Warns
    -----
    UserWarning
        If Ctrl-C came and has cut no epochs: somebody may have meant more than this fit.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    pythons = callable(before) and inspect.unwrap(before) is signal.default_int_handler
    if not (in_main_thread and pythons):
        yield
        return
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen and not state.interrupted:
        _warn_of_late_interrupt()


def _warn_of_late_interrupt() -> None:
    warn_user(
        "Ctrl-C came after the last epoch: the fit is complete, and the script goes on. Press it "
        "again to stop the script; while a fit ends, twice.",
        UserWarning,
    )


class _Finished:
    """The state of the last finished epoch, which Ctrl-C goes back to."""

    def __init__(self, objective: Objective, state: TrainState) -> None:
        self.n_epochs = 0
        self.tensors: dict[str, Tensor] = {}
        if state.history:
            self.take(objective, state)

    def take(self, objective: Objective, state: TrainState) -> None:
        tensors = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
        self.tensors, self.n_epochs = tensors, len(state.history)

    def restore(self, objective: Objective, state: TrainState) -> None:
        objective.load_state_dict(self.tensors)
        del state.history[self.n_epochs :]


class _Epochs:
    """One objective on one data set: its epochs, and what follows the last one."""

    def __init__(
        self,
        trainer: Trainer,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
    ) -> None:
        self.config, self.seeds, self.device = trainer.config, trainer.seeds, trainer.device
        self.objective = objective
        self.source = source
        self.preprocess = preprocess
        self.augment = augment
        self._transform = augment.transform
        if self.config.compile and augment.compilable:
            self._transform = compile_whole(augment.transform)
        self.steps = Steps(self.config, objective, source.n_samples)

    def run(self, number: int, *, progress: float) -> EpochRecord:
        """Run one pass over the data."""
        with self.seeds.fork_global("global", number, device=self.device):
            record = self._pass(number, progress)
        self._check_finite(record, number)
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
        neighbors = self.objective.neighbors
        graph = neighbors.graph
        with torch.no_grad():
            self.objective.before_epoch(progress, _RowMap(self, self.objective, number))
        # k-means may round differently on every rank
        share_state(self.objective)
        if world_size() > 1 and neighbors.graph is not graph:
            neighbors.load_state(on_first(neighbors.state))

    def finished_copy(self) -> Objective:
        """Return a copy of the objective as if the run ended here."""
        objective = copy.deepcopy(self.objective)
        self.finish(objective)
        return objective

    def finish(self, objective: Objective) -> None:
        """Turn the objective, after its last epoch, into what a fitted estimator keeps."""
        self.calibrate(objective, self.config.max_epochs)  # as the epoch after the last one
        with torch.no_grad():
            objective.after_training(_RowMap(self, objective, self.steps.n_epochs))
        share_state(objective)
        objective.eval()
        objective.zero_grad(set_to_none=True)  # gradients are no part of a fitted estimator

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

    def _check_finite(self, record: EpochRecord, number: int) -> None:
        if math.isfinite(record.total):
            return
        terms = ", ".join(f"{name}={value:.4g}" for name, value in record.terms.items())
        raise DivergenceError(
            f"Loss became {record.total} in epoch {number + 1} ({terms}). Lower learning_rate (now "
            f"{self.config.learning_rate:g}), or use precision='float32' (now "
            f"{self.config.precision!r})."
        )

    @contextmanager
    def explained_out_of_memory(self) -> Iterator[None]:
        """Say what to do where the memory is too small."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"Out of memory in a training step on {self.device} with "
                f"batch_size={self.steps.batch_size}. Lower batch_size, or use a smaller encoder."
            ) from error


class _RowMap:
    """Applies functions to preprocessed rows, as :class:`MapAll` says."""

    def __init__(self, epochs: _Epochs, objective: Objective, number: int) -> None:
        self._epochs = epochs
        self._objective = objective
        self._number = number
        source = epochs.source
        self.sampled = sampled_rows(source.n_samples)
        n_sampled = source.n_samples if self.sampled is None else len(self.sampled)
        self.sampled_shape = n_sampled, source.n_features

    def __call__(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        return self._map(function, None)

    def on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        return self._map(function, self.sampled)

    def sum_on_sampled(self, function: Callable[[Tensor], Tensor], /) -> Tensor:
        preprocess, source = self._epochs.preprocess, self._epochs.source
        rows = torch.arange(source.n_samples) if self.sampled is None else self.sampled
        plan = torch.split(rows, default_batch_size(source.n_features))
        total: Tensor | None = None
        for number, (_, x) in enumerate(source.batches(dealt(plan))):
            value = function(preprocess(x))
            if number * world_size() + rank() >= len(plan):
                value.zero_()  # a batch of another rank, dealt again to fill up the round
            total = value if total is None else total.add_(value)
        assert total is not None
        if world_size() > 1:
            total = all_sum(total.to(self._epochs.device)).cpu()  # messages go between devices
        self._check_finite(total)
        return total

    def _map(self, function: Callable[[Tensor], Tensor], rows: Tensor | None) -> Tensor:
        preprocess, source = self._epochs.preprocess, self._epochs.source
        self._objective.eval()
        batches = map_batches(lambda x: function(preprocess(x)).float(), source, rows=rows)
        n_rows = source.n_samples if rows is None else len(rows)
        values = collect(batches, n_rows).to(self._epochs.device)
        self._objective.train()
        self._check_finite(values)
        return values

    def _check_finite(self, values: Tensor) -> None:
        if not values.isfinite().all():
            raise DivergenceError(
                f"Features became NaN or infinite after epoch {self._number}. Lower learning_rate "
                f"(now {self._epochs.config.learning_rate:g})."
            )
