"""How much a network computes, and who computes it."""

import sys

from .._runtime.threads import multiply_adds
from .frozen import network_of
from .objective import Objective

# products per sample: a pass over a batch takes tens of milliseconds in one thread; those of a
# convolution take several times as long as those of matrices
_SMALL_FOR_ROWS, _SMALL_FOR_IMAGES = 2**21, 2**19


def is_small(objective: Objective, sample_shape: tuple[int, ...]) -> bool:
    """Tell whether one thread computes each operation of the encoder; on the CPU.

    A rule of the network alone: neither the machine nor the number of rows changes the bits.

    Parameters
    ----------
    objective : Objective
        On the CPU, at first. Its answer is kept.
    sample_shape : tuple of int
        What the encoder sees.
    """
    if objective.multiply_adds is None:
        try:
            objective.multiply_adds = multiply_adds(network_of(objective), sample_shape)
        except Exception:  # some operations cannot be counted: the network may be large
            objective.multiply_adds = sys.maxsize
    most = _SMALL_FOR_ROWS if len(sample_shape) == 1 else _SMALL_FOR_IMAGES
    return objective.multiply_adds <= most
