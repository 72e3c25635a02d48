"""A page with the map of the samples alone, for notebooks."""

import numpy as np

from .clustering import Clustering, listed_samples, pictures_of
from .html import called, name_field
from .map_positions import map_positions
from .report_data import Listed, packed_samples
from .report_page import page, source
from .report_samples import map_section

_PICTURES = 1000  # in all
_PICTURE_BYTES = 1_000_000  # of all pictures together, as text
_UNCERTAIN = 100  # samples that have a picture whatever else has one
_SCRIPTS = ("base", "names", "viewer", "canvas", "map", "selection", "start")


def map_page(known: Clustering) -> tuple[str, Listed]:
    """Return the page, and the samples on it."""
    uncertain = np.argsort(known.found.confidence, kind="stable")[:_UNCERTAIN]
    positions = None if known.features is None else map_positions(known.features)
    shown = pictures_of(known, [uncertain], _PICTURES, _PICTURE_BYTES)
    listed = listed_samples(known, [np.fromiter(shown.places, np.intp)], positions)
    data, _ = packed_samples(listed, {r: n for r, (_, n) in shown.places.items()}, {})
    fields = "".join(
        f"<li><label>{called(cluster)} {name_field(cluster)}</label></li>"
        for cluster in range(listed.found.n_clusters)
    )
    names = (
        f"<details><summary>Names of the clusters</summary>{source('names.html')}"
        f'<ul class="fields">{fields}</ul></details>'
    )
    title = f"{len(listed.found.labels):,} samples in {listed.found.n_clusters} clusters"
    sections = [map_section(listed, shown.places), names]
    return page(title, sections, data=data, sprites=shown.css, scripts=_SCRIPTS), listed
