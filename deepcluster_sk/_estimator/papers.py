"""What the papers set and report."""

import copy
from typing import Any, NamedTuple

from . import errors

WITHOUT_ADDITIONS = {
    "cluster_start": 0.0,
    "n_neighbors": 0,
    "schedule": "constant",
    "warmup": 0.0,
}
"""Constructor arguments that switch off what this project adds to the methods."""


class Preset(NamedTuple):
    """Settings and results of a paper."""

    settings: dict[str, Any]
    """Constructor arguments for all data sets."""
    data_sets: dict[str, tuple[dict[str, Any], dict[str, float]]]
    """By data set: further constructor arguments, and results."""

    def settings_for(self, data_set: str, name: str) -> dict[str, Any]:
        """Return new constructor arguments for a data set; `name` is that of the class."""
        if data_set not in self.data_sets:
            raise errors.unknown_data_set(name, data_set, self.data_sets)
        special, _ = self.data_sets[data_set]
        return copy.deepcopy({**self.settings, **special})

    def results(self) -> dict[str, dict[str, float]]:
        """Return the results by data set."""
        return {name: dict(results) for name, (_, results) in self.data_sets.items()}


def scores(nmi: float, acc: float, ari: float) -> dict[str, float]:
    """Name the three scores that the papers report."""
    return {"NMI": nmi, "ACC": acc, "ARI": ari}
