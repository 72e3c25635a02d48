"""The map and the table of samples on the report."""

from .html import Places, sort_head
from .report_data import Listed
from .report_page import template

_HEADS = {"name": "sample", "cluster": "cluster", "confidence": "confidence"}

_MAP_TEXT = (
    "Samples whose features are alike are near each other. Distances between groups and the sizes "
    "of groups say little."
)


def map_section(listed: Listed, places: Places) -> str:
    """Render the frame of the map; nothing if samples have no places."""
    if listed.positions is None:
        return ""
    n_listed, n_samples = len(listed.rows), len(listed.found.labels)
    which = (
        "" if n_listed == n_samples else f" {n_listed:,} of the {n_samples:,} samples are shown."
    )
    n_seen = len(places)
    seen = f" {n_seen:,} of them have a picture." if 0 < n_seen < n_listed else ""
    return template("map.html", text=f"{_MAP_TEXT}{which}{seen}")


def samples_section(listed: Listed, *, pictures: bool, longest: int | None) -> str:
    """Render the frame of the table of samples.

    Parameters
    ----------
    listed : Listed
    pictures : bool
        Whether the page has any.
    longest : int or None
        Characters that names were shortened to, if so; 0 if only row numbers had room.
    """
    heads = [
        sort_head(text, "ascending" if key == "confidence" else None)
        for key, text in _HEADS.items()
    ]
    if listed.second is not None:
        heads.append(sort_head("second choice"))
    if listed.classes is not None:
        heads.append(sort_head("class"))
    if pictures:
        heads.insert(0, "<td></td>")
    n_listed, n_samples = len(listed.rows), len(listed.found.labels)
    text = (
        f"All {n_samples:,} samples, the least confident ones first."
        if n_listed == n_samples
        else f"The least confident and others, {n_listed:,} of {n_samples:,} samples, the least "
        "confident ones first."
    )
    if longest is not None:
        text += (
            f" Names are shortened to {longest} characters, to keep the page small."
            if longest
            else " Their names have no room on the page: row numbers stand for them."
        )
    return template(
        "samples.html",
        text=text,
        heads="".join(heads),
        what="name" if listed.classes is None else "name or class",
    )
