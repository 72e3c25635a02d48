"""Augmentation steps for images, with the names and parameters of torchvision's.

torchvision draws once per call; here every image of the batch gets its own draw.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _errors as errors
from ._base import (
    Augmentation,
    ColorStep,
    DisplacementStep,
    Draw,
    GeometricStep,
    chosen,
    homogeneous,
    uniform,
)
from ._checks import not_negative, positive_range, probability

# ITU-R 601 luma, the weights of Pillow and torchvision
_LUMA = (0.299, 0.587, 0.114)


class RandomResizedCrop(GeometricStep):
    """Crop a random area and aspect ratio, resized to the full image.

    A crop that would not fit is clamped to the image, where torchvision draws again.

    Parameters
    ----------
    scale : tuple of 2 floats, default=(0.08, 1.0)
        Range of the share of the area, in (0, 1].
    ratio : tuple of 2 floats, default=(3/4, 4/3)
        Range of width / height, drawn uniformly in its logarithm.

    Raises
    ------
    ValueError
        If a range is empty or outside of its domain.
    """

    per_sample = True

    def __init__(
        self,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        super().__init__()
        if not 0 < scale[0] <= scale[1] <= 1:
            raise errors.no_range_of_shares("scale", scale)
        self.scale = scale
        self.ratio = positive_range("ratio", ratio)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw size and centre of the crops, shapes (n, 2), as x and y in [-1, 1] coordinates."""
        n, _, height, width = shape
        area = uniform(n, *self.scale, generator)
        ratio = uniform(n, math.log(self.ratio[0]), math.log(self.ratio[1]), generator).exp()
        ratio = ratio * (height / width)  # from pixels to the relative coordinates of the image
        size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
        position = uniform(2 * n, -1, 1, generator).view(n, 2)
        return size, position * (1 - size)

    def matrix(self, draw: Draw) -> Tensor:
        """Scale to the crop's size, then move to its centre."""
        size, center = draw
        return homogeneous(torch.diag_embed(size), center)


class RandomHorizontalFlip(GeometricStep):
    """Mirror left and right.

    Parameters
    ----------
    p : float, default=0.5
        Probability, per image.
    """

    per_sample = True

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = probability("p", p)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw which images are flipped, shape (n,)."""
        return (chosen(shape[0], self.p, generator),)

    def matrix(self, draw: Draw) -> Tensor:
        """Negate the x axis of the chosen images."""
        (flipped,) = draw
        sign = 1 - 2 * flipped.float()
        diagonal = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=1)
        return torch.diag_embed(diagonal)


class RandomAffine(GeometricStep):
    """Rotate, shift, scale and shear about the centre of the image.

    Parameters
    ----------
    degrees : float, default=0
        Angles are drawn from ``U(-degrees, degrees)``.
    translate : float, default=0
        Largest shift, as a share of width and height.
    scale : tuple of 2 floats, default=(1, 1)
        Range of the magnification, drawn uniformly in its logarithm.
    shear : float, default=0
        Angles of a shear parallel to the x axis are drawn from ``U(-shear, shear)`` degrees.

    Raises
    ------
    ValueError
        If a range is empty or outside of its domain.
    """

    per_sample = True

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= shear < 90:
            raise errors.no_shear_angle(shear)
        self.degrees = degrees
        self.translate = translate
        self.scale = positive_range("scale", scale)
        self.shear = shear

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw angle (n,), shift (n, 2), scale (n,), shear (n,), and keep width / height."""
        n, _, height, width = shape
        angle = uniform(n, -self.degrees, self.degrees, generator)
        shift = uniform(2 * n, -self.translate, self.translate, generator).view(n, 2)
        low, high = (math.log(s) for s in self.scale)
        scale = uniform(n, low, high, generator).exp()
        shear = uniform(n, -self.shear, self.shear, generator)
        return angle, shift, scale, shear, torch.full((1,), width / height, device=angle.device)

    def matrix(self, draw: Draw) -> Tensor:
        """Invert ``shift * rotation * scale * shear``, as the matrix maps output to input."""
        angle, shift, scale, shear, aspect = draw
        angle, tan = torch.deg2rad(angle), torch.deg2rad(shear).tan()
        cos, sin = angle.cos() / scale, angle.sin() / scale
        one, zero = torch.ones_like(cos), torch.zeros_like(cos)
        rotation = _matrix2(cos, sin, -sin, cos)
        # in coordinates where pixels are square
        square = _matrix2(one, tan, zero, one) @ rotation
        stretch = torch.stack([aspect, torch.ones_like(aspect)], dim=1)
        linear = square * stretch[:, None, :] / stretch[:, :, None]
        # a shift by the share s of the width is 2 s in coordinates that run from -1 to 1
        return homogeneous(linear, -(linear @ (2 * shift)[:, :, None])[:, :, 0])


class ElasticTransform(DisplacementStep):
    """Bend the image smoothly, like handwriting or cloth.

    Parameters
    ----------
    magnitude : float, default=0.07
        Standard deviation of the displacements at the knots, in units of half the image.
    knots : int, default=4
        Displacements are drawn on a grid of ``knots x knots`` points from corner to corner, and
        interpolated bicubically in between; at least 2.

    Raises
    ------
    ValueError
        If `magnitude` is negative or `knots` below 2.

    References
    ----------
    Simard et al., "Best practices for convolutional neural networks applied to visual document
    analysis", ICDAR 2003.
    """

    per_sample = True

    def __init__(self, magnitude: float = 0.07, knots: int = 4) -> None:
        super().__init__()
        if knots < 2:
            raise errors.too_few_knots(knots)
        self.magnitude = not_negative("magnitude", magnitude)
        self.knots = knots

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw the displacements at the knots, shape (n, 2, knots, knots)."""
        knots = (shape[0], 2, self.knots, self.knots)
        noise = torch.randn(knots, generator=generator, device=generator.device)
        return (noise * self.magnitude,)

    def weights(self, draw: Draw) -> Tensor:
        """Take the displacements at the knots."""
        knots: Tensor = draw[0]
        return knots.flatten(2)

    def fields(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Interpolate bicubically a field for each knot: 1 there, 0 at all others."""
        units = torch.eye(self.knots**2, device=device).view(-1, 1, self.knots, self.knots)
        return F.interpolate(units, size=size, mode="bicubic", align_corners=True).flatten(1)


class ColorJitter(ColorStep):
    """Change brightness, contrast, saturation and hue, in this order.

    The order is fixed where torchvision draws one. Contrast turns about the mean grey of the
    image before clamping. Hue is a rotation of the colours about the grey axis: it keeps
    ``R + G + B`` and equals torchvision's HSV shift at multiples of one third of a turn.

    Parameters
    ----------
    brightness, contrast, saturation : float, default=0
        Factors are drawn from ``U(max(0, 1 - value), 1 + value)``. Grey images ignore saturation.
    hue : float, default=0
        Shifts are drawn from ``U(-hue, hue)`` turns, at most 0.5. Grey images ignore it.
    p : float, default=1
        Probability that an image is touched at all.

    Raises
    ------
    ValueError
        If a value is negative or `hue` is above 0.5.
    """

    per_sample = True

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= hue <= 0.5:
            raise errors.no_hue_shift(hue)
        self.brightness = not_negative("brightness", brightness)
        self.contrast = not_negative("contrast", contrast)
        self.saturation = not_negative("saturation", saturation)
        self.hue = hue
        self.p = probability("p", p)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw three factors and a hue shift, each (n,): 1 and 0 where an image is not chosen."""
        touched = chosen(shape[0], self.p, generator)
        draws = []
        for value in (self.brightness, self.contrast, self.saturation):
            factor = uniform(shape[0], max(0.0, 1 - value), 1 + value, generator)
            draws.append(torch.where(touched, factor, 1.0))
        hue = uniform(shape[0], -self.hue, self.hue, generator)
        return (*draws, torch.where(touched, hue, 0.0))

    def color_matrix(self, draw: Draw, mean: Tensor) -> Tensor:
        """Multiply the four maps; each is affine in the colour."""
        brightness, contrast, saturation, hue = draw
        n_channels = mean.shape[1]
        n_color = min(n_channels, 3)
        luma = _luma(n_color, mean)
        eye = torch.eye(n_color, device=mean.device)
        grey = (mean[:, :n_color] @ luma) * brightness
        linear = (contrast * brightness)[:, None, None] * eye
        offset = ((1 - contrast) * grey)[:, None].expand(-1, n_color)
        if n_color == 3:
            to_grey = luma.expand(3, 3)
            saturate = saturation[:, None, None]
            color = _hue_rotation(hue) @ (saturate * eye + (1 - saturate) * to_grey)
            linear, offset = color @ linear, (color @ offset[:, :, None])[:, :, 0]
        return _keep_alpha(homogeneous(linear, offset), n_channels)


class RandomGrayscale(ColorStep):
    """Replace the colours by their grey value. Grey images stay as they are.

    Parameters
    ----------
    p : float, default=0.1
        Probability, per image.
    """

    per_sample = True

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = probability("p", p)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw which images turn grey, shape (n,)."""
        return (chosen(shape[0], self.p, generator),)

    def color_matrix(self, draw: Draw, mean: Tensor) -> Tensor:
        """Give each channel the luma of all, for the chosen images."""
        (grey,) = draw
        n_channels = mean.shape[1]
        n_color = min(n_channels, 3)
        to_grey = _luma(n_color, mean).expand(n_color, n_color)
        eye = torch.eye(n_color, device=mean.device)
        linear = torch.where(grey[:, None, None], to_grey, eye)
        return _keep_alpha(homogeneous(linear, mean.new_zeros(len(mean), n_color)), n_channels)


class RandomGamma(Augmentation):
    """Raise the values to a random power: dark and bright parts change places in importance.

    Parameters
    ----------
    strength : float, default=0.5
        Exponents are drawn from ``exp(U(-strength, strength))``.

    Raises
    ------
    ValueError
        If `strength` is negative.
    """

    per_sample = True

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        self.strength = not_negative("strength", strength)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw the exponents, shape (n,)."""
        return (uniform(shape[0], -self.strength, self.strength, generator).exp(),)

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Raise each pixel to the power of its image."""
        (exponent,) = draw
        return x.pow(exponent[:, None, None, None])


class GaussianBlur(Augmentation):
    """Blur with a Gaussian of random width.

    Parameters
    ----------
    kernel_size : int, default=23
        Odd size of the kernel in pixels; capped at the largest odd size below twice the image.
    sigma : tuple of 2 floats, default=(0.1, 2.0)
        Range of the standard deviation in pixels.
    p : float, default=0.5
        Probability, per image.

    Raises
    ------
    ValueError
        If `kernel_size` is even or not positive, or `sigma` is an empty range.
    """

    per_sample = True

    def __init__(
        self, kernel_size: int = 23, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise errors.no_kernel_size(kernel_size)
        self.kernel_size = kernel_size
        self.sigma = positive_range("sigma", sigma)
        self.p = probability("p", p)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw which images are blurred and how much, each (n,)."""
        touched = chosen(shape[0], self.p, generator)
        return touched, uniform(shape[0], *self.sigma, generator)

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Convolve with one separable kernel per image, reflecting at the border."""
        touched, sigma = draw
        n, n_channels, height, width = x.shape
        half = min(self.kernel_size // 2, height - 1, width - 1)
        offsets = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(n_channels, dim=0)
        padded = F.pad(x, (half, half, half, half), mode="reflect")
        padded = padded.view(1, n * n_channels, height + 2 * half, width + 2 * half)
        rows = F.conv2d(padded, kernel[:, None, None, :], groups=n * n_channels)
        blurred = F.conv2d(rows, kernel[:, None, :, None], groups=n * n_channels)
        return torch.where(touched[:, None, None, None], blurred.view_as(x), x)


def _luma(n_color: int, like: Tensor) -> Tensor:
    """Weights of the grey value, shape (n_color,): one number for a grey image."""
    weights = _LUMA if n_color == 3 else (1.0,) * n_color
    # not new_tensor, which waits for the device to take it from the host
    return torch.stack([like.new_full((), weight) for weight in weights])


def _matrix2(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Stack four (n,) tensors into matrices [[a, b], [c, d]]: (n, 2, 2)."""
    return torch.stack([a, b, c, d], dim=1).view(-1, 2, 2)


def _hue_rotation(turns: Tensor) -> Tensor:
    """Rotations of RGB about the grey axis by `turns`, shape (n, 3, 3) (Rodrigues' formula)."""
    angle = (2 * math.pi * turns)[:, None, None]
    eye = torch.eye(3, device=turns.device)
    ones = torch.full((3, 3), 1 / 3, device=turns.device)
    cycle = eye.roll(1, dims=0)  # red to green to blue: it turns about the same axis
    cross = (cycle - cycle.mT) / math.sqrt(3)
    return angle.cos() * eye + angle.sin() * cross + (1 - angle.cos()) * ones


def _keep_alpha(matrix: Tensor, n_channels: int) -> Tensor:
    """Extend homogeneous RGB matrices (n, 4, 4) by an untouched alpha channel, if there is one."""
    if n_channels == len(matrix[0]) - 1:
        return matrix
    n = len(matrix)
    full = torch.eye(n_channels + 1, device=matrix.device).repeat(n, 1, 1)
    full[:, :3, :3] = matrix[:, :3, :3]
    full[:, :3, -1] = matrix[:, :3, -1]
    return full
