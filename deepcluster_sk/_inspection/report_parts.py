"""Clusters on the report: numbers, table and gallery. Whatever users wrote is escaped here."""

from html import escape
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from ..metrics import clustering_accuracy_score
from .assignments import Assignments
from .html import (
    Places,
    called,
    name_field,
    number,
    scrolled,
    section,
    share,
    sort_head,
    table,
    tile,
    tiles,
)
from .pictures import feature_table
from .report_data import Listed
from .report_page import source
from .summaries import CERTAIN, standardized

_FEATURES = 8  # that tell a cluster of rows from the others
_PREVIEW = 10  # pictures of a closed cluster


def features_that_stand_out(samples: Any, found: Assignments) -> dict[int, str]:
    """Name for each cluster the features whose means differ the most, for rows of features."""
    names, values = feature_table(samples)
    deviations = standardized(values)
    tables = {}
    for cluster in np.flatnonzero(found.sizes).tolist():
        members = found.labels == cluster
        means, shifts = values[members].mean(axis=0), deviations[members].mean(axis=0)
        rows = [
            [names[i], f"{shifts[i]:+.1f}", f"{means[i]:.4g}"]
            for i in np.argsort(-np.abs(shifts), kind="stable")[:_FEATURES]
        ]
        head = ["feature", "deviations from the mean of all", "mean"]
        caption = f"What tells cluster {cluster} from the others"
        tables[cluster] = scrolled(caption, table(head, rows, caption))
    return tables


def facts(found: Assignments, n_epochs: int, classes: np.ndarray | None) -> str:
    """Render the numbers at the head of the page."""
    known = found.labels >= 0
    numbers = [("samples", f"{len(found.labels):,}")]
    if not known.all():
        numbers.append(("without a cluster", f"{(~known).sum():,}"))
    n_found = int((found.sizes > 0).sum())
    n_clusters = f"{found.n_clusters}" + (
        f", {found.n_clusters - n_found} empty" if n_found < found.n_clusters else ""
    )
    numbers.append(("clusters", n_clusters))
    if known.any():
        numbers += [
            ("mean confidence", f"{found.confidence[known].mean():.1%}"),
            (f"confidence ≥ {CERTAIN:.0%}", f"{(found.confidence[known] >= CERTAIN).mean():.1%}"),
        ]
    numbers.append(("epochs", f"{n_epochs:,}"))
    if classes is not None and known.any():
        pair = classes[known], found.labels[known]
        numbers += [
            ("accuracy (matched)", f"{clustering_accuracy_score(*pair):.3f}"),
            ("NMI", f"{normalized_mutual_info_score(*pair):.3f}"),
            ("ARI", f"{adjusted_rand_score(*pair):.3f}"),
        ]
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in numbers
    )
    return f'<dl class="facts">\n{items}\n</dl>'


def cluster_section(found: Assignments, classes: np.ndarray | None, text: str) -> str:
    """Render the table of clusters, with fields for their names."""
    parts = [
        f"<p>{escape(text)} Names that you type in are kept by your browser, for this page.</p>",
        source("names.html"),
        scrolled("Clusters", cluster_table(found, classes)),
    ]
    return section("clusters", "Clusters", "\n".join(parts))


def cluster_table(found: Assignments, classes: np.ndarray | None) -> str:
    """Render sizes and confidences: a row per cluster, every column can be sorted by."""
    heads = ["cluster", "name", "size", "share", "confidence", f"≥ {CERTAIN:.0%} sure"]
    heads += ["most frequent class", "its share"] if classes is not None else []
    largest = max(found.sizes.max(), 1)
    rows = []
    for cluster, size in enumerate(found.sizes):
        members = found.labels == cluster
        sure = int((found.confidence[members] >= CERTAIN).sum())
        cells = [
            f'<th scope="row" data-value="{cluster}">{cluster}</th>',
            f'<td class="text">{name_field(cluster)}</td>',
            number(size, f"{size:,}"),
            share(size / len(members), 1),
            share(found.mean_confidence[cluster] if size else None, 1),
            share(sure / size if size else None, 0),
        ]
        if classes is not None:
            name, part = _majority(classes[members])
            cells += [f'<td class="text">{escape(name)}</td>', share(part if size else None, 0)]
        widths = (100 * sure / largest, 100 * (size - sure) / largest)
        bars = "".join(f'<i style="width:{width:.1f}%"></i>' for width in widths)
        cells.append(f'<td aria-hidden="true"><span class="bar">{bars}</span></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(sort_head(name) for name in heads)
    return (
        '<table id="cluster-table"><caption>Bars: members, hatched where their confidence is '
        f"below {CERTAIN:.0%}</caption><thead><tr>{head}"
        f'<td aria-hidden="true"></td></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def cluster_details(
    cluster: int,
    examples: tuple[np.ndarray, ...],
    listed: Listed,
    places: Places,
    stand_out: str | None,
) -> str:
    """Render one cluster of the gallery: a line with some pictures that opens to all of them."""
    found, classes = listed.found, listed.classes
    size, confidence = int(found.sizes[cluster]), found.mean_confidence[cluster]
    confident, uncertain = examples
    majority = ""
    about = f"{size:,} members · {confidence:.1%} confidence" if size else "empty"
    if classes is not None and size:
        majority, part = _majority(classes[found.labels == cluster])
        about += f" · {part:.0%} of class {escape(majority)}"
    preview = "".join(tile(places[r]) for r in confident[:_PREVIEW].tolist() if r in places)
    if preview:
        preview = f'<span class="preview" aria-hidden="true">{preview}</span>'
    body = "".join(
        f"<h3>{title}</h3>{tiles(rows.tolist(), listed, places)}"
        for title, rows in [("Most confident", confident), ("Least confident", uncertain)]
        if len(rows)
    )
    if size:
        body += (
            f'<p><button type="button" class="members" value="{cluster}">'
            f"List the members of cluster {cluster}</button></p>"
        )
    value = "" if np.isnan(confidence) else f"{confidence:.6f}"
    return (
        f'<details class="cluster" data-cluster="{cluster}" data-size="{size}" '
        f'data-confidence="{value}" data-majority="{escape(majority)}">'
        f'<summary><b>{called(cluster, long=True)}</b><span class="soft">{about}</span>'
        f'{preview}</summary><p><label class="soft">Name {name_field(cluster)}</label></p>'
        f"{stand_out or ''}{body}</details>"
    )


def _majority(classes: np.ndarray) -> tuple[str, float]:
    """Return the most frequent class and its share; of no samples, a dash."""
    if len(classes) == 0:
        return "-", 0.0
    names, counts = np.unique(classes, return_counts=True)
    return str(names[counts.argmax()]), float(counts.max() / len(classes))
