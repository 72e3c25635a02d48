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

from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import ClusterGalleryDisplay, LossCurveDisplay
from deepcluster_sk.metrics import clustering_accuracy_score

SCORES = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}


def main(output: Path) -> None:
    digits = load_digits()
    contrastive = ContrastiveClustering(n_clusters=10, verbose=1, random_state=1)
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
    gallery = ClusterGalleryDisplay.from_estimator(contrastive, digits.images, cmap="gray_r")
    gallery.figure_.savefig(output / "clusters.png", dpi=120)
    LossCurveDisplay.from_estimator(contrastive).figure_.savefig(output / "loss.png", dpi=120)
    print(f"Pictures: {output / 'clusters.png'} and {output / 'loss.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the pictures")
    main(parser.parse_args().output)
