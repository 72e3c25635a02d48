"""
A map of the samples, and a page to work on
===========================================

The samples of a clustering on a map to move around in, in a notebook or on the page that ``report``
writes. It takes a few seconds on two cores.
"""

# %%
# Cluster the bundled images of digits.

import tempfile
from pathlib import Path

from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering, report
from deepcluster_sk.display import cluster_map

digits = load_digits()
model = ContrastiveClustering(10, max_epochs=30, random_state=0).fit(digits.images)

# %%
# The map. Point at a sample to see its picture; the wheel zooms; Shift and drag selects samples,
# which can be downloaded. ``y`` adds the classes, which the map can be coloured by.

cluster_map(model, digits.images, y=digits.target)

# %%
# The report has the same map, and more: galleries of the clusters, fields for their names, the
# samples that fit nowhere, and those that are nearly the same. It is one file, here in a temporary
# folder.

with tempfile.TemporaryDirectory() as folder:
    page = report(model, digits.images, Path(folder, "report.html"), digits.target)
    print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB")
