"""Bytes that the processes of a job exchange in a training step.

    python benchmarks/distributed.py
    python benchmarks/distributed.py --methods CC --encoders resnet50 --batch-size 1024

Fits random images in two processes under torchrun, and counts what is handed to torch's
collectives. This is no timing: the counts depend on the network and the batch alone, and not on the
size of the images, which are small here.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from machine import describe
from quality import OURS

from deepcluster_sk._runtime import batch_norm as _batch_norm
from deepcluster_sk._runtime import distributed as _distributed
from deepcluster_sk._training.epochs import Epochs

SAMPLES = {"cnn": (28, 28), "mlp": (64,)}
_COLORS = (16, 16, 3)  # for all other encoders
_STEPS = 2


class Traffic:
    """Counts bytes and messages by purpose, while it is patched into the package."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._purpose = "epoch"

    def patch(self) -> None:
        """Wrap collectives and what calls them."""
        dist.all_reduce = self._counted(dist.all_reduce, lambda x: x.nbytes)
        dist.broadcast = self._counted(dist.broadcast, lambda x, source: x.nbytes)
        dist.all_gather = self._counted(dist.all_gather, lambda out, x: x.nbytes * len(out))
        dist.broadcast_object_list = self._counted(
            dist.broadcast_object_list, lambda objects, src: len(pickle.dumps(objects))
        )
        gather = _distributed._Gather
        gather.forward = staticmethod(self._for("gather", gather.forward))
        gather.backward = staticmethod(self._for("gather gradient", gather.backward))
        _batch_norm.all_sum = self._for("batch norm", _batch_norm.all_sum)
        Epochs._take_steps = self._for("gradients", Epochs._take_steps)

    def _for(self, purpose: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            before = self._purpose
            # batch norm is also measured outside of steps
            self._purpose = purpose if before != "epoch" or purpose == "gradients" else "epoch"
            try:
                return function(*args)
            finally:
                self._purpose = before

        return call

    def _counted(self, send: Callable[..., Any], n_bytes: Callable[..., int]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.counts[f"{self._purpose} messages"] += 1
            done = send(*args, **options)
            self.counts[self._purpose] += n_bytes(*args, **options)
            return done

        return call


def job(settings: dict[str, Any]) -> None:
    """Fit in one of the processes; rank 0 prints its counts."""
    traffic = Traffic()
    traffic.patch()
    n = settings["batch_size"] * _STEPS
    shape = SAMPLES.get(settings["encoder"], _COLORS)
    X = np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)
    parameters = {name: settings[name] for name in ("encoder", "batch_size")}
    model = OURS[settings["method"]](
        n_clusters=10, max_epochs=1, random_state=0, device="cpu", **parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X)
    if dist.get_rank() == 0:
        Path(settings["output"]).write_text(json.dumps(traffic.counts), "utf-8")


def measure(method: str, encoder: str, batch_size: int) -> dict[str, int]:
    """Start a job of two processes; return its counts."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "counts.json")
        settings = {
            "method": method,
            "encoder": encoder,
            "batch_size": batch_size,
            "output": os.fspath(output),
        }
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [__file__, "--job", json.dumps(settings)]
        subprocess.run([sys.executable, *command], check=True)
        return json.loads(output.read_text("utf-8"))


def main() -> None:
    """Measure all methods with all encoders and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=[*OURS])
    parser.add_argument("--encoders", nargs="+", default=["cnn", "resnet18", "resnet50"])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        job(args.job)
        return
    print(describe() + f"; batches of {args.batch_size}\n")
    parts = ("gradients", "batch norm", "gather", "gather gradient")
    print(f"| method | encoder | {' | '.join(parts)} | messages | outside of steps |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for encoder in args.encoders:
        for method in args.methods:
            counts = measure(method, encoder, args.batch_size)
            row = [f"{counts.get(part, 0) / _STEPS / 1e3:,.0f} kB" for part in parts]
            messages = sum(counts.get(f"{part} messages", 0) for part in parts) // _STEPS
            row += [str(messages), f"{counts['epoch'] / 1e6:,.1f} MB"]
            print(f"| {method} | {encoder} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
