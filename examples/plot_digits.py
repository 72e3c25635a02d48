"""
Cluster handwritten digits
==========================

Contrastive clustering beside KMeans on the bundled digits images: a table of accuracy, NMI, ARI
and seconds, and two pictures. Run it with ``make demo``, or directly::

    python examples/plot_digits.py --output demo
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.metrics import clustering_accuracy_score


def main(output: Path) -> None:
    digits = load_digits()
    images = digits.images  # (1797, 8, 8)
    rows = digits.data  # the same, flattened: (1797, 64)

    contrastive = ContrastiveClustering(n_clusters=10, verbose=1, random_state=0)
    labels = {}
    print(f"{'':24}{'ACC':>6}{'NMI':>6}{'ARI':>6}{'seconds':>9}")
    for model, X in [
        (KMeans(n_clusters=10, n_init=10, random_state=0), rows),
        (contrastive, images),
    ]:
        start = time.perf_counter()
        name = type(model).__name__
        labels[name] = model.fit_predict(X)
        seconds = time.perf_counter() - start
        scores = [
            score(digits.target, labels[name])
            for score in (
                clustering_accuracy_score,
                normalized_mutual_info_score,
                adjusted_rand_score,
            )
        ]
        print(f"{name:24}" + "".join(f"{s:6.3f}" for s in scores) + f"{seconds:9.1f}")

    output.mkdir(parents=True, exist_ok=True)
    plot_clusters(images, contrastive).savefig(output / "clusters.png", dpi=120)
    plot_loss(contrastive).savefig(output / "loss.png", dpi=120)
    print(f"Pictures: {output / 'clusters.png'} and {output / 'loss.png'}")


def plot_clusters(
    images: np.ndarray, model: ContrastiveClustering, n_columns: int = 16
) -> plt.Figure:
    """One row per cluster: its surest members on the left, its least sure ones on the right."""
    confidence = model.predict_proba(images).max(axis=1)
    figure, axes = plt.subplots(
        model.n_clusters, n_columns + 1, figsize=(9, 6), width_ratios=[1] * 12 + [0.4] + [1] * 4
    )
    for cluster, row in enumerate(axes):
        members = np.flatnonzero(model.labels_ == cluster)
        members = members[np.argsort(-confidence[members])]
        chosen = np.concatenate([members[:12], members[-4:]])
        for axis, member in zip(np.delete(row, 12), chosen, strict=False):
            axis.imshow(images[member], cmap="gray_r", interpolation="bicubic")
        for axis in row:
            axis.set_axis_off()
        row[0].text(
            -0.4, 0.5, f"{cluster}  ({len(members)})", ha="right", va="center",
            transform=row[0].transAxes,
        )  # fmt: skip
    figure.suptitle("Clusters found without labels: 12 surest and 4 least sure members (size)")
    return figure


def plot_loss(model: ContrastiveClustering) -> plt.Figure:
    """The loss and its terms over the epochs."""
    figure, axes = plt.subplots(1, 1 + len(model.history_), figsize=(10, 2.8), layout="constrained")
    curves = {"total": model.loss_curve_, **model.history_}
    for axis, (name, values) in zip(axes, curves.items(), strict=True):
        axis.plot(np.arange(1, len(values) + 1), values)
        axis.set(title=name, xlabel="epoch")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the pictures")
    main(parser.parse_args().output)
