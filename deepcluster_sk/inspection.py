"""What comes after clustering: similar samples, near-duplicates, central samples, and tables.

All functions take a fitted estimator of this package, or a pipeline or search that ends in one. A
pipeline may also end in a clusterer of another package, such as k-means on the encoder's features.
"""

from ._inspection.duplicates import near_duplicates
from ._inspection.exports import to_fiftyone, to_label_studio
from ._inspection.search import Similar, similar
from ._inspection.tables import cluster_table, exemplars, write_table

__all__ = [
    "Similar",
    "cluster_table",
    "exemplars",
    "near_duplicates",
    "similar",
    "to_fiftyone",
    "to_label_studio",
    "write_table",
]
