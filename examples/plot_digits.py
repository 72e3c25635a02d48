"""
Cluster handwritten digits
==========================

Contrastive clustering beside KMeans on the bundled digits images, which takes less than a minute
on two cores. ``make demo`` runs this script and saves the pictures::

    python examples/plot_digits.py --output demo
"""

# %%
# Fit both, and compare them by the classes, which neither of them has seen: accuracy under the best
# matching of clusters to classes, NMI and ARI.

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import ClusterGalleryDisplay, LossCurveDisplay
from deepcluster_sk.metrics import clustering_accuracy_score

parser = argparse.ArgumentParser(description="Cluster handwritten digits.")
parser.add_argument("--output", type=Path, help="folder to save the pictures in")
output = parser.parse_known_args()[0].output  # notebooks have arguments of their own

SCORES = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}

digits = load_digits()
contrastive = ContrastiveClustering(n_clusters=10, verbose=1 if output else 0, random_state=1)
kmeans = KMeans(n_clusters=10, n_init=10, random_state=0)

table = [f"{'':24}" + "".join(f"{name:>7}" for name in SCORES) + f"{'seconds':>9}"]
for model, X in [(kmeans, digits.data), (contrastive, digits.images)]:
    start = time.perf_counter()
    labels = model.fit_predict(X)
    seconds = time.perf_counter() - start
    scores = "".join(f"{score(digits.target, labels):7.3f}" for score in SCORES.values())
    table.append(f"{type(model).__name__:24}{scores}{seconds:9.1f}")
print("\n".join(table))

# %%
# Each row is a cluster: its members of the highest confidence on the left, and those of the lowest
# on the right.

gallery = ClusterGalleryDisplay.from_estimator(contrastive, digits.images, cmap="gray_r")

# %%
# The terms of the loss. The cluster heads begin at 30 % of the epochs, and neighbours take the
# place of the second view from 60 % on.

losses = LossCurveDisplay.from_estimator(contrastive)

if output:
    output.mkdir(parents=True, exist_ok=True)
    gallery.figure_.savefig(output / "clusters.png", dpi=120)
    losses.figure_.savefig(output / "loss.png", dpi=120)
    print(f"Pictures: {output / 'clusters.png'} and {output / 'loss.png'}")
else:
    plt.show()
