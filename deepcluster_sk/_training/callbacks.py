"""What watches a training run."""

from collections.abc import Callable

from torch import Tensor

from .._runtime.distributed import alone, on_first, rank
from .._runtime.progress import progress_bar
from .state import Trained, TrainState


class Callback:
    """Hooks of the training loop; all of them do nothing by default."""

    def on_fit_begin(self, state: TrainState) -> None:
        """Run before the first epoch; the history is not empty if the run goes on from a file."""

    def on_epoch_begin(self, state: TrainState) -> None:
        """Run before each epoch."""

    def on_epoch_end(self, state: TrainState, finished: Callable[[], Trained]) -> bool:
        """Run after each epoch, when its record is the last of ``state.history``.

        Parameters
        ----------
        state : TrainState
        finished : callable
            Returns a copy of the objective as if the run ended here, and the features; costs
            nothing unless called.

        Returns
        -------
        stop : bool
            Whether to end the run.
        """
        return False

    def on_fit_end(self, state: TrainState) -> None:
        """Run at the end, also after an error, but not without a beginning; the last one first."""


class ProgressBar(Callback):
    """One tqdm bar, in terminal and notebook: loss terms, seconds per epoch, time left."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_fit_begin(self, state: TrainState) -> None:
        """Open the bar."""
        self._bar = progress_bar(
            total=state.max_epochs,
            initial=len(state.history),
            desc=self._name,
            unit="epoch",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs "
            "[{elapsed}<{remaining}, {rate_inv_fmt}{postfix}]",
        )

    def on_epoch_end(self, state: TrainState, finished: Callable[[], Trained]) -> bool:
        """Advance by one epoch and show its loss terms."""
        self._bar.total = state.max_epochs
        self._bar.set_postfix(state.history[-1].terms, refresh=False)
        self._bar.update()
        return False

    def on_fit_end(self, state: TrainState) -> None:
        """Close the bar."""
        self._bar.close()


class OnFirst(Callback):
    """Let rank 0 alone be watched, as if there were no other; what it decides holds for all."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    def on_fit_begin(self, state: TrainState) -> None:
        """Pass on."""
        on_first(lambda: self._callback.on_fit_begin(state))

    def on_epoch_begin(self, state: TrainState) -> None:
        """Pass on."""
        on_first(lambda: self._callback.on_epoch_begin(state))

    def on_epoch_end(self, state: TrainState, finished: Callable[[], Trained]) -> bool:
        """Pass on, and share the decision."""
        return on_first(lambda: self._callback.on_epoch_end(state, finished))

    def on_fit_end(self, state: TrainState) -> None:
        """Pass on in rank 0 only: after an error, other ranks may not take part in messages."""
        if rank() == 0:
            with alone():
                self._callback.on_fit_end(state)


class StableAssignment(Callback):
    """End the run when almost no sample changes its cluster from epoch to epoch.

    Parameters
    ----------
    labels : callable
        Returns the clusters of all samples, int64 (n,).
    tol : float
        Share of the samples that may change.
    n_iter_no_change : int
        Number of epochs in a row.
    start : float
        Share of the training from which on epochs count: before, the cluster heads are not trained
        and do not change.
    """

    def __init__(
        self, labels: Callable[[], Tensor], *, tol: float, n_iter_no_change: int, start: float
    ) -> None:
        self._labels = labels
        self._tol = tol
        self._n_iter_no_change = n_iter_no_change
        self._start = start
        self._last: Tensor | None = None

    def on_fit_begin(self, state: TrainState) -> None:
        """Assign the samples if the run goes on from a file."""
        if state.history and self._counts(state):
            self._last = self._labels()

    def on_epoch_end(self, state: TrainState, finished: Callable[[], Trained]) -> bool:
        """Assign the samples, and compare."""
        if not self._counts(state):
            return False
        labels, last = self._labels(), self._last
        self._last = labels
        if last is not None:
            changed = (labels != last).double().mean().item()
            state.n_stable = state.n_stable + 1 if changed <= self._tol else 0
        return state.n_stable >= self._n_iter_no_change

    def _counts(self, state: TrainState) -> bool:
        return (len(state.history) - 1) / state.max_epochs >= self._start
