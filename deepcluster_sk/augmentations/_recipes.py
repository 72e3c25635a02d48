"""Named recipes, and the rule behind ``augmentation="auto"``."""

from collections.abc import Callable

from torch import Tensor

from . import _errors as errors
from ._base import Augmentation, Compose
from ._foreign import checked
from ._images import (
    ColorJitter,
    ElasticTransform,
    GaussianBlur,
    RandomAffine,
    RandomGamma,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from ._tabular import GaussianNoise, MarginalSwap

Size = tuple[int, int] | None


def images(
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    strength: float = 0.5,
    blur: bool = False,
    size: Size = None,
) -> Augmentation:
    """Recipe of the contrastive clustering papers for photographs.

    Crops, flips, colour jitter with probability 0.8, grey with probability
    0.2, and optionally blur with probability 0.5.

    Parameters
    ----------
    scale : tuple of 2 floats, default=(0.08, 1.0)
        Smallest and largest share of the area that a crop keeps.
    strength : float, default=0.5
        Multiplies the jitter of (0.8, 0.8, 0.8, 0.2); 0.5 is CC's for CIFAR, 1 for
        STL-10 and ImageNet.
    blur : bool, default=False
        Whether to blur; the papers do for ImageNet.
    size : tuple of 2 ints or None, default=None
        Height and width of the views; None keeps those of the images.

    Returns
    -------
    augmentation : Augmentation

    References
    ----------
    Li et al., "Contrastive clustering", AAAI 2021, section "Implementation details".
    """
    steps: list[Augmentation] = [
        RandomResizedCrop(scale=scale),
        RandomHorizontalFlip(),
        ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength, p=0.8),
        RandomGrayscale(p=0.2),
    ]
    return Compose([*steps, GaussianBlur()] if blur else steps, padding="border", size=size)


def digits(*, size: Size = None) -> Augmentation:
    """Recipe for images that a flip or a strong crop would change into another class.

    Gentle crops, rotations, shears and elastic bending; brightness, contrast and gamma.

    Parameters
    ----------
    size : tuple of 2 ints or None, default=None
        Height and width of the views; None keeps those of the images.

    Returns
    -------
    augmentation : Augmentation
    """
    return Compose(
        [
            RandomResizedCrop(scale=(0.7, 1.0), ratio=(1 / 1.15, 1.15)),
            RandomAffine(degrees=10, scale=(1 / 1.1, 1.0), shear=11),
            ElasticTransform(magnitude=0.05),
            ColorJitter(brightness=0.4, contrast=0.4),
            RandomGamma(strength=0.5),
        ],
        size=size,
    )


def rows() -> Augmentation:
    """Recipe for rows of features: 15 % swapped with other rows, and Gaussian noise.

    Returns
    -------
    augmentation : Augmentation
    """
    return Compose([MarginalSwap(p=0.15), GaussianNoise(std=0.3)])


RECIPES = ("images", "digits", "rows", "none")


def make_augmentation(
    spec: str | Callable[[Tensor], Tensor] | Augmentation,
    sample_shape: tuple[int, ...],
    size: Size = None,
) -> Augmentation:
    """Turn the ``augmentation`` parameter into an augmentation.

    Parameters
    ----------
    spec : str, Augmentation or callable
        ``"auto"`` is the recipe ``"rows"`` for rows, ``"digits"`` for grey images and ``"images"``
        for images in colour. A callable maps a batch to a batch of the same shape; the height and
        width of images may change. Modules are copied. ``"none"`` changes nothing.
    sample_shape : tuple of int
        ``(d,)`` or ``(C, H, W)``.
    size : tuple of 2 ints or None, default=None
        Height and width that a recipe for images produces.

    Raises
    ------
    AugmentationError
        If a recipe does not fit the samples, `spec` is a class, or a module cannot be copied.
    """
    if not isinstance(spec, str):
        return checked(spec)
    if spec == "none":
        return Compose([], size=size)
    is_rows = len(sample_shape) == 1
    if spec == "auto":
        spec = "rows" if is_rows else "digits" if sample_shape[0] == 1 else "images"
    if (spec == "rows") != is_rows:
        raise errors.recipe_does_not_fit(spec, "rows" if is_rows else "images", sample_shape)
    if spec == "rows":
        return rows()
    return images(size=size) if spec == "images" else digits(size=size)
