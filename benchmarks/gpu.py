"""Speed on a GPU: the training step against the bare network, where the time goes, and inference.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --methods TCC DRC CueCo --parts step
    python benchmarks/gpu.py --device cpu --small             # tries the script out

==========  ======================================================================================
part        measures
==========  ======================================================================================
step        our training step (resident uint8 data, two augmented views, loss, optimiser) against
            the bare forward, backward and optimiser of the same encoder and heads on ready tensors,
            both eager or both compiled; peak memory of ours
profile     the share of each piece of a step in the time of the device, the kernels that take most,
            and how long the device waits
predict     ``predict`` against the bare encoder in evaluation mode, in exact float32 as ``predict``
            computes, and as torch's switches stand
papers      our training against a loop of the kind that the papers' scripts run: PIL transforms in
            a DataLoader, float32
graphs      the bare compiled network against the same as CUDA graphs
==========  ======================================================================================

A measurement that does not fit into the time left is named and left out. Results are written after
each of them: a table to ``gpu.md`` and the numbers to ``gpu.json``. Views are counted, two for each
image.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import describe
from quality import OURS
from speed import (
    Case,
    PapersLoop,
    Training,
    imagenet_stem,
    network_outputs,
    random_images,
    ratios,
    synchronize,
)
from torch.profiler import ProfilerActivity, profile, record_function

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._runtime.device import inference_switches
from deepcluster_sk.augmentations import images
from deepcluster_sk.encoders import make_encoder

Row = dict[str, Any]

RESNET_18 = Case("ResNet-18, 32x32 colour", "resnet18", (32, 32, 3), 512, 20)
SMALL_CNN = Case("small CNN, 28x28 grey", "cnn", (28, 28), 1024, 40)
CASES = [
    RESNET_18,
    SMALL_CNN,
    Case("ResNet-34, 32x32 colour", "resnet34", (32, 32, 3), 512, 12),
    Case("ResNet-18, 96x96 colour", "resnet18", (96, 96, 3), 256, 8),
    Case("ResNet-34, 96x96 colour", "resnet34", (96, 96, 3), 256, 5),
]
SMALL_CASES = [
    Case("small CNN, 12x12 colour", "cnn", (12, 12, 3), 16, 2),
    Case("small CNN, 8x8 grey", "cnn", (8, 8), 16, 2),
]
PARTS = ["step", "profile", "predict", "papers", "graphs"]
COLUMNS = ["what", "case", "against", "ours", "reference", "unit", "ratio", "peak GiB"]


def step(case: Case, method: str, *, compile: bool, device: torch.device, rounds: int) -> list[Row]:
    """Compare our step with the bare network."""
    training = Training(case, method, device=device, compile=compile)
    training.epoch()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training.epoch()
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    ours, bare, ratio = ratios(training.epoch, training.bare, rounds)
    views = 2 * case.batch_size * case.steps
    how = f"{training.config.precision}, {'compiled' if compile else 'eager'}"
    return [
        {
            "what": f"training step, {method}, {how}",
            "case": case.name,
            "against": "bare network",
            "ours": views / ours,
            "reference": views / bare,
            "unit": "views/s",
            "ratio": ratio,
            "peak GiB": peak,
        }
    ]


def breakdown(case: Case, method: str, *, compile: bool, device: torch.device) -> list[Row]:
    """Profile an epoch by pieces and by operations."""
    training = Training(case, method, device=device, compile=compile)
    epochs = training.epochs
    pieces = {
        "scaling": (epochs, "preprocess"),
        "augmentation": (epochs, "_transform"),
        "forward pass and loss": (epochs.steps, "loss"),
        "momentum and queues": (training.objective, "after_step"),
    }
    for name, (owner, attribute) in pieces.items():
        setattr(owner, attribute, ranged(name, getattr(owner, attribute)))
    training.epoch(), training.epoch()  # compile, and tune
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        training.epoch()
        seconds = time.perf_counter() - start
    whole, own = ("device", "self_device") if on_gpu else ("cpu", "self_cpu")
    # rows of kernels repeat those of the operations that launched them
    events = [event for event in profiler.key_averages() if event.device_type.name == "CPU"]
    spent = {event.key: getattr(event, f"{own}_time_total") for event in events}
    total = sum(spent.values())
    shares = {
        event.key: getattr(event, f"{whole}_time_total") / total
        for event in events
        if event.key in pieces or event.key.startswith("Optimizer.step")
    }
    spent = {name: time for name, time in spent.items() if name not in shares}
    # what autograd launches from a thread of its own
    shares["backward pass and the rest"] = 1 - sum(shares.values())
    how = f"{method}, {training.config.precision}, {'compiled' if compile else 'eager'}"
    share = {"case": f"{case.name}, {how}", "unit": "share of the device's time"}
    rows = [{"what": name, "ours": part, **share} for name, part in shares.items()]
    for name in sorted(spent, key=spent.__getitem__, reverse=True)[:10]:
        rows.append({"what": f"`{name[:60]}`", "ours": spent[name] / total, **share})
    if on_gpu:
        busy = total * 1e-6 / seconds
        rows.append({**share, "what": "device at work", "ours": busy, "unit": "share of the time"})
    return rows


def ranged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that appears under a name in the profile."""

    def run(*args: Any) -> Any:
        with record_function(name):
            return function(*args)

    return run


def predict(case: Case, *, n: int, device: torch.device, rounds: int) -> list[Row]:
    """Compare ``predict`` with the bare encoder on ready float32 batches of the same size."""
    X = random_images(n, case.shape)
    model = ContrastiveClustering(
        2,
        encoder=case.encoder,
        max_epochs=1,
        batch_size=64,
        n_heads=1,
        n_neighbors=0,
        device=device,
        random_state=0,
    ).fit(X[:64])
    ready = model._preprocessor(torch.from_numpy(X.reshape(n, -1))).contiguous()
    batches = [batch.to(device) for batch in ready.split(1024)]
    encoder = model.encoder_.to(device)

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                encoder(batch)
        synchronize(device)

    def exact() -> None:
        with inference_switches(device):
            bare()

    rows = []
    for reference, against in ((exact, "exact float32"), (bare, "torch's switches as they stand")):
        seconds, other, ratio = ratios(partial(model.predict, X), reference, rounds)
        rows.append(
            {
                "what": "`predict`",
                "case": case.name,
                "against": f"bare encoder, {against}",
                "ours": n / seconds,
                "reference": n / other,
                "unit": "images/s",
                "ratio": ratio,
            }
        )
    return rows


def papers(case: Case, *, compile: bool, device: torch.device, rounds: int) -> list[Row]:
    """Compare whole epochs of CC with the papers' own settings of the heads."""
    torch.manual_seed(0)
    encoder, feature_dim = make_encoder(imagenet_stem, (3, *case.shape[:2]))
    heads = {"n_heads": 1, "augmentation": images(), "n_neighbors": 0, "cluster_start": 0.0}
    heads |= {"hidden_dim": feature_dim}
    ours = Training(
        case._replace(encoder=imagenet_stem), "CC", device=device, compile=compile, **heads
    )
    X = random_images(case.batch_size * case.steps, case.shape)
    theirs = PapersLoop(encoder, feature_dim, X, case.batch_size, device)
    seconds, reference, ratio = ratios(ours.epoch, theirs.epoch, rounds)
    return [
        {
            "what": f"training of CC, {ours.config.precision}",
            "case": f"ResNet-18 (ImageNet stem), {case.name.split(', ')[1]}",
            "against": "papers' loop, float32",
            "ours": 2 * len(X) / seconds,
            "reference": 2 * len(X) / reference,
            "unit": "views/s",
            "ratio": ratio,
        }
    ]


def graphs(case: Case, *, device: torch.device, rounds: int) -> list[Row]:
    """Tell what CUDA graphs would bring: the bare network with and without them."""
    training = Training(case, "CC", device=device, compile=True)
    plain = partial(Training.bare, training)
    captured = Training(case, "CC", device=device, compile=True)
    captured.network_outputs = torch.compile(
        network_outputs, fullgraph=True, dynamic=False, mode="reduce-overhead"
    )
    seconds, reference, ratio = ratios(captured.bare, plain, rounds)
    views = 2 * case.batch_size * case.steps
    return [
        {
            "what": "bare network as CUDA graphs",
            "case": case.name,
            "against": "bare network, compiled",
            "ours": views / seconds,
            "reference": views / reference,
            "unit": "views/s",
            "ratio": ratio,
        }
    ]


def measurements(args: argparse.Namespace) -> list[tuple[str, Callable[[], list[Row]]]]:
    """Return all that is asked for by name, what tells most first."""
    device, rounds = torch.device(args.device), args.rounds
    cases = SMALL_CASES if args.small else CASES
    modes = [False] if args.no_compile else [True, False]
    chosen: list[tuple[str, Callable[[], list[Row]]]] = []
    first, second = cases[:2]
    if "step" in args.parts:
        chosen += [
            (
                f"step {method} {case.name}",
                partial(step, case, method, compile=mode, device=device, rounds=rounds),
            )
            for case in (first, second)
            for method in args.methods
            for mode in modes
        ]
    if "profile" in args.parts:
        chosen += [
            (
                f"profile {case.name}",
                partial(breakdown, case, "CC", compile=modes[0], device=device),
            )
            for case in (first, second)
        ]
    if "predict" in args.parts:
        n = 64 if args.small else 20_480
        chosen += [
            (f"predict {case.name}", partial(predict, case, n=n, device=device, rounds=rounds))
            for case in (first, second)
        ]
    if "papers" in args.parts:
        case = first._replace(batch_size=16 if args.small else 256, steps=2)
        chosen.append(
            ("papers", partial(papers, case, compile=modes[0], device=device, rounds=3)),
        )
    if "step" in args.parts:
        chosen += [
            (
                f"step {method} {case.name}",
                partial(step, case, method, compile=mode, device=device, rounds=rounds),
            )
            for case in cases[2:]
            for method in args.methods
            for mode in modes
        ]
    if "graphs" in args.parts and modes[0] and device.type == "cuda":
        chosen += [
            (f"graphs {case.name}", partial(graphs, case, device=device, rounds=rounds))
            for case in (second, first)
        ]
    return chosen


def cell(value: Any) -> str:
    """One cell of the table."""
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def write(folder: Path, header: str, rows: list[Row]) -> None:
    """Write table and numbers as far as they go."""
    lines = [header, "", "| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(cell(row.get(name)) for name in COLUMNS) + " |" for row in rows]
    (folder / "gpu.md").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "gpu.json").write_text(
        json.dumps({"machine": header, "rows": rows}, indent=1), "utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--methods", nargs="+", default=["CC"], choices=[*OURS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="tiny networks, to try this out")
    parser.add_argument("--no-compile", action="store_true", help="only the eager rows")
    parser.add_argument(
        "--budget",
        type=float,
        default=540,
        help="start no measurement after so many seconds (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of the results")
    args = parser.parse_args()
    start = time.monotonic()

    header = describe()
    if torch.device(args.device).type == "cuda":
        header = f"{torch.cuda.get_device_name(args.device)}, {header}"
    print(header, flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name, measure in measurements(args):
        if time.monotonic() - start > args.budget:
            rows.append({"what": name, "case": "left out: no time"})
        else:
            rows += measure()
            torch.compiler.reset()  # it compiles one function for few networks only
            gc.collect()
        write(args.output, header, rows)
        print(f"{time.monotonic() - start:.0f} s: {name}", flush=True)
    print((args.output / "gpu.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
