"""What watches a training run."""

from typing import Protocol

from ._state import TrainState


class Callback(Protocol):
    """Hooks of the training loop."""

    def on_fit_begin(self, state: TrainState) -> None:
        """Run before the first epoch."""

    def on_epoch_end(self, state: TrainState) -> None:
        """Run after each epoch, when its record is the last of ``state.history``."""

    def on_fit_end(self, state: TrainState) -> None:
        """Run at the end, also after an error."""


class ProgressBar:
    """One tqdm bar, in terminal and notebook: loss terms, seconds per epoch, time left."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_fit_begin(self, state: TrainState) -> None:
        """Open the bar."""
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=state.max_epochs,
            desc=self._name,
            unit="epoch",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs "
            "[{elapsed}<{remaining}, {rate_inv_fmt}{postfix}]",
        )

    def on_epoch_end(self, state: TrainState) -> None:
        """Advance by one epoch and show its loss terms."""
        self._bar.set_postfix(state.history[-1].terms, refresh=False)
        self._bar.update()

    def on_fit_end(self, state: TrainState) -> None:
        """Close the bar."""
        self._bar.close()
