"""
Choose the number of clusters
=============================

Fit a range of numbers without labels, and see where the scores agree: 400 digits, three numbers,
two short fits of each. How to read the curves is on the page about the number of clusters.
"""

# %%
# Only digits 0 to 4 are kept, so that there are five kinds.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.display import ClusterGalleryDisplay, ClusterNumberDisplay

images = load_digits(n_class=5).images[:400]
model = ContrastiveClustering(n_heads=2, max_epochs=20, batch_size=128)
curves = ClusterNumberDisplay.from_estimator(model, images, n_clusters=[3, 5, 8])

# %%
# Pale points are single fits, lines their mean. The numbers behind them:

for name, values in curves.scores.items():
    print(f"{name:16}", values.mean(axis=1).round(2))

# %%
# Then look at the clusters themselves.

model.set_params(n_clusters=5, random_state=0).fit(images)
ClusterGalleryDisplay.from_estimator(model, images, cmap="gray_r")
plt.show()
