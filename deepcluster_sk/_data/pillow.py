"""Opening image files with Pillow: only the documented formats, and only what fits.

Left to itself, Pillow opens whatever it knows, by content and not by suffix. For an EPS file it
starts Ghostscript. Of images above its limit of pixels it only warns, in whatever thread it runs.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from .._runtime.files import special_kind
from . import errors

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# photos that are not decoded: of phones, of browsers, and the raw data of cameras
FOREIGN_SUFFIXES = frozenset(
    {".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".orf", ".raf"}
    | {".rw2"}
)
FORMATS = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,  # and MPO, several JPEGs in one file
        PngImagePlugin.PngImageFile,
        PpmImagePlugin.PpmImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)

# how files of other formats begin
_OTHERS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "XML or SVG",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}


@contextmanager
def opened_image(path: str | os.PathLike[str]) -> Iterator[ImageFile.ImageFile]:
    """Open an image file; its pixels are decoded when they are asked for.

    Raises
    ------
    OSError
        If there is no file, or it may not be read.
    ValueError
        If it is no regular file, has another format or too many pixels. Damaged files make Pillow
        raise errors of many other kinds.
    """
    kind = special_kind(path)
    if kind is not None:
        raise errors.no_regular_file(kind)
    if os.stat(path).st_size == 0:
        raise errors.empty_file()
    with open(path, "rb") as file:
        image = _identified(file, os.fspath(path))
        most, n_pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
        if most is not None and n_pixels > most:
            raise errors.too_many_pixels(image.size, most)
        yield image


def _identified(file: IO[bytes], path: str) -> ImageFile.ImageFile:
    """Return the image in a file; ``Image.open`` would warn before its size can be checked."""
    start = file.read(16)
    for name in FORMATS:
        make, accepts = Image.OPEN[str(name)]
        try:
            accepted = accepts is None or accepts(start)
            if accepted and not isinstance(accepted, str):  # a text says that WebP is missing
                file.seek(0)
                return make(file, path)
        except (SyntaxError, IndexError, TypeError, KeyError, struct.error):
            continue  # only the beginning looks like this format
    raise errors.unknown_format(_other_format(start), FORMATS)


def _other_format(start: bytes) -> str | None:
    """Name the format of a file that is not opened, if its first bytes tell."""
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12])
    return next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)


def is_transparent(image: Image.Image) -> bool:
    """Tell whether pixels of an image may be transparent."""
    return "A" in image.getbands() or "transparency" in image.info


def decoding_bytes(image: Image.Image) -> int:
    """Return the memory that decoding takes: as stored, turned upright, and converted."""
    stored = 1 if image.mode in ("1", "L", "P") else 4
    converted = 12 if is_transparent(image) else 4  # with transparency, the ground, and on it
    return image.width * image.height * (2 * stored + converted)
