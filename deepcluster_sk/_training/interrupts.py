"""Ctrl-C during a fit: what it cuts, and when it waits."""

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from .._runtime.distributed import of_all, world_size
from .._runtime.warnings import warn_user
from .objective import Objective
from .state import TrainState


class Interrupts:
    """The interrupts of one fit, and the state that they go back to.

    Ctrl-C in an epoch ends the training in the state of the last finished one. Among several
    processes, it waits for the next point that all of them reach. After the last epoch, it waits
    for the end of the fit.

    Attributes
    ----------
    cut : bool
        Whether epochs were cut.
    n_epochs : int
        Number of epochs in the state that an interrupt goes back to.
    n_planned : int
        Number of epochs that the training would have had, once some are cut.
    tensors : dict of str to Tensor
        The state dict of the objective after these epochs.
    """

    def __init__(self) -> None:
        self.cut = False
        self.n_epochs = self.n_planned = 0
        self.tensors: dict[str, Tensor] = {}
        self._asked = False

    def take(self, objective: Objective, state: TrainState) -> None:
        """Keep a copy of the state after an epoch."""
        self.tensors = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
        self.n_epochs = len(state.history)

    def go_back(self, objective: Objective, state: TrainState) -> None:
        """Restore the state after the last finished epoch."""
        objective.load_state_dict(self.tensors)
        del state.history[self.n_epochs :]
        self.n_planned = state.max_epochs
        self.cut = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Among several processes, let Ctrl-C wait for :meth:`check`, for the length of a block."""
        if world_size() == 1 or not _can_be_handled():
            yield
            return
        with _handler(self._note):
            yield

    def check(self) -> None:
        """End the epochs if one of the processes was interrupted; all of them call it together."""
        if self.came():
            raise KeyboardInterrupt

    def came(self) -> bool:
        """Tell whether an interrupt waits in one of the processes; all of them call it together."""
        return any(of_all(self._asked))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the first Ctrl-C wait for the end of a block after the last epoch; warn of it then.

        The second one interrupts at once. Custom SIGINT handlers are left in
        place. Outside the main thread, where no handler can be set, nothing changes.

        Warns
        -----
        UserWarning
            If Ctrl-C came too late to cut epochs: the user may have meant to stop the script.
        """
        before = signal.getsignal(signal.SIGINT)
        pythons = callable(before) and inspect.unwrap(before) is signal.default_int_handler
        if not (_can_be_handled() and pythons):
            yield
            return
        seen: list[int] = []

        def note(number: int, frame: object) -> None:
            seen.append(number)
            signal.signal(signal.SIGINT, before)

        with _handler(note):
            yield
        if seen and not self.cut:
            self.warn_of_late_one()

    @staticmethod
    def warn_of_late_one() -> None:
        """Tell the user that Ctrl-C has cut nothing."""
        warn_user(
            "Ctrl-C came after the last epoch: the fit is complete, and the script goes on. Press "
            "it again to stop the script; while a fit ends, twice.",
            UserWarning,
        )

    def _note(self, number: int, frame: object) -> None:
        self._asked = True


def _can_be_handled() -> bool:
    """Tell whether this thread may set a handler, and restore the one that there is.

    Only the main thread may set one, and None stands for one that was not set by Python.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and signal.getsignal(signal.SIGINT) is not None


@contextmanager
def _handler(function: Callable[[int, Any], None]) -> Iterator[None]:
    """Let a function handle Ctrl-C for the length of a block."""
    before = signal.signal(signal.SIGINT, function)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
