"""
A folder of images
==================

Discs, rings and bars in any colour, size and place, as files in a folder. Clusters without labels,
pictures of them, and a page for the browser.
"""

# %%
# Draw a folder of images first, so that this runs anywhere. Put your own in its place. The three
# kinds are about equally frequent, which suits the method: with 120 discs, 80 rings and 40 bars, as
# few epochs as here put the bars into one cluster with half of the discs.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk.display import ClusterGalleryDisplay, ClusterSizeDisplay, EmbeddingDisplay

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
rng = np.random.default_rng(0)
for number, kind in enumerate(["disc"] * 88 + ["ring"] * 80 + ["bar"] * 72):
    image = Image.new("RGB", (40, 40), (25, 25, 30))
    pen = ImageDraw.Draw(image)
    x, y, r = rng.uniform(15, 25), rng.uniform(15, 25), rng.uniform(8, 12)
    color = tuple(rng.integers(110, 255, 3).tolist())
    box = (x - 3, y - r, x + 3, y + r) if kind == "bar" else (x - r, y - r, x + r, y + r)
    draw = pen.rectangle if kind == "bar" else pen.ellipse
    draw(box, fill=None if kind == "ring" else color, outline=color, width=3)
    image.save(folder / f"{kind}_{number:03}.png")

# %%
# The folder is all that the estimator needs. 20 pixels tell these shapes apart, and keep the
# network small.

model = ContrastiveClustering(
    3, image_size=20, n_heads=3, max_epochs=25, batch_size=80, random_state=0
)
labels = model.fit_predict(folder)  # in the order of the paths

# %%
# The names of the files tell the truth about these ones, which the estimator has not seen:

kinds = np.array([path.name.split("_")[0] for path in sorted(folder.glob("*.png"))])
for kind in np.unique(kinds):
    print(f"{kind:5}", np.bincount(labels[kinds == kind], minlength=3))

# %%
# Each row is a cluster: its members of the highest confidence on the left, and those of the lowest
# on the right. Colours are mixed in each: the augmentation changes them, and so says
# that they do not matter.

ClusterGalleryDisplay.from_estimator(model, folder)

# %%
# The sizes of the clusters, the largest first. Members whose confidence is below 90 % are hatched.

ClusterSizeDisplay.from_estimator(model, folder)

# %%
# The features in two dimensions, with images where there is room for them. Black frames and rings
# mark the least confident ones.

EmbeddingDisplay.from_estimator(model, folder, thumbnails=True)

# %%
# The same and more on one page for the browser, in one file that loads nothing. It lies in the
# temporary folder here; give it a place of your own.

page = report(model, folder, folder / "report.html")
print(f"{page.name}: {page.stat().st_size / 1e3:.0f} kB")

temporary.cleanup()
plt.show()
