"""How many threads compute, so that results do not depend on it and others do not suffer from it.

Torch and BLAS cut sums by the number of their threads, and these spin while they wait: on a machine
that has other work, each wait lasts as long as the others compute. Small networks gain little by
them. So a small network computes in one thread, and what is parallel are pieces of work that are
always the same.
"""

import copy
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .locks import process_lock

T = TypeVar("T")
R = TypeVar("R")

_NAME = "deepcluster_sk"  # of threads


_available: ContextVar[int | None] = ContextVar("available threads", default=None)


def available_threads() -> int:
    """Return how many threads torch has here, or had before they were left out."""
    return _available.get() or torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone, for the length of a block."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    token = _available.set(before)
    try:
        _set_here(1, elsewhere=before)
        yield
    finally:
        torch.set_num_threads(before)
        _available.reset(token)


def _set_here(n_threads: int, *, elsewhere: int) -> None:
    """Set torch's number of threads for the calling thread.

    Torch also takes the last number that was set, in any thread, for threads that begin to compute
    later: that is set back, by a thread that ends at once.
    """
    torch.get_num_threads()  # or torch would set the number of a new thread later, at its first use
    torch.set_num_threads(n_threads)
    if threading.active_count() > 1:
        reset = threading.Thread(target=torch.set_num_threads, args=(elsewhere,), name=_NAME)
        reset.start()
        reset.join()


def prepare_worker(elsewhere: int) -> None:
    """Let everything in a new thread of ours compute in that thread alone.

    Parameters
    ----------
    elsewhere : int
        Number of threads that torch has in other threads.
    """
    _set_here(1, elsewhere=elsewhere)
    _libraries().limit(limits=1, user_api="openmp")


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries with threads of their own; looking for them takes milliseconds."""
    return ThreadpoolController()


@contextmanager
def libraries_in_one_thread() -> Iterator[None]:
    """Call scikit-learn, SciPy and NumPy with one thread each; ignore that k-means has not settled.

    BLAS has one number of threads, and Python one list of filters of warnings, for the whole
    process: a second thread of ours waits.
    """
    with process_lock, _libraries().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@contextmanager
def blas_in_one_thread() -> Iterator[None]:
    """Limit BLAS only, which threads of :func:`map_in_threads` cannot do for themselves."""
    with process_lock, _libraries().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def openmp_in_one_thread() -> Iterator[None]:
    """Limit OpenMP only, whose number belongs to the calling thread."""
    with _libraries().limit(limits=1, user_api="openmp"):
        yield


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of matrix products and convolutions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    operations: int

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=output)
        return output


def multiply_adds(network: nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Return how many products a network on the CPU computes for one sample, at least.

    Raises
    ------
    Exception
        If torch cannot count what the network does.
    """
    network = copy.deepcopy(network).eval()  # it may keep what it sees
    n_samples = 2  # some networks refuse a single one
    with torch.no_grad(), _Counting() as counting:
        network(torch.zeros(n_samples, *sample_shape))
    # a product in an operation that is not counted has a factor of its own
    n_parameters: int = sum(p.numel() for p in network.parameters())
    n_products: int = counting.operations // 2 // n_samples
    return max(n_products, n_parameters)


def map_in_threads(function: Callable[[T], R], items: Iterable[T], n_items: int) -> Iterator[R]:
    """Yield what a function makes of each item, in order; each call computes in one thread.

    Parameters
    ----------
    function : callable
        Calls run at the same time.
    items : iterable
        Read in the calling thread, and hardly further ahead than there are threads.
    n_items : int
        How many there are.
    """
    n_threads = min(available_threads(), n_items)
    if n_threads <= 1:
        with one_thread():
            yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    items = iter(items)
    with ThreadPoolExecutor(n_threads, _NAME, prepare_worker, (available_threads(),)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
