"""Pictures of many samples as a few images inside the page."""

import base64
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .assignments import Assignments
from .html import SPRITE_COLUMNS
from .pictures import are_files, pictures

# pixels, WebP quality: the first that has room
_QUALITIES = [
    *((144, 75), (112, 75), (96, 75), (72, 78)),
    *((56, 70), (40, 60), (32, 40), (24, 20)),
]
_ENOUGH = 72  # pixels of arrays that have less than half of it
_PROBED = 64  # pictures that tell how much room all of them take


class Sprites(NamedTuple):
    """Images of many pictures each: one per cluster, and a last one for samples without one."""

    css: str
    """A class ``s0``, ``s1``, ... per image."""
    places: dict[int, tuple[int, int]]
    """By row number: image, and number of the picture within it."""


def chosen_rows(
    wanted: Iterable[np.ndarray], found: Assignments, known: np.ndarray, most: int
) -> np.ndarray:
    """Return the rows whose pictures are on the page.

    Parameters
    ----------
    wanted : iterable of ndarray of int
        Row numbers, the most important ones first.
    found : Assignments
    known : ndarray of shape (n,), bool
        Samples that could be read: only these have pictures.
    most : int
        How many. What the wanted ones leave free is spread evenly over the samples of each cluster.
    """
    rows = np.concatenate([np.empty(0, np.intp), *wanted])
    rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
    rows = rows[known[rows]][:most]
    others = np.setdiff1d(np.flatnonzero(known), rows)
    free = min(most - len(rows), len(others))
    if free:
        others = others[np.argsort(found.labels[others], kind="stable")]
        even = np.linspace(0, len(others) - 1, free).round().astype(np.intp)
        rows = np.concatenate([rows, others[even]])
    return np.sort(rows)


def sprites(
    samples: Any,
    rows: np.ndarray,
    found: Assignments,
    *,
    input_shape: tuple[int, ...] | None,
    most_bytes: int,
) -> Sprites:
    """Render the pictures of some rows, small enough for the page."""
    if len(rows) == 0:
        return Sprites("", {})
    image_of = np.where(found.labels[rows] >= 0, found.labels[rows], found.n_clusters)
    order = np.argsort(image_of, kind="stable")
    rows, image_of = rows[order], image_of[order]
    starts = np.searchsorted(image_of, np.arange(found.n_clusters + 2))
    numbers = np.arange(len(rows)) - starts[image_of]
    shown, images = _rendered(samples, rows, starts[1:-1], input_shape, most_bytes)
    height, width = shown[0] / max(shown), shown[1] / max(shown)
    rules = [f":root{{--w:{width:.4f};--h:{height:.4f};--columns:{SPRITE_COLUMNS}}}"]
    rules += [
        f".s{number}{{background-image:url(data:image/webp;base64,{image})}}"
        for number, image in enumerate(images)
        if image
    ]
    places = zip(image_of.tolist(), numbers.tolist(), strict=True)
    return Sprites("\n".join(rules), dict(zip(rows.tolist(), places, strict=True)))


def _rendered(
    samples: Any,
    rows: np.ndarray,
    ends: np.ndarray,
    input_shape: tuple[int, ...] | None,
    most_bytes: int,
) -> tuple[tuple[int, int], list[str]]:
    """Return height and width of a picture, and the images, of the best quality that has room."""
    for side, quality in _likely(samples, rows, input_shape, most_bytes):
        shown = pictures(samples, rows, input_shape=input_shape, side=side)
        images = [_webp(part, quality) if len(part) else "" for part in np.split(shown, ends)]
        if sum(map(len, images)) <= most_bytes:
            break
    return (shown.shape[1], shown.shape[2]), images


def _likely(
    samples: Any, rows: np.ndarray, input_shape: tuple[int, ...] | None, most_bytes: int
) -> list[tuple[int, int]]:
    """Return the qualities to try: not those for which some of the pictures show no room."""
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), _PROBED)).astype(np.intp)]
    largest = max(_ENOUGH, 2 * max(input_shape or (_ENOUGH,)))
    # files may have more pixels than what an encoder sees of them
    tried = [pair for pair in _QUALITIES if pair[0] <= largest or are_files(samples)]
    probe = pictures(samples, few, input_shape=input_shape, side=tried[0][0])
    for start, (side, quality) in enumerate(tried):
        if len(_webp(_resized(probe, side), quality)) * len(rows) <= most_bytes * len(few):
            return tried[start:]
    return tried[-1:]


def _resized(tiles: np.ndarray, side: int) -> np.ndarray:
    """Make pictures smaller, to a longer side."""
    height, width = tiles.shape[1:3]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack([np.asarray(Image.fromarray(tile).resize(size)) for tile in tiles])


def _webp(tiles: np.ndarray, quality: int) -> str:
    """Encode pictures (m, h, w[, 3]) as one image of ten columns, in base64."""
    height, width = tiles.shape[1:3]
    n_rows = -(-len(tiles) // SPRITE_COLUMNS)
    sprite = np.zeros((n_rows * height, SPRITE_COLUMNS * width, *tiles.shape[3:]), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // SPRITE_COLUMNS * height, i % SPRITE_COLUMNS * width
        sprite[y : y + height, x : x + width] = tile
    file = io.BytesIO()
    Image.fromarray(sprite).save(file, "WEBP", quality=quality)
    return base64.b64encode(file.getvalue()).decode("ascii")
