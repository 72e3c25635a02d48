"""
Similar samples and near-duplicates
===================================

Search a fitted model for samples like a given one, find copies, and show the central samples of
each cluster.
"""

# %%
# 1,000 digits, and copies of twelve of them: four as they are, eight with a little noise.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.inspection import cluster_table, exemplars, near_duplicates, similar

digits = load_digits().images[:1000]
rng = np.random.default_rng(0)
noisy = np.clip(digits[4:12] + rng.normal(scale=0.4, size=(8, 8, 8)), 0, 16)
images = np.concatenate([digits, digits[:4], noisy])
model = ContrastiveClustering(10, n_heads=3, max_epochs=15, random_state=0).fit(images)


def show(rows, titles):
    """Draw rows of images; row numbers below zero stay empty."""
    _, axes = plt.subplots(*rows.shape, figsize=(rows.shape[1], 1.2 * rows.shape[0]))
    for ax, row, title in zip(axes.flat, rows.flat, titles.flat, strict=True):
        ax.set_axis_off()
        if row >= 0:
            ax.imshow(images[row], cmap="gray_r")
            ax.set_title(title, fontsize=8)


# %%
# More like these: each of four digits on the left, and the seven that are most similar to it by the
# direction of their features, with the cosine similarity.

queries = np.array([20, 21, 22, 23])
found = similar(model, images, queries, n=7)
titles = np.char.mod("%.3f", found.similarity)
show(
    np.column_stack([queries, found.rows]),
    np.column_stack([np.char.mod("row %d", queries), titles]),
)

# %%
# Nearly the same: groups of row numbers. The copies have the numbers from 1,000 on.

groups = near_duplicates(model, images)
for group in groups:
    print(group)

# %%
# Keep the first sample of each group, and drop the others.

dropped = np.concatenate([group[1:] for group in groups])
print(len(images), "->", len(np.delete(images, dropped, axis=0)))

# %%
# The five most central samples of each cluster.

rows = exemplars(model, images, n=5)
show(rows.T, np.tile([f"cluster {number}" for number in range(10)], (5, 1)))

# %%
# And everything that is known of each sample, as a table. The least confident ones:

table = cluster_table(model, images)
print(table.sort_values("confidence").head(5).round(3).to_string(index=False))
plt.show()
