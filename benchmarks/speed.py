"""Speed as ratios: every row compares two ways to do the same work, interleaved in one run.

    python benchmarks/speed.py                       # all parts, CPU
    python benchmarks/speed.py --parts step predict --methods CC --rounds 7

==========  ======================================================================================
part        compares
==========  ======================================================================================
step        our training step (data, two augmented views, loss, optimiser) with the bare forward,
            backward and optimiser of the same encoder and heads on ready tensors
papers      our training of CC with a loop of the kind that the papers' scripts run: two views per
            image by torchvision's transforms on PIL images in a DataLoader, two forward passes,
            float32, Adam
augment     our augmentation with kornia's, and with torchvision's v2 and PIL transforms per image
predict     ``predict`` and ``transform`` with the bare encoder in evaluation mode; the latency of
            one image
==========  ======================================================================================

Each way runs once to warm up, then the rounds alternate between them; the table shows the median of
the ratios of neighbouring rounds, so that a slow minute of the machine hits both alike.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import describe
from PIL import Image
from quality import OURS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._estimator.fitting import (
    build_networks,
    make_plan,
    open_data,
    read,
    threads_of,
    with_threads,
)
from deepcluster_sk._runtime.device import autocast, training_switches
from deepcluster_sk._runtime.random import Seeds
from deepcluster_sk._training.epochs import Epochs
from deepcluster_sk.augmentations import images
from deepcluster_sk.encoders import make_encoder, resnet
from deepcluster_sk.losses import negative_entropy
from deepcluster_sk.methods.contrastive_clustering import cluster_loss, instance_loss

CPU = torch.device("cpu")
Work = Callable[[], Any]


class Case(NamedTuple):
    """A network on images of a size."""

    name: str
    encoder: str
    shape: tuple[int, ...]
    batch_size: int
    steps: int
    """Steps per round: about a second of work."""


CASES = [
    Case("small CNN, 28x28 grey", "cnn", (28, 28), 256, 8),
    Case("ResNet-18, 32x32 colour", "resnet18", (32, 32, 3), 64, 1),
]


def random_images(n: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def ratios(ours: Work, reference: Work, rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of reference / ours over neighbouring rounds."""
    ours(), reference()  # warm up
    seconds = np.array([[timed(ours), timed(reference)] for _ in range(rounds)])
    return (*np.median(seconds, axis=0), float(np.median(seconds[:, 1] / seconds[:, 0])))


def timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Training:
    """The pieces of a fit, set up to run single epochs, or the network alone."""

    def __init__(
        self, case: Case, method: str, *, device: torch.device = CPU, **settings: Any
    ) -> None:
        X = random_images(case.batch_size * case.steps, case.shape)
        est = OURS[method](n_clusters=10, encoder=case.encoder, batch_size=case.batch_size)
        est.set_params(max_epochs=10_000, device=device, **settings)
        seeds = Seeds(0)
        plan = make_plan(est, read(est, X, goes_on=False), lambda: seeds, goes_on=False)
        self.objective, feature_dim = build_networks(plan)
        data = open_data(plan, self.objective, feature_dim, first=True).training
        for name, buffer in self.objective.named_buffers():
            if name.endswith("started"):
                buffer.fill_(1)  # all parts of the loss at work
        self._plan = plan = with_threads(plan, self.objective)
        self.device, self.config = plan.device, plan.config
        self.epochs = Epochs(plan.config, seeds, plan.device, self.objective, data)
        self.objective.train()
        self.network_outputs = network_outputs
        if est.compile:
            self.network_outputs = torch.compile(network_outputs, fullgraph=True, dynamic=False)
        self._n_bare_steps = case.steps
        stored = torch.from_numpy(X[: case.batch_size].reshape(case.batch_size, -1)).to(device)
        self._views = [
            data.augment(data.preprocess(stored), seeds.generator("augment", view, device=device))
            for view in range(2)
        ]

    def epoch(self) -> None:
        """Run one epoch as a fit does."""
        with threads_of(self._plan):
            self.epochs.run(0, progress=0.0)

    def bare(self) -> None:
        """Run the network as often on ready views: forward, backward, optimiser."""
        with training_switches(self.device, self.config.precision):
            for _ in range(self._n_bare_steps):
                with autocast(self.device, self.config.precision):
                    outputs = self.network_outputs(self.objective, *self._views)
                self.epochs.steps.descend(sum(output.float().mean() for output in outputs))
        synchronize(self.device)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def network_outputs(objective: Any, a: Tensor, b: Tensor) -> list[Tensor]:
    """Pass two views through the encoder and all heads of a method, without its loss."""
    match type(objective).__name__:
        case "ContrastiveObjective":
            features = objective.encoder(torch.cat([a, b]))
            return [objective.instance_head(features), objective.cluster_heads(features)]
        case "DeepRobustObjective":
            features = objective.encoder(torch.cat([a, b]))
            return [objective.cluster_heads(features), objective.fine_head(features)]
        case "InformationMaximizationObjective":
            features = objective.encoder(torch.cat([a, b]))
            return [objective.projector(features), objective.cluster_heads(features.detach())]
        case "ConsensusObjective":
            features = objective.encoder(torch.cat([a, b]))
            return [objective.instance_head(features), objective.projector(features)]
        case _:  # a query and a key network
            objective.key_projector(objective.key_encoder(b))
            return [objective.projector(objective.encoder(a))]


def step_rows(methods: list[str], rounds: int) -> list[str]:
    rows = []
    for case in CASES:
        for method in methods:
            training = Training(case, method)
            ours, bare, ratio = ratios(training.epoch, training.bare, rounds)
            n, precision = case.batch_size * case.steps, training.config.precision
            rows.append(
                f"| training step | {method}, {case.name} | bare network, {precision} "
                f"| {n / ours:,.0f} against {n / bare:,.0f} images/s | {ratio:.2f} |"
            )
    return rows


class PilViews(Dataset[tuple[Tensor, Tensor]]):
    """Two views of every image by transforms on PIL images, one image at a time."""

    def __init__(self, X: np.ndarray, size: int) -> None:
        self.images = [Image.fromarray(x).convert("RGB") for x in X]
        self.transform = pil_recipe(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images[row]), self.transform(self.images[row])


def pil_recipe(size: int) -> Callable[[Image.Image], Tensor]:
    """Return the papers' recipe for CIFAR as torchvision transforms."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


class PapersLoop:
    """Contrastive clustering as scripts write it: nothing is batched but the network."""

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        X: np.ndarray,
        batch: int,
        device: torch.device = CPU,
    ) -> None:
        self.loader = DataLoader(
            PilViews(X, X.shape[1]),
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=os.cpu_count() or 1,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self.device = device
        # torch's usual memory format, as in scripts that say nothing about it
        self.encoder = encoder.train().to(device, memory_format=torch.contiguous_format)
        self.instance = self.head(feature_dim, 128).to(device)
        self.cluster = self.head(feature_dim, 10).to(device)
        parameters = [*encoder.parameters(), *self.instance.parameters()]
        self.optimizer = torch.optim.Adam([*parameters, *self.cluster.parameters()], lr=3e-4)

    @staticmethod
    def head(feature_dim: int, out: int) -> nn.Sequential:
        """Return a head of the paper: a hidden layer as wide as the features."""
        return nn.Sequential(
            nn.Linear(feature_dim, feature_dim), nn.ReLU(), nn.Linear(feature_dim, out)
        )

    def epoch(self) -> None:
        """Run one epoch."""
        for views in self.loader:
            features = [self.encoder(view.to(self.device)) for view in views]  # one pass per view
            z_a, z_b = (nn.functional.normalize(self.instance(f), dim=1) for f in features)
            c_a, c_b = (self.cluster(f).softmax(dim=1) for f in features)
            loss = instance_loss(z_a, z_b) + cluster_loss(c_a, c_b)
            loss = loss + negative_entropy(c_a) + negative_entropy(c_b)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()  # the scripts print it


def papers_rows(rounds: int) -> list[str]:
    """Compare whole epochs of CC with the papers' own settings of the heads."""
    heads = {"n_heads": 1, "augmentation": images(), "n_neighbors": 0, "cluster_start": 0.0}
    cases = [
        Case("ResNet-18 (ImageNet stem), 32x32", "imagenet-stem", (32, 32, 3), 256, 2),
        Case("small CNN, 32x32", "cnn", (32, 32, 3), 256, 8),
    ]
    rows = []
    for case in cases:
        for precision in ("float32", "auto"):
            spec = imagenet_stem if case.encoder == "imagenet-stem" else case.encoder
            torch.manual_seed(0)
            encoder, feature_dim = make_encoder(spec, (3, 32, 32))
            ours = Training(
                case._replace(encoder=spec),
                "CC",
                hidden_dim=feature_dim,
                precision=precision,
                **heads,
            )
            X = random_images(case.batch_size * case.steps, case.shape)
            theirs = PapersLoop(encoder, feature_dim, X, case.batch_size)
            seconds, reference, ratio = ratios(ours.epoch, theirs.epoch, rounds)
            n = len(X)
            resolved = ours.config.precision
            rows.append(
                f"| training of CC, precision={precision!r} ({resolved}) | {case.name} | papers' "
                f"loop, float32 | {n / seconds:,.0f} against {n / reference:,.0f} images/s "
                f"| {ratio:.2f} |"
            )
            del theirs  # and its workers
    return rows


def imagenet_stem() -> nn.Module:
    return resnet("resnet18", 3, small_stem=False)


def augment_rows(rounds: int) -> list[str]:
    """Compare one view of a batch by the papers' recipe for CIFAR."""
    n = 1024
    X = random_images(n, (32, 32, 3))
    batch = torch.from_numpy(X).permute(0, 3, 1, 2).float() / 255
    ours, generator = images(), torch.Generator().manual_seed(0)
    pil = [Image.fromarray(x) for x in X]
    recipe = pil_recipe(32)
    tensors = list(torch.from_numpy(X).permute(0, 3, 1, 2))
    references: dict[str, Work] = {
        "PIL, image by image": lambda: [recipe(image) for image in pil],
        "torchvision v2 on tensors, image by image": lambda: [
            tensor_recipe(image) for image in tensors
        ],
    }
    try:
        import kornia.augmentation as K
    except ImportError:
        print("kornia is not installed: its row is left out (pip install kornia)")
    else:
        steps = nn.Sequential(
            K.RandomResizedCrop((32, 32), scale=(0.08, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
        )
        references["kornia, batched"] = lambda: steps(batch)
    tensor_recipe = v2.Compose(
        [
            v2.RandomResizedCrop(32, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    rows = []
    with torch.no_grad():
        for name, reference in references.items():
            seconds, other, ratio = ratios(lambda: ours(batch, generator), reference, rounds)
            rows.append(
                f"| augmentation, papers' recipe | 32x32 colour | {name} "
                f"| {n / seconds:,.0f} against {n / other:,.0f} images/s | {ratio:.1f} |"
            )
    return rows


def predict_rows(rounds: int) -> list[str]:
    """Compare inference with the bare encoder on ready float32 batches of the same size."""
    return [row for case in CASES for row in predict_rows_of(case, rounds)]


def predict_rows_of(case: Case, rounds: int) -> list[str]:
    X = random_images(4096 if case.encoder == "cnn" else 512, case.shape)
    est = ContrastiveClustering(
        10, encoder=case.encoder, max_epochs=1, n_heads=1, n_neighbors=0, random_state=0
    ).fit(X[:256])
    ready = est._preprocessor(torch.from_numpy(X.reshape(len(X), -1))).contiguous().split(1024)

    def bare() -> None:
        with torch.inference_mode():
            for batch in ready:
                est.encoder_(batch)

    rows = []
    for function in (est.predict, est.transform):
        seconds, reference, ratio = ratios(partial(function, X), bare, rounds)
        rows.append(
            f"| `{function.__name__}` | {case.name} | bare encoder | {len(X) / seconds:,.0f} "
            f"against {len(X) / reference:,.0f} images/s | {ratio:.2f} |"
        )
    one = np.median([timed(lambda: est.predict(X[:1])) for _ in range(50)])
    return [*rows, f"| `predict` of one image | {case.name} | | {1e3 * one:.1f} ms | |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = ["step", "papers", "augment", "predict"]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--methods", nargs="+", default=[*OURS], choices=[*OURS])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()

    print(describe() + "\n")
    print("| what | case | against | speeds | ratio |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    measurements = {
        "step": lambda: step_rows(args.methods, args.rounds),
        "papers": lambda: papers_rows(args.rounds),
        "augment": lambda: augment_rows(args.rounds),
        "predict": lambda: predict_rows(args.rounds),
    }
    for part in args.parts:
        print("\n".join(measurements[part]()), flush=True)


if __name__ == "__main__":
    main()
