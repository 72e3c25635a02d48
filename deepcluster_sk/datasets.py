"""Loading image files into arrays."""

import os
from collections.abc import Sequence

import numpy as np
from sklearn.utils import Bunch

from ._data.image_files import checked_size, find_image_files, open_image_files

__all__ = ["load_image_folder"]


def load_image_folder(
    path: str | os.PathLike[str],
    image_size: int | Sequence[int] | str = "auto",
    *,
    on_error: str = "raise",
) -> Bunch:
    """Load the image files of a folder, its subfolders and those linked there into one array.

    The images are those that the estimators see when the folder is passed to them.

    Parameters
    ----------
    path : path-like
        Files ending in .bmp, .gif, .jpeg, .jpg, .pbm, .pgm, .png, .ppm, .tif, .tiff or .webp are
        taken, in the order of their paths. Hidden files and folders are left out. Their
        content must have one of these formats, whatever the suffix.
    image_size : int, tuple of 2 ints or "auto", default="auto"
        Height and width, or both in one number. ``"auto"`` is the median height and the median
        width of the files, at most 32 pixels each.
    on_error : {"raise", "skip"}, default="raise"
        Whether files that cannot be read are an error, which names all of them, or left out.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With these attributes:

        - images : ndarray of shape (n, H, W, 3) or, if all files are grey, (n, H, W), uint8
        - filenames : ndarray of shape (n,), str
        - skipped : list of str, the files that were left out

    Raises
    ------
    ImageFileError
        If the folder does not exist or has no image files, if files cannot be read, or if the
        images would take more memory than is available.
    ValueError
        If `image_size` or `on_error` is not as documented.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from deepcluster_sk.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a", "b"):
    ...         Image.new("RGB", (30, 20)).save(f"{folder}/{name}.png")
    ...     data = load_image_folder(folder)
    >>> data.images.shape, len(data.filenames)
    ((2, 20, 30, 3), 2)
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r}, expected 'raise' or 'skip'.")
    size = checked_size(image_size)
    files = find_image_files(path)
    opened = open_image_files(files, image_size=size, on_error=on_error, keep_all=True)
    kept = [name for i, name in enumerate(files) if i not in opened.skipped]
    return Bunch(images=opened.images, filenames=np.array(kept), skipped=[*opened.skipped.values()])
