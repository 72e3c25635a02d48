"""The errors of the augmentations: each function builds one of them."""

from typing import Any

import torch

from ..exceptions import AugmentationError

Shape = tuple[int, ...]


def no_probability(name: str, value: float) -> ValueError:
    """Return the error for a number that is not a probability."""
    return ValueError(f"{name}={value}, expected a probability in [0, 1].")


def negative(name: str, value: float) -> ValueError:
    """Return the error for a number below 0."""
    return ValueError(f"{name}={value}, expected a number >= 0.")


def no_positive_range(name: str, value: Any) -> ValueError:
    """Return the error for two numbers that are not positive and ascending."""
    return ValueError(f"{name}={value}, expected 0 < {name}[0] <= {name}[1].")


def no_range_of_shares(name: str, value: Any) -> ValueError:
    """Return the error for two numbers that are not ascending shares of the area."""
    return ValueError(
        f"{name}={value}, expected two shares of the area, 0 < {name}[0] <= {name}[1] <= 1."
    )


def no_shear_angle(shear: float) -> ValueError:
    """Return the error for an angle that would fold the image."""
    return ValueError(f"shear={shear}, expected an angle in [0, 90).")


def too_few_knots(knots: int) -> ValueError:
    """Return the error for a grid without a second corner."""
    return ValueError(f"knots={knots}, expected an integer >= 2.")


def no_hue_shift(hue: float) -> ValueError:
    """Return the error for more than half a turn of the colours."""
    return ValueError(f"hue={hue}, expected a number in [0, 0.5].")


def no_kernel_size(kernel_size: int) -> ValueError:
    """Return the error for a kernel without a middle pixel."""
    return ValueError(f"kernel_size={kernel_size}, expected an odd number >= 1.")


def unknown_padding(padding: str) -> ValueError:
    """Return the error for the name of a padding that torch does not have."""
    return ValueError(f"padding={padding!r}, expected 'zeros', 'border' or 'reflection'.")


def recipe_does_not_fit(recipe: str, kind: str, sample_shape: Shape) -> AugmentationError:
    """Return the error for a recipe for rows on images, or the other way round."""
    hint = ", or image_shape for flattened images" if kind == "rows" else ""
    return AugmentationError(
        f"augmentation={recipe!r} does not fit: X holds {kind} of shape {sample_shape}. Pass "
        f"augmentation='auto'{hint}."
    )


def a_class(name: str) -> AugmentationError:
    """Return the error for a class in place of an instance."""
    return AugmentationError(
        f"augmentation={name} is a class, expected one of its instances, or another callable on a "
        f"batch. Pass augmentation={name}()."
    )


def not_copyable(name: str, error: Exception) -> AugmentationError:
    """Return the error for a module of which there can be only one."""
    return AugmentationError(
        f"The augmentation {name} cannot be copied: {error}. A fit moves a copy to its device, so "
        "expected a module that copy.deepcopy accepts. Make locks, open files and results of "
        "computations in its forward method and not in its constructor, or pass a function."
    )


def failed(name: str, shape: Shape, error: Exception) -> AugmentationError:
    """Return the error for an augmentation that raises one."""
    if len(shape) == 2:
        hint = "Steps for images do not vary rows: pass image_shape if X holds flattened images."
    else:
        hint = "Steps for rows, such as MarginalSwap, do not vary images."
    return AugmentationError(
        f"augmentation={name} failed on a float32 batch of shape {shape} with "
        f"{type(error).__name__}: {error}. Pass one that varies such a batch. {hint}"
    )


def no_batch(
    name: str, got: str, shape: Shape, device: torch.device, mend: str
) -> AugmentationError:
    """Return the error for an augmentation whose result is no batch."""
    expected = f"({shape[0]}, {shape[1]}{', H, W' if len(shape) == 4 else ''})"
    return AugmentationError(
        f"augmentation={name} returned {got} for a float32 batch of shape {shape} on {device}, "
        f"expected a dense tensor of floating point numbers of shape {expected} there. {mend}"
    )


def not_finite(name: str, shape: Shape) -> AugmentationError:
    """Return the error for an augmentation that makes NaN of numbers."""
    return AugmentationError(
        f"augmentation={name} made NaN or infinity of a finite batch of shape {shape}, expected "
        "finite numbers. Look for divisions by 0, and for roots and powers of negative numbers."
    )
