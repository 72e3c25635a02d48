"""Samples of the report that need a look: those that fit nowhere, and those nearly the same."""

import numpy as np

from .assignments import Assignments
from .html import Places, called, section, tiles
from .report_data import Listed

_ODD = 48  # samples that fit nowhere
_GROUPS = 40  # of samples nearly the same
_PER_GROUP = 10  # pictures
_IN_FILE = 20_000  # samples of groups that can be selected and downloaded

_BY_TYPICALITY = (
    "The least typical samples: those with the lowest values of <code>score_samples</code>, which "
    "are below the pictures, lowest first. Odd samples that are alike form a cluster of their own "
    "and are not among them: look at small clusters as well."
)
_BY_CONFIDENCE = (
    "The samples with the lowest confidence, lowest first: no cluster is much more probable than "
    "another."
)


def odd_rows(found: Assignments, typical: np.ndarray | None) -> np.ndarray:
    """Return the row numbers of the samples that fit nowhere, the oddest first."""
    if typical is None:
        rows = np.flatnonzero(found.labels >= 0)
        return rows[np.argsort(found.confidence[rows], kind="stable")][:_ODD]
    rows = np.flatnonzero(np.isfinite(typical))
    return rows[np.argsort(typical[rows], kind="stable")][:_ODD]


def kept_groups(groups: list[np.ndarray]) -> list[np.ndarray]:
    """Return the groups that have room on the page, the largest ones; a huge one is cut."""
    room = np.cumsum([0, *map(len, groups)])
    return [group[: _IN_FILE - n] for group, n in zip(groups, room, strict=False) if n < _IN_FILE]


def odd_section(
    rows: np.ndarray, typical: np.ndarray | None, listed: Listed, places: Places
) -> str:
    """Render the samples that fit nowhere."""
    if len(rows) == 0:
        return ""
    if typical is None:
        text, values = _BY_CONFIDENCE, [f"{c:.1%}" for c in listed.found.confidence[rows]]
    else:
        text, values = _BY_TYPICALITY, [f"{value:.3g}" for value in typical[rows]]
    shown = {
        int(row): f"{_cluster(row, listed)} · {value}"
        for row, value in zip(rows, values, strict=True)
    }
    button = f"<p>{_select_button('odd', 0, 'these samples')}</p>"
    return section(
        "odd", "Fits nowhere", f"<p>{text}</p>\n{button}\n{tiles(shown, listed, places, shown)}"
    )


def same_section(groups: list[np.ndarray], listed: Listed, places: Places) -> str:
    """Render the groups of samples that are nearly the same, the largest first."""
    if not groups:
        return ""
    n_samples = sum(map(len, groups))
    n_copies = n_samples - len(groups)
    counted = f"{len(groups):,} {'group' if len(groups) == 1 else 'groups'}"
    fewer = f"{n_copies:,} {'sample' if n_copies == 1 else 'samples'} fewer"
    shown = "" if len(groups) <= _GROUPS else f" The {_GROUPS} largest are shown."
    parts = [
        f"<p>{counted} with {n_samples:,} samples. With one of each, {fewer}.{shown}</p>",
        '<p><button type="button" id="same-csv">Download all groups as CSV</button></p>',
    ]
    for number, group in enumerate(groups[:_GROUPS]):
        below = {int(row): _cluster(row, listed) for row in group[:_PER_GROUP]}
        button = _select_button("same", number, f"the {len(group):,} samples of group {number + 1}")
        parts.append(
            f'<div class="same"><p><b>{len(group):,} samples</b> {button}</p>'
            f"{tiles(below, listed, places, below)}</div>"
        )
    return section("same", "Nearly the same", "\n".join(parts))


def _cluster(row: int, listed: Listed) -> str:
    cluster = int(listed.found.labels[row])
    return "no cluster" if cluster < 0 else called(cluster, long=True)


def _select_button(of: str, number: int, what: str) -> str:
    """Render the button that selects samples on the map."""
    return (
        f'<button type="button" class="select" data-set="{of}" data-number="{number}" '
        f'aria-label="Select {what} on the map">Select on the map</button>'
    )
