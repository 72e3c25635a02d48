"""Small pieces of HTML that several parts of the report use. Texts are escaped here."""

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .report_data import Listed

SPRITE_COLUMNS = 10  # pictures beside each other
Places = Mapping[int, tuple[int, int]]
"""By row number of a sample: its sprite, and the number of the picture within it."""

_TEXTS = ("name", "sample", "class", "most frequent class")  # columns that are not numbers


def section(name: str, title: str, body: str) -> str:
    """Render a section with its heading; of an empty body nothing."""
    if not body:
        return ""
    return (
        f'<section id="{name}" aria-labelledby="h-{name}">\n<h2 id="h-{name}">{escape(title)}</h2>'
        f"\n{body}\n</section>"
    )


def scrolled(label: str, body: str) -> str:
    """Render something wide, which scrolls by itself."""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{body}</div>'
    )


def called(cluster: int, *, long: bool = False) -> str:
    """Render the number of a cluster, where the script puts its name."""
    text = f"Cluster {cluster}" if long else f"{cluster}"
    return f'<span data-called="{cluster}"{" data-long" if long else ""}>{text}</span>'


def name_field(cluster: int) -> str:
    """Render the field for the name of a cluster."""
    return (
        f'<input class="cluster-name" data-cluster="{cluster}" maxlength="60" autocomplete="off" '
        f'placeholder="name" aria-label="Name of cluster {cluster}">'
    )


def tiles(
    rows: Iterable[int], listed: Listed, places: Places, below: Mapping[int, str] | None = None
) -> str:
    """Render samples as pictures with a name, or as names alone, and a text below."""
    items = "".join(
        f"<li>{_button(row, listed, places)}"
        f'<span class="name" title="{escape(listed.names[row])}">'
        f"{escape(os.path.basename(listed.names[row]))}</span>"
        f'<span class="soft">{_below(row, listed, below)}</span></li>'
        for row in rows
    )
    return f'<ul class="tiles">{items}</ul>'


def _below(row: int, listed: Listed, below: Mapping[int, str] | None) -> str:
    return f"{listed.found.confidence[row]:.1%}" if below is None else below[row]


def _button(row: int, listed: Listed, places: Places) -> str:
    """Render the picture of a sample, which enlarges it; nothing if the page has none."""
    if row not in places:
        return ""
    label = escape(f"Enlarge {os.path.basename(listed.names[row])}")
    return (
        f'<button type="button" class="tile s{places[row][0]}" style="{_place(places[row])}" '
        f'data-sample="{listed.number_of(row)}" aria-label="{label}"></button>'
    )


def tile(picture: tuple[int, int]) -> str:
    """Render one picture of a sprite; its name, if any, is beside it."""
    return f'<span class="tile s{picture[0]}" style="{_place(picture)}"></span>'


def _place(picture: tuple[int, int]) -> str:
    number = picture[1]
    return f"--x:{number % SPRITE_COLUMNS};--y:{number // SPRITE_COLUMNS}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
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


def sort_head(name: str, sort: str | None = None) -> str:
    """Render the head of a column, whose button sorts by it."""
    order = f' aria-sort="{sort}"' if sort else ""
    kind = ' class="text"' if name in _TEXTS else ""
    return f'<th scope="col"{kind}{order}><button type="button">{escape(name)}</button></th>'


def share(value: float | None, digits: int) -> str:
    """Render a cell with a percentage."""
    return number(value, "-" if value is None else f"{value:.{digits}%}")


def number(value: float | None, text: str) -> str:
    """Render a cell that is sorted by its value; None is sorted last."""
    return f'<td data-value="{"" if value is None else f"{value:.6f}"}">{text}</td>'
