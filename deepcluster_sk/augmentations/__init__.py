"""Batched augmentations: one draw per sample, reproducible from a generator."""

from ._base import Augmentation, ColorStep, Compose, DisplacementStep, GeometricStep
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
from ._recipes import digits, images, rows
from ._tabular import GaussianNoise, MarginalSwap

__all__ = [
    "Augmentation",
    "ColorJitter",
    "ColorStep",
    "Compose",
    "DisplacementStep",
    "ElasticTransform",
    "GaussianBlur",
    "GaussianNoise",
    "GeometricStep",
    "MarginalSwap",
    "RandomAffine",
    "RandomGamma",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "digits",
    "images",
    "rows",
]
