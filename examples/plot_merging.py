"""
Merge clusters, find what fits nowhere
======================================

Let the number of clusters be found, look at their tree, merge some of them, and look for samples
that fit nowhere: 600 digits, and a few that lie on their side. More is on the page on what comes
after clustering.
"""

# %%
# Twelve images are digits with rows and columns exchanged.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import ClusterGalleryDisplay, ClusterTreeDisplay

digits = load_digits().images[:600]
rng = np.random.default_rng(0)
on_their_side = digits[rng.permutation(600)[:12]].transpose(0, 2, 1)
images = np.concatenate([digits, on_their_side])

# %%
# The number of clusters is found. Leave out the least typical twentieth of the samples.

model = ContrastiveClustering("auto", max_epochs=60, outlier_fraction=0.05, random_state=0)
model.fit(images)
print(model.n_clusters_, "clusters of", model.cluster_sizes_, "members")

left_out = np.flatnonzero(model.labels_ == -1)
print((left_out >= 600).sum(), "of the 12 are among the", len(left_out), "samples that fit nowhere")

_, axes = plt.subplots(2, 16, figsize=(8, 1.2))
for ax in axes.flat:
    ax.set_axis_off()
for ax, row in zip(axes.flat, left_out, strict=False):
    ax.imshow(images[row], cmap="gray_r")

# %%
# Which clusters are close is told by their tree.

ClusterTreeDisplay.from_estimator(model)

# %%
# Join clusters along the tree, or those that you choose. Both ways return a fitted estimator.

coarser = model.cut(5)
merged = model.merge_clusters([[0, 1], [2, 3]])
print(coarser.cluster_sizes_, merged.n_clusters_)

# %%
# The members of the coarser clusters:

ClusterGalleryDisplay.from_estimator(coarser, images, cmap="gray_r")
plt.show()
