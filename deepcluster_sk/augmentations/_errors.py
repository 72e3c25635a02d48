"""The errors of the augmentations: each function builds one of them."""

from typing import Any


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


def recipe_does_not_fit(recipe: str, kind: str, sample_shape: tuple[int, ...]) -> ValueError:
    """Return the error for a recipe for rows on images, or the other way round."""
    hint = ", or image_shape for flattened images" if kind == "rows" else ""
    return ValueError(
        f"augmentation={recipe!r} does not fit: X holds {kind} of shape {sample_shape}. Pass "
        f"augmentation='auto'{hint}."
    )
