"""What the papers set and report."""

import copy
from typing import Any, ClassVar, NamedTuple


class Preset(NamedTuple):
    """Settings and results of a paper."""

    settings: dict[str, Any]
    """Constructor arguments for all data sets."""
    data_sets: dict[str, tuple[dict[str, Any], dict[str, float]]]
    """By data set: further constructor arguments, and results."""


def scores(nmi: float, acc: float, ari: float) -> dict[str, float]:
    """Name the three scores that the papers report."""
    return {"NMI": nmi, "ACC": acc, "ARI": ari}


class PaperMixin:
    """Access to the settings and results of a method's paper."""

    _paper: ClassVar[Preset]
    """What the paper sets and reports."""

    @classmethod
    def paper_settings(cls, data_set: str) -> dict[str, Any]:
        """Return the paper's own settings for a data set.

        ``ContrastiveClustering(**ContrastiveClustering.paper_settings("cifar10"))`` is the method
        without this project's additions. What a paper leaves open is filled in as the user guide
        says. Images are to be passed in the size that the paper uses.

        Parameters
        ----------
        data_set : str
            One of the keys of :meth:`paper_results`.

        Returns
        -------
        settings : dict of str to object
            Constructor arguments, `n_clusters` among them; a new dictionary at each call.

        Raises
        ------
        ValueError
            If the paper has no such data set.
        """
        if data_set not in cls._paper.data_sets:
            raise ValueError(
                f"data_set={data_set!r} is unknown to {cls.__name__}. Expected one of "
                f"{sorted(cls._paper.data_sets)}."
            )
        special, _ = cls._paper.data_sets[data_set]
        return copy.deepcopy({**cls._paper.settings, **special})

    @classmethod
    def paper_results(cls) -> dict[str, dict[str, float]]:
        """Return what the paper reports for each data set.

        Returns
        -------
        results : dict of str to dict of str to float
            ``{"cifar10": {"NMI": ..., "ACC": ..., "ARI": ...}, ...}``, all in [0, 1]. Where the
            paper evaluates representations, ``"linear evaluation"`` is the accuracy of a linear
            classifier on them.
        """
        return {name: dict(results) for name, (_, results) in cls._paper.data_sets.items()}
