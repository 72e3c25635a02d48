"""The parts of the report: from numbers to HTML. Whatever users wrote is escaped here."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.pipeline import Pipeline

from ..metrics import clustering_accuracy_score, matched_contingency
from .assignments import Assignments
from .pictures import feature_table
from .summaries import CERTAIN, standardized, without_start

Places = Mapping[int, tuple[int, int]]
"""By row number of a sample: its sprite, and the number of the picture within it."""

SPRITE_COLUMNS = 10  # pictures beside each other
_SAMPLES = 20_000  # in the table of samples
_SAMPLE_BYTES = 1_200_000
_FEATURES = 8  # that tell a cluster of rows from the others
_MATCH = 40  # classes or clusters; a larger table of both is left out
_EPOCHS = 200  # rows of the table of losses
_PREVIEW = 10  # pictures of a closed cluster
_TEXTS = ("sample", "class", "most frequent class")  # columns that are not numbers
_LONGEST = 400  # characters of a parameter


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
        tables[cluster] = (
            f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0">'
            f"{_table(head, rows, caption)}</div>"
        )
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
    return "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in numbers
    )


def cluster_table(found: Assignments, classes: np.ndarray | None) -> str:
    """Render sizes and confidences: a row per cluster, every column can be sorted by."""
    heads = ["cluster", "size", "share", "confidence", f"≥ {CERTAIN:.0%} sure"]
    heads += ["most frequent class", "its share"] if classes is not None else []
    largest = max(found.sizes.max(), 1)
    rows = []
    for cluster, size in enumerate(found.sizes):
        members = found.labels == cluster
        sure = int((found.confidence[members] >= CERTAIN).sum())
        cells = [
            f'<th scope="row" data-value="{cluster}">{cluster}</th>',
            _number(size, f"{size:,}"),
            _share(size / len(members), 1),
            _share(found.mean_confidence[cluster] if size else None, 1),
            _share(sure / size if size else None, 0),
        ]
        if classes is not None:
            name, share = _majority(classes[members])
            cells += [f'<td class="text">{escape(name)}</td>', _share(share if size else None, 0)]
        widths = (100 * sure / largest, 100 * (size - sure) / largest)
        bars = "".join(f'<i style="width:{width:.1f}%"></i>' for width in widths)
        cells.append(f'<td aria-hidden="true"><span class="bar">{bars}</span></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(_sort_head(name) for name in heads)
    return (
        '<table id="cluster-table"><caption>Bars: members, hatched where their confidence is '
        f"below {CERTAIN:.0%}</caption><thead><tr>{head}"
        f'<td aria-hidden="true"></td></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def cluster_details(
    found: Assignments,
    cluster: int,
    examples: tuple[np.ndarray, ...],
    names: Sequence[str],
    classes: np.ndarray | None,
    places: Places,
    stand_out: str | None,
) -> str:
    """Render one cluster of the gallery: a line with some pictures that opens to all of them."""
    size, confidence = int(found.sizes[cluster]), found.mean_confidence[cluster]
    typical, uncertain = examples
    majority = ""
    about = f"{size:,} members · {confidence:.1%} confidence" if size else "empty"
    if classes is not None and size:
        majority, share = _majority(classes[found.labels == cluster])
        about += f" · {share:.0%} of class {escape(majority)}"
    preview = "".join(_tile(places[r]) for r in typical[:_PREVIEW].tolist() if r in places)
    if preview:
        preview = f'<span class="preview" aria-hidden="true">{preview}</span>'
    body = "".join(
        f"<h3>{title}</h3>{_tiles(rows.tolist(), found, names, places)}"
        for title, rows in [("Most typical", typical), ("Least certain", uncertain)]
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
        f'<summary><b>Cluster {cluster}</b><span class="soft">{about}</span>'
        f"{preview}</summary>{stand_out or ''}{body}</details>"
    )


def sample_table(
    found: Assignments,
    probabilities: np.ndarray,
    names: Sequence[str],
    classes: np.ndarray | None,
    places: Places,
) -> dict[str, str]:
    """Return the samples as JSON for the script, the least certain ones first, and their heads."""
    rows = np.argsort(found.confidence, kind="stable")[:_SAMPLES]
    while True:
        text = _sample_json(rows, found, probabilities, names, classes, places)
        if len(text) <= _SAMPLE_BYTES or len(rows) < 2:
            break
        rows = rows[: len(rows) * _SAMPLE_BYTES // len(text) - 1]
    heads = {"tile": "", "name": "sample", "cluster": "cluster", "confidence": "confidence"}
    heads |= {"second": "second choice", "class": "class"}
    shown = json.loads(text)["columns"]
    n_samples = len(found.labels)
    which = "All" if len(rows) == n_samples else f"The {len(rows):,} least certain of"
    return {
        "sample_head": "".join(
            _sort_head(heads[key], "ascending" if key == "confidence" else None)
            if heads[key]
            else "<td></td>"
            for key in shown
        ),
        "samples_text": f"{which} {n_samples:,} samples, the least certain ones first.",
        "data": text.replace("<", "\\u003c"),
    }


def _sample_json(
    rows: np.ndarray,
    found: Assignments,
    probabilities: np.ndarray,
    names: Sequence[str],
    classes: np.ndarray | None,
    places: Places,
) -> str:
    """Write the columns of the table of samples."""
    columns: dict[str, list[Any]] = {}
    if places:
        columns["tile"] = [places.get(row) for row in rows.tolist()]
    columns["name"] = [names[row] for row in rows]
    columns["cluster"] = found.labels[rows].tolist()
    columns["confidence"] = np.round(found.confidence[rows], 4).tolist()
    if found.n_clusters > 1:
        # samples without a cluster have no second choice either
        second = np.argsort(-np.nan_to_num(probabilities[rows]), axis=1, kind="stable")[:, 1]
        columns["second"] = np.where(found.labels[rows] >= 0, second, -1).tolist()
    if classes is not None:
        columns["class"] = classes[rows].tolist()
    return json.dumps(
        {"columns": list(columns), "samples": columns, "tileColumns": SPRITE_COLUMNS},
        separators=(",", ":"),
        allow_nan=False,
    )


def match_section(found: Assignments, classes: np.ndarray) -> str:
    """Render classes against clusters, with matched pairs on the diagonal."""
    known = found.labels >= 0
    if not known.any():
        return ""
    table, rows, columns = matched_contingency(classes[known], found.labels[known])
    head = (
        '<section id="match" aria-labelledby="h-match"><h2 id="h-match">Classes and clusters</h2>'
    )
    if max(table.shape) > _MATCH:
        many = f"{len(rows)} classes and {len(columns)} clusters: too many to show."
        return f"{head}<p>{many}</p></section>"
    shares = table / table.sum(axis=1, keepdims=True)
    lines = "".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th>'
        + "".join(
            f'<td style="background:rgba(var(--heat),{0.75 * share:.2f})">{count or ""}</td>'
            for count, share in zip(counts, shared, strict=True)
        )
        + "</tr>"
        for name, counts, shared in zip(rows, table, shares, strict=True)
    )
    clusters = "".join(f'<th scope="col">{cluster}</th>' for cluster in columns)
    return (
        f'{head}<div class="scroll" role="region" aria-labelledby="h-match" tabindex="0">'
        '<table class="match"><caption>Samples per class (rows) and cluster (columns); colours '
        "are shares of the class; the best one-to-one matching is on the diagonal</caption>"
        f'<thead><tr><th scope="col" class="text">class</th>{clusters}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def curves(losses: Mapping[str, Sequence[float]]) -> str:
    """Render a small curve for each term of the loss."""
    return "\n".join(_curve(name, without_start(values)) for name, values in losses.items())


def _curve(name: str, values: np.ndarray) -> str:
    epochs = np.flatnonzero(np.isfinite(values))
    if len(epochs) == 0:
        return f"<figure><figcaption><b>{escape(name)}</b>: 0 in all epochs</figcaption></figure>"
    shown = values[epochs]
    x = 4 + 232 * epochs / max(len(values) - 1, 1)
    y = 76 - 72 * (shown - shown.min()) / (np.ptp(shown) or 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    text = f"from {shown[0]:.4g} in epoch {epochs[0] + 1} to {shown[-1]:.4g} in epoch {len(values)}"
    return (
        f"<figure><figcaption><b>{escape(name)}</b> {text}</figcaption>"
        f'<svg viewBox="0 0 240 80" role="img" aria-label="{escape(name)} {text}">'
        f'<polyline points="{points}"/><circle cx="{x[-1]:.1f}" cy="{y[-1]:.1f}" r="3"/>'
        "</svg></figure>"
    )


def loss_table(losses: Mapping[str, Sequence[float]]) -> str:
    """Render the losses as a table: of long runs not every epoch, but always the last."""
    n_epochs = len(next(iter(losses.values())))
    epochs = np.unique(np.linspace(1, n_epochs, min(n_epochs, _EPOCHS)).round().astype(int))
    rows = [[str(e), *(f"{values[e - 1]:.4g}" for values in losses.values())] for e in epochs]
    return _table(["epoch", *losses], rows, "Means over each epoch")


def parameter_table(estimator: Any, fitted: Any) -> str:
    """Render the parameters, with the defaults of those that were changed."""
    defaults = type(fitted)().get_params(deep=False)
    lines = []
    if isinstance(estimator, Pipeline):
        steps = " → ".join(type(step).__name__ for step in estimator.named_steps.values())
        lines.append(
            '<tr><th scope="row" class="text">Pipeline</th>'
            f'<td class="text">{escape(steps)}</td></tr>'
        )
    for name, value in fitted.get_params(deep=False).items():
        text, default = _short(value), _short(defaults[name])
        changed = text != default
        note = f' <span class="soft">(default: <code>{default}</code>)</span>' if changed else ""
        lines.append(
            f'<tr{" class=changed" if changed else ""}><th scope="row" class="text">{escape(name)}'
            f'</th><td class="text"><code>{text}</code>{note}</td></tr>'
        )
    return (
        "<table><caption>Parameters of the constructor; coloured where they are not the default"
        '</caption><thead><tr><th scope="col" class="text">parameter</th><th scope="col" '
        f'class="text">value</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def _short(value: Any) -> str:
    text = repr(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def _majority(classes: np.ndarray) -> tuple[str, float]:
    """Return the most frequent class and its share; of no samples, a dash."""
    if len(classes) == 0:
        return "-", 0.0
    names, counts = np.unique(classes, return_counts=True)
    return str(names[counts.argmax()]), float(counts.max() / len(classes))


def _tiles(rows: Iterable[int], found: Assignments, names: Sequence[str], places: Places) -> str:
    """Render samples as pictures with name and confidence, or as names alone."""
    items = "".join(
        f"<li>{_tile(places[row]) if row in places else ''}"
        f'<span class="name" title="{escape(names[row])}">{escape(os.path.basename(names[row]))}'
        "</span>"
        f'<span class="soft">{found.confidence[row]:.1%}</span></li>'
        for row in rows
    )
    return f'<ul class="tiles">{items}</ul>'


def _tile(picture: tuple[int, int]) -> str:
    """Render one picture of a sprite; its name, if any, is beside it."""
    sprite, number = picture
    place = f"--x:{number % SPRITE_COLUMNS};--y:{number // SPRITE_COLUMNS}"
    return f'<span class="tile s{sprite}" style="{place}"></span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Render a table of texts whose first column names the rows."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    head = head.replace("<th", '<th class="text"', 1)
    body = "".join(
        f'<tr><th scope="row" class="text">{escape(first)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in others)
        + "</tr>"
        for first, *others in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _sort_head(name: str, sort: str | None = None) -> str:
    order = f' aria-sort="{sort}"' if sort else ""
    kind = ' class="text"' if name in _TEXTS else ""
    return f'<th scope="col"{kind}{order}><button type="button">{escape(name)}</button></th>'


def _share(value: float | None, digits: int) -> str:
    return _number(value, "-" if value is None else f"{value:.{digits}%}")


def _number(value: float | None, text: str) -> str:
    """Render a cell that is sorted by its value; None is sorted last."""
    return f'<td data-value="{"" if value is None else f"{value:.6f}"}">{text}</td>'
