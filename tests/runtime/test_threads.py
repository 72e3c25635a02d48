"""Numbers of threads are set for a block and a thread, and work is shared out in fixed pieces."""

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info
from torch import nn

from deepcluster_sk._runtime.locks import process_lock
from deepcluster_sk._runtime.threads import (
    available_threads,
    blas_in_one_thread,
    libraries_in_one_thread,
    map_in_threads,
    multiply_adds,
    one_thread,
    openmp_in_one_thread,
)


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def another_thread():
    """A Python thread that lives beside the test."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield
    stop.set()
    thread.join()


def in_a_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_one_thread_holds_for_a_block():
    with one_thread():
        assert torch.get_num_threads() == 1
        assert available_threads() == 3
        with one_thread():
            assert available_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == available_threads() == 3


def test_one_thread_is_restored_after_an_error():
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 3


def test_threads_that_begin_meanwhile_keep_their_number(another_thread):
    with one_thread():
        assert in_a_new_thread(torch.get_num_threads) == 3
    assert in_a_new_thread(torch.get_num_threads) == 3


def test_a_map_keeps_the_order_and_computes_in_one_thread_each():
    def square(x):
        return x * x, torch.get_num_threads(), threading.current_thread()

    values, numbers, threads = zip(*map_in_threads(square, range(20), 20), strict=True)
    assert values == tuple(x * x for x in range(20))
    assert set(numbers) == {1}
    assert threading.current_thread() not in threads
    assert in_a_new_thread(torch.get_num_threads) == 3


@pytest.mark.parametrize(("n_threads", "n_items"), [(3, 1), (1, 5)])
def test_a_map_of_one_item_or_one_thread_starts_no_thread(n_threads, n_items):
    torch.set_num_threads(n_threads)
    found = map_in_threads(lambda _: threading.current_thread(), range(n_items), n_items)
    assert set(found) == {threading.current_thread()}


def test_a_map_reads_hardly_ahead_of_what_is_used():
    read = []

    def items():
        for item in range(100):
            read.append(item)
            yield item

    mapped = map_in_threads(lambda x: x, items(), 100)
    assert next(mapped) == 0
    assert len(read) <= 5
    n_threads = threading.active_count()
    mapped.close()
    assert threading.active_count() < n_threads


def test_a_map_raises_the_first_error_and_ends_its_threads():
    before = threading.active_count()

    def fail(x):
        if x == 4:
            raise ValueError("four")
        return x

    with pytest.raises(ValueError, match="four"):
        list(map_in_threads(fail, range(50), 50))
    assert threading.active_count() == before


def numbers(api):
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == api]


def test_libraries_are_limited_for_a_block():
    before, filters = threadpool_info(), list(warnings.filters)
    with libraries_in_one_thread():
        assert set(numbers("blas") + numbers("openmp")) == {1}
        warnings.warn("k-means has not settled", ConvergenceWarning, stacklevel=1)
    assert threadpool_info() == before
    assert warnings.filters == filters
    with blas_in_one_thread():
        assert set(numbers("blas")) == {1}
        assert numbers("openmp") == [p["num_threads"] for p in before if p["user_api"] == "openmp"]
    with openmp_in_one_thread():
        assert set(numbers("openmp")) == {1}
    assert threadpool_info() == before


def test_a_second_thread_waits_for_the_libraries():
    def try_to_enter():
        entered = process_lock.acquire(blocking=False)
        if entered:
            process_lock.release()
        return entered

    with libraries_in_one_thread():
        assert not in_a_new_thread(try_to_enter)
    assert in_a_new_thread(try_to_enter)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_lock_of_a_thread_that_it_has_not():
    held, release = threading.Event(), threading.Event()

    def hold():
        with process_lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        os._exit(0 if process_lock.acquire(blocking=False) else 1)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert status == 0


def test_products_are_counted_per_sample():
    assert multiply_adds(nn.Linear(20, 7), (20,)) == 7 * 20 + 7  # the parameters: one more each
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert multiply_adds(convolution, (3, 10, 12)) == 8 * 3 * 9 * 10 * 12


def test_parameters_bound_the_products_that_are_not_counted():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(50))

        def forward(self, x):
            return x * self.weight

    assert multiply_adds(Own(), (50,)) == 50


def test_counting_leaves_a_network_as_it_is():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    multiply_adds(network, (4,))
    assert network.training
    assert network[1].num_batches_tracked == 0
