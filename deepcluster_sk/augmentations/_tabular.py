"""Augmentation steps for rows of standardised features."""

import torch
from torch import Tensor

from ._base import Augmentation, Draw, uniform
from ._checks import not_negative, probability


class GaussianNoise(Augmentation):
    """Add Gaussian noise; works on rows and on images alike.

    Parameters
    ----------
    std : float, default=0.1
        Standard deviation, in the units of the standardised features; not negative.

    Raises
    ------
    ValueError
        If `std` is negative.
    """

    per_sample = True

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        self.std = not_negative("std", std)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw standard normal noise of the shape of the batch."""
        return (torch.randn(shape, generator=generator, device=generator.device),)

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Add the scaled noise."""
        (noise,) = draw
        return torch.add(x, noise, alpha=self.std)


class MarginalSwap(Augmentation):
    """Replace random features of a row by those of other rows of the batch.

    Each replaced value is drawn from the feature's own marginal distribution, so that the result
    stays in range.

    Parameters
    ----------
    p : float, default=0.3
        Probability that a feature is replaced.

    Raises
    ------
    ValueError
        If `p` is not a probability.

    References
    ----------
    Bahri et al., "SCARF: self-supervised contrastive learning using random feature corruption",
    ICLR 2022.
    """

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = probability("p", p)

    def sample(self, shape: torch.Size, generator: torch.Generator) -> Draw:
        """Draw the replaced entries and the rows they come from, each of shape (n, d)."""
        n, d = shape
        replaced = uniform(n * d, 0, 1, generator).view(n, d) < self.p
        donor = torch.randint(n, (n, d), generator=generator, device=generator.device)
        return replaced, donor

    def transform(self, x: Tensor, draw: Draw) -> Tensor:
        """Take the chosen entries from their donors."""
        replaced, donor = draw
        return torch.where(replaced, x.gather(0, donor), x)
