"""The samples of a page for its script: columns of numbers and names, compressed."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .assignments import Assignments

MAX_LISTED = 100_000  # samples
MAX_DATA_BYTES = 1_700_000  # as text
_LEAST_CERTAIN = 20_000  # of more samples, these and an even share of the others
_LENGTHS = (250, 80, 40, 20)  # characters of a name; of a longer one the end is shown
_FULL = 65535  # a confidence of one
_NOWHERE = 0xFFFF  # as coordinate of samples without a place


class Listed(NamedTuple):
    """Samples on a page, and what is known of them."""

    rows: np.ndarray
    """Row numbers of those that the page lists, ascending."""
    found: Assignments
    """Of all samples."""
    names: list[str]
    """Of all samples."""
    classes: np.ndarray | None
    """Of all samples, str."""
    second: np.ndarray | None
    """Second choice of all samples, -1 for none."""
    positions: np.ndarray | None
    """Places of all samples on the map, shape (n, 2)."""

    def number_of(self, row: int) -> int:
        """Return the number of a sample on the page."""
        return int(np.searchsorted(self.rows, row))


def listed_rows(found: Assignments, wanted: np.ndarray) -> np.ndarray:
    """Choose the samples that a page lists: all, or those wanted, uncertain ones, and others."""
    n_samples = len(found.labels)
    if n_samples <= MAX_LISTED:
        return np.arange(n_samples)
    uncertain = np.argsort(found.confidence, kind="stable")[:_LEAST_CERTAIN]
    chosen = np.union1d(wanted, uncertain)
    others = np.setdiff1d(np.arange(n_samples), chosen)
    even = np.linspace(0, len(others) - 1, MAX_LISTED - len(chosen)).astype(np.intp)
    return np.union1d(chosen, others[even])


def second_choice(probabilities: np.ndarray, found: Assignments) -> np.ndarray | None:
    """Return the second most probable cluster of each sample, int64; -1 for none."""
    if found.n_clusters < 2:
        return None
    second = np.argsort(-np.nan_to_num(probabilities), axis=1, kind="stable")[:, 1]
    return np.where(found.labels >= 0, second, -1)


def packed_samples(
    listed: Listed, tiles: Mapping[int, int], more: Mapping[str, Any]
) -> tuple[str, int | None]:
    """Write the samples for the script of the page.

    Parameters
    ----------
    listed : Listed
    tiles : mapping of int to int
        By row number: which picture of its cluster's image a sample is.
    more : mapping
        What else the script needs, as JSON.

    Returns
    -------
    text : str
        Not more than 1.7 MB.
    longest : int or None
        Characters that names were shortened to, if so; 0 if only row numbers had room.
    """
    columns = _columns(listed, tiles)
    names = [listed.names[row] for row in listed.rows]
    header: dict[str, Any] = dict(more)
    header["total"] = len(listed.found.labels)
    header["clusters"] = listed.found.n_clusters
    if listed.classes is not None:
        kinds, columns["class"] = np.unique(listed.classes[listed.rows], return_inverse=True)
        header["classes"] = kinds.tolist()
    if names == [str(row) for row in listed.rows]:
        return packed(header, columns), None
    for length in _LENGTHS:
        header["names"] = [shortened(name, length) for name in names]
        text = packed(header, columns)
        if len(text) <= MAX_DATA_BYTES:
            return text, None if length == _LENGTHS[0] else length
    del header["names"]
    return packed(header, columns), 0


def _columns(listed: Listed, tiles: Mapping[int, int]) -> dict[str, np.ndarray]:
    """Return numbers of the listed samples, by the name of their column."""
    rows, found = listed.rows, listed.found
    columns = {
        "cluster": found.labels[rows],
        "confidence": np.round(found.confidence[rows] * _FULL).astype(np.uint16),
        "tile": np.array([tiles.get(row, -1) for row in rows.tolist()]),
    }
    if len(rows) < len(found.labels):
        columns["row"] = rows
    if listed.second is not None:
        columns["second"] = listed.second[rows]
    if listed.positions is not None:
        columns["x"], columns["y"] = quantized(listed.positions)[rows].T
    return columns


def quantized(positions: np.ndarray) -> np.ndarray:
    """Return places as integers (n, 2), uint16, on the same scale in both directions."""
    known = np.isfinite(positions).all(axis=1)
    whole = np.full(positions.shape, _NOWHERE, np.uint16)
    if known.any():
        places = positions[known] - positions[known].min(axis=0)
        whole[known] = np.round(places * ((_NOWHERE - 1) / (places.max() or 1)))
    return whole


def shortened(name: str, length: int = _LENGTHS[0]) -> str:
    """Return the end of a long name."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def packed(header: Mapping[str, Any], columns: Mapping[str, Sequence[int] | np.ndarray]) -> str:
    """Compress a JSON object and integers: its length, itself, and each column, in base64.

    Every part begins at a multiple of four bytes. The header gets the list of columns: name, type
    of the array in JavaScript, and number of values.
    """
    arrays = {name: _smallest(np.asarray(values)) for name, values in columns.items()}
    kinds = {np.uint8: "Uint8", np.int16: "Int16", np.uint16: "Uint16", np.int32: "Int32"}
    layout = [[name, f"{kinds[v.dtype.type]}Array", len(v)] for name, v in arrays.items()]
    text = json.dumps({**header, "columns": layout}, separators=(",", ":"), allow_nan=False)
    parts = [_padded(text.encode("ascii"), b" ")]
    parts += [
        _padded(v.astype(v.dtype.newbyteorder("<")).tobytes(), b"\0") for v in arrays.values()
    ]
    whole = len(parts[0]).to_bytes(4, "little") + b"".join(parts)
    return base64.b64encode(zlib.compress(whole, 9)).decode("ascii")


def _padded(part: bytes, filler: bytes) -> bytes:
    return part + filler * (-len(part) % 4)


def _smallest(values: np.ndarray) -> np.ndarray:
    """Return integers in the smallest type that the script can read."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in (np.uint8, np.int16, np.uint16):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return values.astype(kind)
    return values.astype(np.int32)
