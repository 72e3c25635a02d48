"""The errors of what a user passes as X: each function builds one of them."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..exceptions import ImageFileError

_MOST_NAMED = 20  # unreadable files that an error lists
MISSING = "no such file"  # the reason why one cannot be read


def no_folder(folder: str | os.PathLike[str]) -> ImageFileError:
    """Return the error for a folder of images that is a file, or does not exist."""
    what = "is a file, not a folder" if os.path.isfile(folder) else "does not exist"
    return ImageFileError(
        f"{os.fspath(folder)!r} {what}. Pass the folder of the images, or a list of paths."
    )


def no_image_files(
    folder: str | os.PathLike[str], suffixes: Sequence[str], foreign: str
) -> ImageFileError:
    """Return the error for a folder in which no file has the suffix of an image.

    `foreign` says how many photos there are in formats that are not read.
    """
    advice = f" Export its {foreign} as JPEG or PNG." if foreign else ""
    return ImageFileError(
        f"The folder {os.fspath(folder)!r} holds no image files, expected at least one with a "
        f"suffix among {', '.join(suffixes)}.{advice}"
    )


def bad_image_size(image_size: Any) -> ValueError:
    """Return the error for a size that is not a number of pixels or two of them."""
    return ValueError(
        f"image_size={image_size!r}, expected 'auto', a positive integer, or (height, width)."
    )


def too_large_to_scale(where: str, value: float) -> ValueError:
    """Return the error for values that float32 does not hold, or not their differences."""
    return ValueError(
        f"X contains {value:g} in {where}, which is too large to be scaled: values, and their "
        "spread, should be below 1e37. Divide them by a constant, or remove them."
    )


def unknown_pixel_range(kind: str) -> ValueError:
    """Return the error for pixels whose black and white cannot be told; part of another one."""
    return ValueError(f"pixels are {kind} of unknown range, save the file with 8 bits")


def no_regular_file(kind: str) -> ValueError:
    """Return the error for a pipe, a device or a folder among image files; part of another one."""
    return ValueError(f"{kind}, expected a regular file")


def empty_file() -> ValueError:
    """Return the error for an image file without content; part of another one."""
    return ValueError("an empty file of 0 bytes")


def unknown_format(name: str | None, known: Sequence[str | None]) -> ValueError:
    """Return the error for a file that is not opened; part of another one."""
    what = "not an image, or damaged at its beginning" if name is None else f"of the format {name}"
    return ValueError(f"{what}; formats that are read: {', '.join(map(str, known))}")


def too_many_pixels(size: tuple[int, int], most: int) -> ValueError:
    """Return the error for a file whose header names a huge image; part of another one."""
    return ValueError(
        f"{size[0]:,} x {size[1]:,} pixels, above the limit of {most:,}; raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust the file"
    )


def image_larger_than_memory(size: tuple[int, int], needed: int, available: int) -> ValueError:
    """Return the error for an image that cannot be decoded; part of another one."""
    return ValueError(
        f"decoding {size[0]:,} x {size[1]:,} pixels takes {needed:,} bytes of memory, of which "
        f"{available:,} are available; save it smaller"
    )


def images_larger_than_memory(
    n: int, shape: tuple[int, ...], n_bytes: int, available: int
) -> ImageFileError:
    """Return the error for images that are too large in the size they are converted to."""
    what = "One image" if n == 1 else f"{n:,} images together, each"
    return ImageFileError(
        f"{what} of shape {shape} would take {n * n_bytes:,} bytes of memory, of which "
        f"{available:,} are available. Choose a smaller image_size."
    )


def unreadable_files(paths: Sequence[str], reasons: dict[int, str]) -> ImageFileError:
    """Return the error that names the files that cannot be read, by position."""
    named = sorted(reasons)[:_MOST_NAMED]
    lines = [f"  {_shortened(paths[i])}: {reasons[i]}" for i in named]
    if len(reasons) > len(named):
        lines.append(f"  and {len(reasons) - len(named)} more")
    advice = (
        "Replace or remove them, or pass on_error='skip' to leave out those that cannot be read."
    )
    if len(reasons) == len(paths) and set(reasons.values()) == {MISSING}:
        advice = (
            "Strings are taken for paths of image files: pass paths that start from the current "
            "folder, or absolute ones. To cluster texts, embed them with a language model and pass "
            "the array of embeddings."
        )
    return ImageFileError(
        f"{len(reasons)} of {len(paths)} image files cannot be read:\n" + "\n".join(lines) + "\n"
        f"{advice}"
    )


def file_has_changed(path: str, reason: str) -> ImageFileError:
    """Return the error for a file that was decoded once and cannot be decoded again."""
    return ImageFileError(
        f"{path!r} could be read before and cannot any more: {reason}. Leave the files in place "
        "while they are in use."
    )


def empty_dataset(name: str) -> ValueError:
    """Return the error for a torch dataset without items."""
    return ValueError(f"The dataset {name} is empty, expected at least one item.")


def unknown_item_type(number: int, sample: Any) -> TypeError:
    """Return the error for an item that cannot be a sample; part of the next one for item 0."""
    return TypeError(
        f"item {number} of the dataset is of type {type(sample).__name__}, expected a tensor, an "
        "array or a PIL image"
    )


def no_map_style_dataset(name: str, error: Exception) -> TypeError:
    """Return the error for a torch dataset whose items cannot be asked for by number."""
    return TypeError(
        f"The torch dataset {name} cannot be read by number ({error}). Pass a map-style dataset "
        "with __len__ and __getitem__, whose items are tensors, arrays or PIL images, or tuples "
        "that begin with one."
    )


def different_item(number: int, item: np.ndarray, shape: tuple[int, ...], dtype: Any) -> ValueError:
    """Return the error for an item that differs from the first one in shape or dtype."""
    return ValueError(
        f"Item {number} of the dataset has shape {item.shape} and dtype {item.dtype}, expected "
        f"{shape} and {dtype} as item 0 has. Resize and convert the items in the dataset."
    )


def _shortened(path: str) -> str:
    text = repr(path)
    return text if len(text) <= 300 else f"{text[:300]}...'"
