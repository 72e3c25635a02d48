"""Randomness that is addressed, not consumed.

One integer and a path such as ``("augment", epoch)`` name a generator. An epoch can be replayed
alone, and a new random step in one stream never shifts the draws of another.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.random import RandomState, SeedSequence
from sklearn.utils import check_random_state

from .device import fork_torch

Stream = Literal["init", "order", "augment", "noise", "global"]
_STREAMS: tuple[Stream, ...] = ("init", "order", "augment", "noise", "global")


def draw_entropy(random_state: int | RandomState | None) -> int:
    """Turn any accepted ``random_state`` into one integer.

    ``None`` takes entropy from the operating system and not from numpy's global state, which
    stays untouched.
    """
    if random_state is None:
        return int(SeedSequence().generate_state(1)[0])
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


class Seeds:
    """All random generators of one fit, by address.

    Parameters
    ----------
    entropy : int
        The one integer that everything follows from.
    """

    def __init__(self, entropy: int) -> None:
        self.entropy = entropy

    def seed(self, stream: Stream, *path: int) -> int:
        """Return the 63-bit seed at an address."""
        key = (_STREAMS.index(stream), *path)
        word = SeedSequence(self.entropy, spawn_key=key).generate_state(1, np.uint64)[0]
        return int(word >> np.uint64(1))

    def generator(
        self, stream: Stream, *path: int, device: torch.device | str = "cpu"
    ) -> torch.Generator:
        """Return a new torch generator on `device`, seeded by its address."""
        return torch.Generator(device=device).manual_seed(self.seed(stream, *path))

    @contextmanager
    def fork_global(
        self, stream: Stream, *path: int, device: torch.device | str = "cpu"
    ) -> Iterator[None]:
        """Seed the global states of torch, numpy and `random` by address, and restore them.

        For code that takes no generator: module constructors, dropout, foreign augmentations.
        """
        seed = self.seed(stream, *path)
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        with fork_torch(torch.device(device), seed):
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state is the point
            random.seed(seed)
            try:
                yield
            finally:
                np.random.set_state(numpy_state)  # noqa: NPY002
                random.setstate(python_state)
