"""What a fit and a prediction read: samples that were checked."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .._data.preprocessing import Layout, Preprocessor
from .._data.protocols import Rows


class Samples(NamedTuple):
    """Validated input."""

    rows: Rows
    """Flattened samples (n, d), float32, float64 or uint8: a view of X wherever possible."""
    layout: Layout
    n_features: int
    """Number of columns, or of pixels times channels."""
    names: np.ndarray | None
    """Names of the columns, if X was a data frame with string names."""
    from_files: bool
    skipped: Mapping[int, str]
    """Paths of files that could not be read and are not among the rows, by position in X."""

    def with_skipped(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Fill in a value for the files that were skipped."""
        if not self.skipped:
            return values
        n = len(values) + len(self.skipped)
        whole = np.full((n, *values.shape[1:]), fill, dtype=values.dtype)
        whole[np.setdiff1d(np.arange(n), list(self.skipped))] = values
        return whole

    def preprocessor(self, learned: Preprocessor) -> Preprocessor:
        """Return what scales these samples: image files are always divided by 255."""
        return Preprocessor.of_bytes(learned.layout) if self.from_files else learned


def row_multiple(layout: Layout) -> int:
    """Rows per batch of inference are padded to this multiple; padding images costs too much."""
    return 1 if layout.is_image else 32
