"""The tree of clusters on the report: which ones are the most alike."""

from typing import Any

import numpy as np

from .html import called, scrolled, section

_MOST = 200  # clusters; of more of them, no tree is drawn
_LINE = 24  # pixels from leaf to leaf
_WIDTH = 400
_NAME = 170  # pixels for the names

_TEXT = (
    "Clusters that join further to the right are less alike. Where two that mean the same join "
    "early, they can be merged."
)


def tree_section(linkage: Any, n_clusters: int) -> str:
    """Draw a linkage of SciPy's format over the clusters; without one, nothing."""
    if linkage is None or not 2 <= n_clusters <= _MOST:
        return ""
    table = np.array(linkage, dtype=np.float64)
    if table.shape != (n_clusters - 1, 4) or not np.isfinite(table).all():
        return ""
    # each join to the right of its parts
    table[:, 2] = np.maximum.accumulate(np.maximum(table[:, 2], 0))
    drawing = scrolled("Tree of the clusters", _drawing(table, n_clusters))
    words = f"<details><summary>In words</summary>{_joins(table, n_clusters)}</details>"
    return section("tree", "Tree", f"<p>{_TEXT}</p>\n{drawing}\n{words}")


def _drawing(linkage: np.ndarray, n_clusters: int) -> str:
    """Return the tree as SVG, its leaves on the left."""
    from scipy.cluster.hierarchy import dendrogram

    plan = dendrogram(linkage, no_plot=True)
    highest = linkage[-1, 2] or 1.0
    paths = "".join(
        "M"
        + "L".join(
            f"{_NAME + _WIDTH * height / highest:.1f},{place / 10 * _LINE:.1f}"
            for place, height in zip(places, heights, strict=True)
        )
        for places, heights in zip(plan["icoord"], plan["dcoord"], strict=True)  # 5, 15, 25, ...
    )
    names = "".join(
        f'<text x="{_NAME - 8}" y="{(i + 0.5) * _LINE:.0f}" data-called="{cluster}" data-long>'
        f"Cluster {cluster}</text>"
        for i, cluster in enumerate(plan["leaves"])
    )
    width, height = _NAME + _WIDTH + 8, n_clusters * _LINE
    return (
        f'<svg class="tree" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Tree of {n_clusters} clusters"><path d="{paths}"/>{names}</svg>'
    )


def _joins(linkage: np.ndarray, n_clusters: int) -> str:
    """Say what joins with what, the most alike first; a group is called by one of its clusters."""
    groups = [(cluster, 1) for cluster in range(n_clusters)]
    lines = []
    for left, right in linkage[:, :2].astype(int).tolist():
        pair = groups[left], groups[right]
        lines.append(f"<li>{' and '.join(_group(*group) for group in pair)}</li>")
        groups.append((min(pair)[0], sum(n for _, n in pair)))
    return f"<ol>{''.join(lines)}</ol>"


def _group(cluster: int, size: int) -> str:
    name = called(cluster, long=True)
    return name if size == 1 else f"the {size} clusters around {name}"
