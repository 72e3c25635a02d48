"""
Compare with clusterings of scikit-learn
========================================

Five methods on four small data sets, after scikit-learn's comparison of clusterings. Each panel has
the normalized mutual information with the true groups (NMI, 1 is a perfect match) and the seconds
of the fit.
"""

# %%
# Two sets in the plane, and 500 digits, as images and with their pixels as columns. No method
# sees the true groups, but all except HDBSCAN are told their number.

import time
import warnings

import matplotlib.pyplot as plt
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.manifold import TSNE
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from deepcluster_sk import ContrastiveClustering

images, digits = (part[:500] for part in (load_digits().images, load_digits().target))
rows = images.reshape(500, -1)
data_sets = {
    "moons": make_moons(500, noise=0.05, random_state=30),
    "varied": make_blobs(500, cluster_std=[1.0, 2.5, 0.5], random_state=170),
    "digits, as rows": (rows, digits),
    "digits, as images": (images, digits),
}


def methods(n_clusters, max_epochs="auto"):
    return {
        "KMeans": KMeans(n_clusters, random_state=0),
        "GaussianMixture": GaussianMixture(n_clusters, random_state=0),
        "SpectralClustering": SpectralClustering(
            n_clusters, affinity="nearest_neighbors", random_state=0
        ),
        "HDBSCAN": HDBSCAN(copy=True),
        "ContrastiveClustering": ContrastiveClustering(
            n_clusters, max_epochs=max_epochs, random_state=0
        ),
    }


# %%
# Where clusters are round, KMeans does as well, in a fraction of the time. Spectral clustering and
# HDBSCAN follow the shape of half-moons, as contrastive clustering does on rows: there the graph of
# nearest neighbours decides, and the network only learns its clusters, for which 100 epochs are
# enough here (the default is 140). On images, the network learns what is alike, and the digits are
# told apart much better than by their pixels. Grey points are those that HDBSCAN leaves out.

positions_of_digits = TSNE(random_state=0).fit_transform(rows)
warnings.filterwarnings("ignore", "Graph is not fully connected")  # as it should be for the moons
fig, axes = plt.subplots(4, 5, figsize=(11, 8), layout="constrained")
for ax, method in zip(axes[0], methods(2), strict=True):
    ax.set_title(method)
for (name, (X, y)), row in zip(data_sets.items(), axes, strict=True):
    positions = X if X.shape[1:] == (2,) else positions_of_digits
    row[0].set_ylabel(name)
    max_epochs = "auto" if X.ndim == 3 else 100
    for model, ax in zip(methods(len(set(y)), max_epochs).values(), row, strict=True):
        is_ours = isinstance(model, ContrastiveClustering)
        start = time.perf_counter()
        labels = model.fit_predict(X if is_ours else X.reshape(len(X), -1))
        seconds = time.perf_counter() - start
        is_noise = labels == -1
        ax.scatter(*positions[is_noise].T, s=4, color="lightgrey")
        ax.scatter(*positions[~is_noise].T, s=4, c=labels[~is_noise], cmap="tab10", vmin=0, vmax=9)
        ax.set(xticks=[], yticks=[])
        nmi = normalized_mutual_info_score(y, labels)
        ax.set_xlabel(f"NMI {nmi:.2f}    {seconds:.2f} s")

plt.show()
