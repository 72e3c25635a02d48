"""One page that shows a clustering: a map, pictures, numbers and tables, without any network."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import errors
from .assignments import Assignments, is_calibrated, trained_estimator
from .clustering import Clustering, clustering, listed_samples, pictures_of
from .duplicates import near_duplicates_of
from .html import Places
from .map_positions import map_positions
from .report_data import Listed, packed_samples
from .report_page import page, template
from .report_parts import cluster_details, cluster_section, facts, features_that_stand_out
from .report_samples import map_section, samples_section
from .report_training import loss_section, match_section, parameter_section
from .report_tree import tree_section
from .report_unusual import (
    kept_groups,
    odd_rows,
    odd_section,
    same_section,
)
from .summaries import agreement_in_words

_PICTURES = 2000  # in all
_IN_GALLERY = 1500
_PER_CLUSTER = 36
_UNCERTAIN = 100  # samples that the table begins with, which all have pictures
_PICTURE_BYTES = 2_300_000  # of all pictures together, as text

_NAV = [
    *(("clusters", "Clusters"), ("map", "Map"), ("gallery", "Gallery"), ("odd", "Fits nowhere")),
    *(("same", "Nearly the same"), ("tree", "Tree"), ("samples", "Samples")),
    *(("match", "Classes"), ("losses", "Losses"), ("parameters", "Parameters")),
]
_GALLERY_TEXT = {
    True: "Of each cluster, the members with the highest confidence. Open it to see more.",
    False: "Open a cluster to see the features that tell it from the others, and its members.",
}


def report(
    estimator: Any,
    X: Any,
    path: str | os.PathLike[str] = "report.html",
    y: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Path:
    """Write a page for the browser to look at and to work on the clusters of a fitted estimator.

    The page has everything in it and loads nothing:

    - a map of the samples, on which those with similar features are near each other, to look at,
      to select from, and to download what is selected;
    - galleries of the clusters with their most and least confident members; for rows of features,
      the features that tell a cluster from the others;
    - fields for names of clusters, which the browser keeps; they can be downloaded and read again;
    - the samples that fit nowhere, those that are nearly the same, and the tree of the clusters if
      the estimator has a ``linkage_``;
    - a table of samples to search and sort, sizes, confidences, the losses and the parameters.

    To keep the page below 5 MB, at most 36 pictures per cluster and 2,000 in all are on it, of 144
    pixels or smaller. Of more than 100,000 samples, the 20,000 least confident ones and an even
    share of the others are listed and on the map. Long names are shortened if there are many.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one.
    X : array-like
        What ``estimator.predict_proba`` accepts.
    path : path-like, default="report.html"
        The file is replaced if it exists. In a job of several processes, rank 0 writes it.
    y : array-like of shape (n_samples,) or None, default=None
        Classes, if they are known; adds accuracy, NMI, ARI and the matched table.
    names : sequence of str or None, default=None
        Names of the samples. None takes the paths, the index of a data frame, or row numbers.

    Returns
    -------
    path : Path
        Where the page is.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is an estimator of another package: the displays' ``from_predictions`` draw these.
    FileNotFoundError
        If the folder of `path` does not exist.
    OSError
        If something is at `path` that is no regular file, or the page cannot be written.
    ValueError
        If `y` or `names` have another length than X.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering, report
    >>> images = load_digits().images
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(images)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(model, images, f"{folder}/report.html")
    ...     page.stat().st_size < 5e6
    True
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise errors.missing_report_folder(path)
    from .._runtime.file_format import check_target  # only now: torch takes its time

    check_target(path)
    trained_estimator(estimator)  # refuses others before they have to assign anything
    return write_page(clustering(estimator, X, y, names), path)


def write_page(known: Clustering, path: Path) -> Path:
    """Write the page of what an estimator has said, as :func:`report` does."""
    text = _whole_page(known, trained_estimator(known.estimator))
    from .._runtime.process_group import may_write  # only now: torch takes its time

    if may_write():
        path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path


def _whole_page(known: Clustering, fitted: Any) -> str:
    """Compute what the sections show, and put them together."""
    found = known.found
    odd = odd_rows(found, known.scores)
    every_group = (
        [] if known.features is None else near_duplicates_of(known.samples, known.features)
    )
    groups = kept_groups(every_group)
    examples = [_examples(found, cluster) for cluster in range(found.n_clusters)]
    uncertain = np.argsort(found.confidence, kind="stable")[:_UNCERTAIN]
    first = [group[:10] for group in groups]
    wanted = [np.concatenate(pair) for pair in examples] + [odd, uncertain, *first]
    shown = pictures_of(known, wanted, _PICTURES, _PICTURE_BYTES)
    positions = None if known.features is None else map_positions(known.features)
    pictured = np.fromiter(shown.places, np.intp)
    listed = listed_samples(known, [*wanted, *groups, pictured], positions)
    sets = {
        "odd": [[listed.number_of(row) for row in odd]],
        "same": [[listed.number_of(row) for row in group] for group in groups],
    }
    data, longest = packed_samples(listed, {r: n for r, (_, n) in shown.places.items()}, sets)
    losses = {"loss": fitted.loss_curve_, **fitted.history_}
    sections = [
        facts(found, fitted.n_iter_, known.classes),
        cluster_section(found, known.classes, _agreement_text(known, fitted)),
        map_section(listed, shown.places),
        _gallery_section(known, examples, listed, shown.places),
        odd_section(odd, known.scores, listed, shown.places),
        same_section(every_group, listed, shown.places),
        tree_section(getattr(fitted, "linkage_", None), found.n_clusters),
        samples_section(listed, pictures=bool(shown.places), longest=longest),
        "" if known.classes is None else match_section(found, known.classes),
        loss_section(losses),
        parameter_section(known.estimator, fitted),
    ]
    title = f"Clusters of {type(fitted).__name__}"
    return page(title, sections, data=data, sprites=shown.css, nav=_NAV)


def _gallery_section(
    known: Clustering, examples: list[tuple[np.ndarray, ...]], listed: Listed, places: Places
) -> str:
    """Render the clusters with their members."""
    stand_out = {} if known.image else features_that_stand_out(known.samples, known.found)
    return template(
        "gallery.html",
        text=_GALLERY_TEXT[known.image],
        what="number or name" if known.classes is None else "number, class or name",
        gallery="\n".join(
            cluster_details(cluster, pair, listed, places, stand_out.get(cluster))
            for cluster, pair in enumerate(examples)
        ),
    )


def _agreement_text(known: Clustering, fitted: Any) -> str:
    """Say what the confidences on the page mean."""
    found = known.found
    assigned = found.labels >= 0
    if not assigned.any():
        return ""
    if not is_calibrated(fitted):
        return (
            "Confidence is the probability that the network gives to a sample's own cluster. It is "
            "not calibrated: it may be near 100% for clusters that mean nothing."
        )
    words = agreement_in_words(float(found.confidence[assigned].mean()), images=known.image)
    return (
        "Confidence is the share of a cluster that is expected to belong together with a sample, "
        "as far as its neighbours tell. The expected agreement is its mean over all samples that "
        "have a cluster. It estimates, without known classes, the share of samples that are in the "
        "right cluster, and is too high where the data have other groups than those you look for. "
        f"Here: {words}{'' if words.endswith('.') else '.'}"
    )


def _examples(found: Assignments, cluster: int) -> tuple[np.ndarray, ...]:
    """Row numbers of the most and of the least confident members that are shown."""
    shown = min(_PER_CLUSTER, _IN_GALLERY // found.n_clusters)
    return found.examples(cluster, shown - shown // 3, shown // 3)
