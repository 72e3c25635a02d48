"""Clustering methods, one file each, and the registry that lists them.

The registry holds names only, so that it can be read before torch is imported. The public names of
the package, :func:`deepcluster_sk.load`, ``deepcluster-sk fit --method``, the benchmarks and the
tests of what all methods share read it.
"""

from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["METHODS", "Method"]


class Method(NamedTuple):
    """Where a clustering method is found, and what it is called.

    Parameters
    ----------
    name : str
        Name of the estimator class.
    module : str
        The module that defines the class, such as ``"deepcluster_sk.methods.cluster_contrast"``.
    short_name : str
        The abbreviation of the paper, for tables.
    command_name : str
        What ``deepcluster-sk fit --method`` calls it.
    page : str
        Its page of the documentation, without the suffix.
    """

    name: str
    module: str
    short_name: str
    command_name: str
    page: str

    def load_class(self) -> Any:
        """Import and return the estimator class.

        Returns
        -------
        estimator : type
            A subclass of the base of all estimators.
        """
        return getattr(import_module(self.module), self.name)


def _method(name: str, file: str, short_name: str, command_name: str) -> Method:
    return Method(name, f"{__name__}.{file}", short_name, command_name, page=file)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _method("ContrastiveClustering", "contrastive_clustering", "CC", "contrastive"),
        _method("TwinContrastClustering", "twin_contrast_clustering", "TCC", "twin-contrast"),
        _method("DeepRobustClustering", "deep_robust_clustering", "DRC", "deep-robust"),
        _method("ClusterContrast", "cluster_contrast", "CueCo", "cluster-contrast"),
        _method("ClusteringAcrossViews", "clustering_across_views", "CRLC", "across-views"),
        _method(
            "ContrastiveEmbeddedClustering",
            "contrastive_embedded_clustering",
            "CADEEP",
            "contrastive-embedded",
        ),
        _method(
            "GraphContrastiveClustering",
            "graph_contrastive_clustering",
            "GCC",
            "graph-contrastive",
        ),
        _method("CrossInstanceClustering", "cross_instance_clustering", "C3", "cross-instance"),
        _method(
            "InformationMaximizationClustering",
            "information_maximization_clustering",
            "IMC-SwAV",
            "information-maximization",
        ),
        _method("ConsensusClustering", "consensus_clustering", "ConCURL", "consensus"),
        _method("TEMI", "temi", "TEMI", "temi"),
        _method("TURTLE", "turtle", "TURTLE", "turtle"),
    )
}
"""All methods, by the name of their class."""
