"""The training loop: everything that loops, nothing of any method."""

import inspect
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from .._data.protocols import DataSource
from .._runtime.distributed import (
    deferred_interrupts,
    on_first,
)
from .._runtime.random import Seeds
from .._runtime.warnings import warn_user
from ..augmentations._base import Augmentation
from .callbacks import Callback
from .checkpoint import Checkpoint
from .epochs import Epochs
from .objective import Objective
from .state import EpochRecord, TrainConfig, TrainState
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
        epochs = self._epochs(objective, source, preprocess, augment)
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
        epochs = self._epochs(objective, source, preprocess, augment)
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

    def _epochs(
        self,
        objective: Objective,
        source: DataSource,
        preprocess: nn.Module,
        augment: Augmentation,
    ) -> Epochs:
        return Epochs(self.config, self.seeds, self.device, objective, source, preprocess, augment)

    def _loop(
        self,
        state: TrainState,
        epochs: Epochs,
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
