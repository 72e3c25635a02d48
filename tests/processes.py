"""Functions that run in several processes at once, which exchange tensors."""

import multiprocessing
import os
import pickle
import signal
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from estimators import few_search_steps

from deepcluster_sk.methods import METHODS

needs_sigkill = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="Windows has no signal that kills a process"
)

# the server imports once what every process needs; the first fit of a process imports the last ones
PRELOADED = [
    *("pytest", "sklearn.datasets", "sklearn.model_selection", "deepcluster_sk._loading"),
    *("deepcluster_sk.display", "deepcluster_sk.inspection", "deepcluster_sk.model_selection"),
    *(method.load_class().__module__ for method in METHODS.values()),
    *("torch._dynamo", "sklearn.cluster", "sklearn.linear_model", "sklearn.manifold"),
]


def process_context():
    """How tests start processes: never by a plain fork, which torch's threads do not survive."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")  # Windows
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_ranks(function, *args, n=2, timeout=120, searches=few_search_steps):
    """Call ``function(rank, *args)`` in n processes of one group, with short searches.

    Returns what they return; in its place an exception that one raised, or the exit code of one
    that was killed.
    """
    context = process_context()
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_work, args=(folder, rank, n, searches, function, args))
            for rank in range(n)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout)
        hanging = [rank for rank, worker in enumerate(workers) if worker.is_alive()]
        for worker in workers:
            worker.kill()
            worker.join()
        assert not hanging, f"ranks {hanging} hang"
        return [_outcome(Path(folder, str(rank)), w) for rank, w in enumerate(workers)]


def values(outcomes):
    """The outcomes; raises the first exception among them."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def _outcome(path, worker):
    return pickle.loads(path.read_bytes()) if path.exists() else worker.exitcode


def _work(folder, rank, n, searches, function, args):
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = dist.FileStore(os.path.join(folder, "store"), n)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=n)
    try:
        with searches():
            outcome = function(rank, *args)
    except Exception as error:
        outcome = error
    Path(folder, f"{rank}.part").write_bytes(pickle.dumps(outcome))
    Path(folder, f"{rank}.part").rename(Path(folder, str(rank)))
