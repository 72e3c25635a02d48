"""What is on the report of the training and of known classes. Texts of users are escaped here."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ..metrics import matched_contingency
from .assignments import Assignments
from .html import called, scrolled, section, table
from .summaries import without_start

_MATCH_TITLE = "Classes and clusters"
_MATCH = 40  # classes or clusters; a larger table of both is left out
_EPOCHS = 200  # rows of the table of losses
_LONGEST = 400  # characters of a parameter


def match_section(found: Assignments, classes: np.ndarray) -> str:
    """Render classes against clusters, with matched pairs on the diagonal."""
    known = found.labels >= 0
    if not known.any():
        return ""
    counts, rows, columns = matched_contingency(classes[known], found.labels[known])
    if max(counts.shape) > _MATCH:
        many = f"{len(rows)} classes and {len(columns)} clusters: too many to show."
        return section("match", _MATCH_TITLE, f"<p>{many}</p>")
    shares = counts / counts.sum(axis=1, keepdims=True)
    lines = "".join(
        f'<tr><th scope="row" class="text">{escape(name)}</th>'
        + "".join(
            f'<td style="background:rgba(var(--heat),{0.75 * share:.2f})">{count or ""}</td>'
            for count, share in zip(line, shared, strict=True)
        )
        + "</tr>"
        for name, line, shared in zip(rows, counts, shares, strict=True)
    )
    clusters = "".join(f'<th scope="col">{called(int(cluster))}</th>' for cluster in columns)
    shown = (
        '<table class="match"><caption>Samples per class (rows) and cluster (columns); colours '
        "are shares of the class; the best one-to-one matching is on the diagonal</caption>"
        f'<thead><tr><th scope="col" class="text">class</th>{clusters}</tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )
    return section("match", _MATCH_TITLE, scrolled(_MATCH_TITLE, shown))


def loss_section(losses: Mapping[str, Sequence[float]]) -> str:
    """Render curves and numbers of the losses."""
    numbers = scrolled("Losses by epoch", loss_table(losses))
    return section(
        "losses",
        "Losses",
        f'<div class="curves">\n{curves(losses)}\n</div>\n'
        f"<details><summary>Numbers</summary>{numbers}</details>",
    )


def parameter_section(estimator: Any, fitted: Any) -> str:
    """Render the parameters."""
    return section(
        "parameters", "Parameters", scrolled("Parameters", parameter_table(estimator, fitted))
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
    return table(["epoch", *losses], rows, "Means over each epoch")


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
        if name == "cache":  # changes no cluster; a folder of this machine, perhaps a temporary one
            continue
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
