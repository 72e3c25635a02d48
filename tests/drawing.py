"""A thread that draws random numbers beside what a test does."""

import random
import threading

import numpy as np
import torch


class Drawing(threading.Thread):
    """Draws from the three global generators for the length of a block."""

    def __init__(self):
        super().__init__()
        self._stopping = threading.Event()
        self._states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self._drawn = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self.join()

    @staticmethod
    def _draw():
        return float(torch.rand(1)), np.random.rand(), random.random()

    def run(self):
        while not self._stopping.is_set():
            self._drawn.append(self._draw())

    def has_drawn_what_it_draws_alone(self):
        torch.set_rng_state(self._states[0])
        np.random.set_state(self._states[1])
        random.setstate(self._states[2])
        return bool(self._drawn) and self._drawn == [self._draw() for _ in self._drawn]
