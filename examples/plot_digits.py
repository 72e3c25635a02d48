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

SCORES = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}


def main(output: Path) -> None:
    digits = load_digits()
    contrastive = ContrastiveClustering(n_clusters=10, verbose=1, random_state=0)
    kmeans = KMeans(n_clusters=10, n_init=10, random_state=0)

    table = [f"{'':24}" + "".join(f"{name:>7}" for name in SCORES) + f"{'seconds':>9}"]
    for model, X in [(kmeans, digits.data), (contrastive, digits.images)]:
        start = time.perf_counter()
        labels = model.fit_predict(X)
        seconds = time.perf_counter() - start
        scores = "".join(f"{score(digits.target, labels):7.3f}" for score in SCORES.values())
        table.append(f"{type(model).__name__:24}{scores}{seconds:9.1f}")
    print("\n".join(table))

    output.mkdir(parents=True, exist_ok=True)
    plot_clusters(digits.images, contrastive).savefig(output / "clusters.png", dpi=120)
    plot_loss(contrastive).savefig(output / "loss.png", dpi=120)
    print(f"Pictures: {output / 'clusters.png'} and {output / 'loss.png'}")


def plot_clusters(images: np.ndarray, model: ContrastiveClustering) -> plt.Figure:
    """One row per cluster: the 12 members it is surest of, and the 4 it is least sure of."""
    confidence = model.predict_proba(images).max(axis=1)
    figure, axes = plt.subplots(
        model.n_clusters, 17, figsize=(9, 6.2), width_ratios=[1] * 12 + [0.4] + [1] * 4
    )
    for cluster, row in enumerate(axes):
        members = np.flatnonzero(model.labels_ == cluster)
        members = members[np.argsort(-confidence[members])]
        shown = [*members[:12], *members[-4:]]
        for axis, member in zip(np.delete(row, 12), shown, strict=False):
            axis.imshow(images[member], cmap="gray_r", interpolation="bicubic")
        for axis in row:
            axis.set_axis_off()
        text = f"cluster {cluster}\n{len(members)} images"
        row[0].text(-0.3, 0.5, text, ha="right", va="center", transform=row[0].transAxes, size=8)
    axes[0, 5].set_title("surest members", size=10)
    axes[0, 14].set_title("least sure", size=10)
    figure.subplots_adjust(left=0.12, right=0.99, top=0.92, bottom=0.02, wspace=0.1, hspace=0.12)
    return figure


def plot_loss(model: ContrastiveClustering) -> plt.Figure:
    """The terms of the loss over the epochs; the neighbour term is 0 until its stage begins."""
    figure, axes = plt.subplots(1, len(model.history_), figsize=(10, 2.8), layout="constrained")
    epochs = np.arange(1, model.n_iter_ + 1)
    for axis, (name, values) in zip(axes, model.history_.items(), strict=True):
        axis.plot(epochs, np.where(np.equal(values, 0), np.nan, values))
        axis.set(title=name, xlabel="epoch", xlim=(0, model.n_iter_ + 1))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss term")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the pictures")
    main(parser.parse_args().output)
