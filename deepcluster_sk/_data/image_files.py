"""Image files: finding, decoding, and reading them piece by piece."""

import math
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import Literal, NamedTuple

import joblib
import numpy as np
from PIL import Image, ImageOps

from .._runtime.device import available_memory
from .._runtime.progress import progress_bar
from . import errors
from .pillow import FOREIGN_SUFFIXES, SUFFIXES, decoding_bytes, is_transparent, opened_image
from .preprocessing import Layout

ImageSize = tuple[int, int] | Literal["auto"]

_AUTO_SIDE = 32  # most of "auto": what the small network takes, and clusters without a GPU
_MEMORY_SHARE = 0.25  # of the available memory that decoded images may take
_ALWAYS = 2**24  # bytes that decoding one image may take without a look at the memory
_AT_ONCE = 4096  # files handed to the threads together
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_one_large_image = Lock()
_MODE = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels


class Resizing(NamedTuple):
    """How images get another size."""

    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    keeps_aspect: bool = False
    """Whether the middle part of the new aspect ratio is taken, or all of the image."""


STRETCHED = Resizing()


def find_image_files(folder: str | os.PathLike[str]) -> list[str]:
    """Return the image files of a folder and its subfolders, sorted by path.

    Files are taken by suffix, in upper or lower case; hidden files and folders are left out. Links
    to folders are followed; a folder that can be reached in several ways is searched once. What has
    the suffix of an image and is no file, such as a pipe or a link to nowhere, is among them: an
    error that names it follows when it is opened.

    Warns
    -----
    UserWarning
        If photos are left out that are there in a format alone that is not read, such as HEIC.

    Raises
    ------
    ImageFileError
        If the path is not a folder, or the folder holds no image file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise errors.no_folder(folder)
    files = list(_visible_files(root))
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    foreign = _left_out(files, {path.with_suffix("") for path in found})
    if not found:
        raise errors.no_image_files(folder, sorted(SUFFIXES), foreign)
    if foreign:
        warnings.warn(
            f"{foreign} in {os.fspath(folder)!r} are left out: formats that are not read. Export "
            "them as JPEG or PNG to include them.",
            UserWarning,
            stacklevel=2,
        )
    # by parts: paths of Windows compare without regard to case, and the order would be another one
    return [os.fspath(path) for path in sorted(found, key=lambda path: path.parts)]


def _left_out(files: Iterable[Path], read: Container[Path]) -> str:
    """Say how many photos there are in other formats alone, such as "2 .heic files".

    Cameras often store a photo twice: those that are read under the same name are not counted.
    """
    others = (path for path in files if path.suffix.lower() in FOREIGN_SUFFIXES)
    counts = Counter(path.suffix.lower() for path in others if path.with_suffix("") not in read)
    return " and ".join(
        f"{n:,} {suffix} {'file' if n == 1 else 'files'}" for suffix, n in sorted(counts.items())
    )


def _visible_files(root: Path) -> Iterator[Path]:
    """Yield all files, those behind links last: a folder beside a link to it keeps its own name."""
    seen: set[str] = set()
    waiting = deque([os.fspath(root)])
    while waiting:
        for folder, subfolders, names in os.walk(waiting.popleft()):
            real = os.path.realpath(folder)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            inside = (os.path.join(folder, name) for name in subfolders)
            waiting += [path for path in inside if os.path.islink(path)]
            yield from (Path(folder, name) for name in names if not name.startswith("."))


def to_array(image: Image.Image, layout: Layout, resizing: Resizing = STRETCHED) -> np.ndarray:
    """Return an opened image as uint8 array of ``layout.shape``.

    It is turned as its EXIF orientation says, laid on white if it is transparent and the layout is
    not, of 16 bits the upper 8 are taken, and it is resized.
    """
    n_channels, height, width = layout.sample_shape
    image = _eight_bits(ImageOps.exif_transpose(image))
    if n_channels < 4 and is_transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(_MODE[n_channels])
    if image.size != (width, height):
        resample = Image.Resampling[resizing.interpolation.upper()]
        if resizing.keeps_aspect:
            image = ImageOps.fit(image, (width, height), resample)
        else:
            image = image.resize((width, height), resample)
    pixels = np.asarray(image)
    if layout.channels == "first" and n_channels > 1:
        pixels = pixels.transpose(2, 0, 1)
    return pixels.reshape(layout.shape)


def pillow_to_array(image: Image.Image) -> np.ndarray:
    """Return an opened image in its own size, as (H, W) if it is grey and else as (H, W, 3)."""
    image = ImageOps.exif_transpose(image)
    size = (image.height, image.width)
    return to_array(image, Layout(size) if image.mode in _GREY else Layout((*size, 3), "last"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Reduce 16 bits to 8; Pillow's own conversion would cut off everything above 255."""
    if image.mode == "F":
        raise errors.unknown_pixel_range("floating-point numbers")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    pixels = np.asarray(image)
    if pixels.size and (pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max):
        raise errors.unknown_pixel_range("integers of 32 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


@contextmanager
def room_for(image: Image.Image) -> Iterator[None]:
    """Hold back images that are large beside the memory, so that they are decoded one by one.

    Raises
    ------
    ValueError
        If there is not enough memory for one.
    """
    needed = decoding_bytes(image)
    if needed <= _ALWAYS:
        yield
        return
    crowded = needed * _n_threads() > available_memory()
    with _one_large_image if crowded else nullcontext():
        available = available_memory()
        if needed > available:
            raise errors.image_larger_than_memory(image.size, needed, available)
        yield


def _decode(path: str, layout: Layout, resizing: Resizing) -> np.ndarray:
    """Read one file."""
    with opened_image(path) as image:
        side = 2 * max(layout.sample_shape[1:])
        image.draft(None, (side, side))  # large JPEGs are decoded at a fraction of their size
        with room_for(image):
            return to_array(image, layout, resizing)


class _Header(NamedTuple):
    """What the header of a file tells."""

    height: int
    width: int
    is_grey: bool


def _read_header(path: str) -> _Header:
    with opened_image(path) as image:
        width, height = image.size
        if image.getexif().get(0x0112, 1) >= 5:  # turned by a quarter
            width, height = height, width
        return _Header(height, width, image.mode in _GREY)


def _layout_of(headers: Sequence[_Header], image_size: ImageSize) -> Layout:
    """Choose size and channels for files.

    "auto" is the median height and the median width, at most 32 pixels each. Grey files alone have
    no channel axis.
    """
    if isinstance(image_size, str):
        median = np.median([(h.height, h.width) for h in headers], axis=0)
        height, width = (min(round(float(side)), _AUTO_SIDE) for side in median)
    else:
        height, width = image_size
    if all(header.is_grey for header in headers):
        return Layout((height, width))
    return Layout((height, width, 3), "last")


def checked_size(image_size: int | Sequence[int] | str) -> ImageSize:
    """Return the parameter ``image_size`` as height and width, or "auto"."""
    if image_size == "auto":
        return "auto"
    sides = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise errors.bad_image_size(image_size)
    return int(sides[0]), int(sides[1])


class ImageFiles:
    """Image files that are decoded whenever they are read.

    Parameters
    ----------
    paths : sequence of str
    layout : Layout
        Size and channels that they are converted to.
    resizing : Resizing, default=STRETCHED

    Attributes
    ----------
    shape : tuple of int
        ``(n, *layout.shape)``.
    dtype : dtype
        uint8.
    """

    def __init__(
        self, paths: Sequence[str], layout: Layout, resizing: Resizing = STRETCHED
    ) -> None:
        self.paths = paths
        self.resizing = resizing
        self.layout = layout
        self.shape = (len(paths), *layout.shape)
        self.dtype = np.dtype(np.uint8)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Decode some files."""
        positions = np.arange(len(self.paths))[rows]
        images = np.empty((len(positions), *self.layout.shape), dtype=self.dtype)

        def decode(i: int) -> None:
            path = self.paths[positions[i]]
            try:
                images[i] = _decode(path, self.layout, self.resizing)
            except MemoryError:
                raise
            except Exception as error:  # damaged files make Pillow raise errors of many kinds
                raise errors.file_has_changed(path, _reason(error)) from error

        with ThreadPoolExecutor(_n_threads()) as pool:
            list(pool.map(decode, range(len(positions))))
        return images


class OpenedFiles(NamedTuple):
    """Files that have been decoded once, and what became of them."""

    images: np.ndarray | ImageFiles
    """Decoded, if they fit into a quarter of the available memory; else read when asked for."""
    layout: Layout
    skipped: dict[int, str]
    """Paths of unreadable files, by position among all."""


def open_image_files(
    paths: Sequence[str],
    *,
    layout: Layout | None = None,
    image_size: ImageSize = "auto",
    on_error: str = "raise",
    verbose: bool = False,
    keep_all: bool = False,
    resizing: Resizing = STRETCHED,
) -> OpenedFiles:
    """Decode all files once, and keep the images if they fit into the memory.

    Parameters
    ----------
    paths : sequence of str
    layout : Layout or None, default=None
        Size and channels; None chooses them by `image_size` and the files.
    image_size : (int, int) or "auto", default="auto"
    on_error : {"raise", "skip"}, default="raise"
    verbose : bool, default=False
        Whether to show a progress bar.
    keep_all : bool, default=False
        Whether to keep the images even if they take most of the memory.
    resizing : Resizing, default=STRETCHED

    Raises
    ------
    ImageFileError
        If files cannot be read; with ``on_error="skip"``, if no file can. One error names all.
        Also if one image, or with `keep_all` all of them, would take more than the memory.
    """
    reasons: dict[int, str] = {}
    if layout is None:
        headers: dict[int, _Header] = {}

        def look(i: int) -> None:
            headers[i] = _read_header(paths[i])

        reasons |= _for_each(look, paths, range(len(paths)))
        if not headers:
            raise errors.unreadable_files(paths, reasons)
        layout = _layout_of(list(headers.values()), image_size)
    fits = _fit_into_memory(len(paths), layout, keep_all)
    cache = np.empty((len(paths) if fits else 0, *layout.shape), dtype=np.uint8)

    def decode(i: int) -> None:
        pixels = _decode(paths[i], layout, resizing)
        if fits:
            cache[i] = pixels

    todo = [i for i in range(len(paths)) if i not in reasons]
    reasons |= _for_each(decode, paths, todo, verbose=verbose)
    good = [i for i in range(len(paths)) if i not in reasons]
    if reasons and (on_error == "raise" or not good):
        raise errors.unreadable_files(paths, reasons)
    skipped = {i: paths[i] for i in sorted(reasons)}
    if fits:
        return OpenedFiles(cache[good] if skipped else cache, layout, skipped)
    files = ImageFiles([paths[i] for i in good], layout, resizing)
    return OpenedFiles(files, layout, skipped)


def _fit_into_memory(n: int, layout: Layout, keep_all: bool) -> bool:
    """Tell whether decoded images can be kept; refuse those of which not even one can."""
    available = available_memory()
    n_bytes = math.prod(layout.shape)
    n_needed = n if keep_all else 1
    if n_needed * n_bytes > available:
        raise errors.images_larger_than_memory(n_needed, layout.shape, n_bytes, available)
    return keep_all or n * n_bytes <= _MEMORY_SHARE * available


def _for_each(
    function: Callable[[int], None],
    paths: Sequence[str],
    positions: Sequence[int],
    *,
    verbose: bool = False,
) -> dict[int, str]:
    """Call a function for files in several threads; return why some failed, by position."""

    def attempt(i: int) -> str | None:
        try:
            function(i)
        except MemoryError:
            raise
        except Exception as error:  # damaged files make Pillow raise errors of many kinds
            return _reason(error)
        return None

    reasons: dict[int, str] = {}
    with ThreadPoolExecutor(_n_threads()) as pool, _Bar(len(positions), verbose) as bar:
        for start in range(0, len(positions), _AT_ONCE):
            chunk = positions[start : start + _AT_ONCE]
            for i, reason in zip(chunk, pool.map(attempt, chunk), strict=True):
                bar.update()
                if reason is not None:
                    reasons[i] = reason
    return reasons


class _Bar:
    """A progress bar, or nothing."""

    def __init__(self, total: int, verbose: bool) -> None:
        self._bar = None
        if verbose:
            self._bar = progress_bar(total=total, desc="Reading images", unit="file", leave=False)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self) -> None:
        if self._bar is not None:
            self._bar.update()


def _n_threads() -> int:
    n_cores: int = joblib.cpu_count()
    return min(32, n_cores)


def _reason(error: Exception) -> str:
    """Say in a few words why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return errors.MISSING
    return str(error) or type(error).__name__
