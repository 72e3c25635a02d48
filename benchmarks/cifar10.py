"""CIFAR-10 at the scale of the papers: one method, fitted in pieces that end in time.

    python benchmarks/cifar10.py CC --data-folder DATA --seconds 540  # again, until it is finished
    python benchmarks/cifar10.py CC --data-folder DATA --subset 500 --epochs 2  # tries this out
    python benchmarks/cifar10.py CC --data-folder DATA --subset 6000 --epochs 40 \
        --set encoder=cnn instance_temperature=0.2 crop_scale=0.2   # compares configurations

All 60,000 images are used for training and for evaluation, training and test part joined, as in the
papers. The images are JPEG copies at quality 75, and a little harder than the originals. The folder
holds ``cifar10_jpegs.npz``: ``bytes`` (all files end to end), ``offsets`` (n + 1), ``labels`` and
``split`` (0 train, 1 test).

A piece stops after the epoch in which ``--seconds`` are over, and the same command goes on from
there: the checkpoint holds everything, and the schedule knows nothing of the pieces. On the CPU the
result is that of one piece, bit for bit. NMI, ACC and ARI every few epochs are for the log alone;
the result is the last epoch, whatever the best one was.

``--set`` takes parameters of the estimator as JSON, or as text; ``crop_scale`` is the smallest
share of the area that a crop shows.

Written to the output folder, for each method: ``METHOD.json`` (configuration, machine, log,
history, result), ``METHOD.png`` (curves) and ``METHOD.ckpt``.
"""

import argparse
import io
import json
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from linear_evaluation import make_probe
from machine import describe
from PIL import Image
from quality import OURS, SCORES
from sklearn.exceptions import ConvergenceWarning

from deepcluster_sk._runtime.device import resolve_device
from deepcluster_sk._runtime.file_format import read_file
from deepcluster_sk.augmentations import images

FILE = "cifar10_jpegs.npz"
COPIES = "JPEG copies at quality 75, training and test part joined"

# ours, not the papers': 300 to 400 epochs in place of 1,000, at a batch size that fills a GPU
SHARED = {
    "encoder": "resnet18",  # with the stem for small images, at 32x32
    "batch_size": 512,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "optimizer": "adamw",
    "schedule": "cosine",
    "max_epochs": 300,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "CC": {**SHARED},
    "TCC": {**SHARED, "momentum": 0.99, "queue_size": 8192, "max_epochs": 400},
    "DRC": {**SHARED},
    "CueCo": {**SHARED, "momentum": 0.99, "queue_size": 16_384, "max_epochs": 400},
}


def load(folder: Path, subset: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (n, H, W, 3), classes (n,) and whether each one belongs to the test part."""
    if not (folder / FILE).exists():
        raise FileNotFoundError(f"{FILE} not found in --data-folder {folder}")
    with np.load(folder / FILE) as data:
        raw, offsets, labels, split = (data[k] for k in ("bytes", "offsets", "labels", "split"))
    # the file is sorted by class
    rows = np.random.default_rng(0).permutation(len(labels))[:subset]
    images = [decoded(raw[offsets[row] : offsets[row + 1]].tobytes()) for row in rows]
    return np.stack(images), labels[rows], split[rows] == 1


def decoded(file: bytes) -> np.ndarray:
    """Return the pixels of an image file (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


class Piece:
    """Watch a fit: log scores every few epochs, and end the piece when its time is over.

    Ctrl-C is what ends a fit in the state of its last finished epoch, with the checkpoint written.
    Scikit-learn makes an estimator for the callback only where its signature asks for one, which
    costs as much as an epoch; so the signature depends on the epoch.
    """

    def __init__(self, y: np.ndarray, *, done: int, every: int, end: float) -> None:
        self.log: list[dict[str, float]] = []
        self._y = y
        self._epoch, self._first = done, done
        self._every, self._end = every, end

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """End the piece before an epoch that comes too late, but the first one."""
        late = self._epoch > self._first and time.monotonic() > self._end
        if context.task_name == "epoch" and late:
            raise KeyboardInterrupt

    @property
    def on_fit_task_end(self) -> Any:
        """Return what follows the epoch."""
        due = (self._epoch + 1) % self._every == 0
        return self._evaluate if due else self._count

    def _count(self, estimator: Any, context: Any) -> None:
        self._epoch += context.task_name == "epoch"

    def _evaluate(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        self._count(estimator, context)
        if context.task_name == "epoch":
            scores = scores_of(self._y, fitted_estimator.labels_)
            self.log.append({"epoch": self._epoch, **scores})
            print(self.log[-1], flush=True)


def scores_of(y: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """NMI, ACC and ARI."""
    return {name: float(score(y, labels)) for name, score in SCORES.items()}


def parameters(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the estimator's parameters; a scale of crops is one of the augmentation."""
    rest = {name: value for name, value in settings.items() if name != "crop_scale"}
    if "crop_scale" in settings:
        rest["augmentation"] = images(scale=(settings["crop_scale"], 1.0))
    return rest


def setting(text: str) -> tuple[str, Any]:
    """Parse ``name=value``."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def linear_accuracy(model: Any, X: np.ndarray, y: np.ndarray, is_test: np.ndarray) -> float:
    """Test accuracy of logistic regression on the features; the encoder saw no class."""
    features = model.transform(X).astype(np.float64)
    probe = make_probe().fit(features[~is_test], y[~is_test])
    return float(probe.score(features[is_test], y[is_test]))


def progress(checkpoint: Path) -> tuple[int, float]:
    """Epochs and seconds of a checkpoint."""
    if not checkpoint.exists():
        return 0, 0.0
    header = read_file(checkpoint)[0]
    return len(header["history"]), header["seconds"]


def commit() -> str | None:
    """Return what of the project's history is measured."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw loss and scores over the epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, values in record["history"].items():
        left.plot(range(1, len(values) + 1), values, label=name)
    left.set(xlabel="epoch", ylabel="mean of the loss term", title=record["method"])
    epochs = [row["epoch"] for row in record["log"]]
    for name in SCORES:
        right.plot(epochs, [row[name] for row in record["log"]], ".-", label=name)
    right.set(xlabel="epoch", ylim=(0, 1), title=f"CIFAR-10, {record['n_images']:,} images")
    for axes in (left, right):
        axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fit one piece; return what is known so far."""
    start = time.monotonic()
    X, y, is_test = load(args.data_folder, args.subset)
    args.output.mkdir(parents=True, exist_ok=True)
    checkpoint, path = (args.output / f"{args.method}.{suffix}" for suffix in ("ckpt", "json"))
    settings = {**CONFIGURATIONS[args.method]}
    settings |= dict(args.set)
    if args.epochs:
        settings["max_epochs"] = args.epochs
    done, _ = progress(checkpoint)
    before = (
        json.loads(path.read_text("utf-8")) if done and path.exists() else {"log": [], "pieces": []}
    )
    piece = Piece(y, done=done, every=args.every, end=start + args.seconds)
    device = resolve_device(args.device)
    on_gpu = device.type == "cuda"
    model = OURS[args.method](
        n_clusters=len(np.unique(y)),
        **parameters(settings),
        compile=on_gpu,
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=60.0,
        random_state=args.seed,
    ).set_callbacks(piece)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training was interrupted", ConvergenceWarning)
        model.fit(X)
    epochs, seconds = progress(checkpoint)
    machine = f"{torch.cuda.get_device_name()}, {describe()}" if on_gpu else describe()
    record = {
        "method": args.method,
        "data": f"CIFAR-10, {COPIES}",
        "n_images": len(X),
        "seed": args.seed,
        "configuration": settings,
        "precision": model.precision_,
        "machine": machine,
        "commit": commit(),
        "epochs": epochs,
        "training_seconds": seconds,
        "views_per_second": 2 * len(X) * epochs / seconds,
        "pieces": [*before["pieces"], {"epochs": epochs - done}],
        "log": [*(row for row in before["log"] if row["epoch"] <= done), *piece.log],
        "history": model.history_,
        "result": None,
    }
    if epochs == settings["max_epochs"]:
        record["result"] = scores_of(y, model.labels_)
        if args.method == "CueCo":
            record["result"]["linear evaluation"] = linear_accuracy(model, X, y, is_test)
    record["pieces"][-1]["seconds"] = time.monotonic() - start
    path.write_text(json.dumps(record, indent=1), "utf-8")
    draw(record, path.with_suffix(".png"))
    return record


def summary(record: dict[str, Any]) -> str:
    """Say what a table quotes: the last epoch, or how far the fit has come."""
    pieces, planned = record["pieces"], record["configuration"]["max_epochs"]
    minutes = sum(piece["seconds"] for piece in pieces) / 60
    course = (
        f"{record['method']}: {record['epochs']} of {planned} epochs, "
        f"{record['views_per_second']:,.0f} views/s, {minutes:.1f} min in {len(pieces)} pieces "
        f"({record['data']})"
    )
    if record["result"] is None:
        return f"{course}. Unfinished: run the same command again."
    figures = ", ".join(f"{name} {value:.3f}" for name, value in record["result"].items())
    return f"{course}. Last epoch: {figures}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", choices=[*CONFIGURATIONS])
    parser.add_argument("--data-folder", type=Path, required=True)
    parser.add_argument(
        "--output", type=Path, default=Path("cifar10"), help="folder of the results"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="begin no epoch after so many seconds; the same command goes on",
    )
    parser.add_argument("--every", type=int, default=25, help="epochs between two lines of the log")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subset", type=int, help="take only so many images, to try this out")
    parser.add_argument("--epochs", type=int, help="in place of the configuration's")
    parser.add_argument(
        "--set",
        type=setting,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="further parameters, in place of the configuration's",
    )
    print(summary(run(parser.parse_args())))


if __name__ == "__main__":
    main()
