"""One page that shows a clustering: pictures, numbers and tables, without any network."""

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._version import __version__
from . import errors
from .assignments import (
    Assignments,
    from_probabilities,
    is_calibrated,
    soft_assignments,
    trained_estimator,
)
from .names import sample_names
from .pictures import as_samples, is_image, pictures
from .report_parts import (
    SPRITE_COLUMNS,
    cluster_details,
    cluster_table,
    curves,
    facts,
    features_that_stand_out,
    loss_table,
    match_section,
    parameter_table,
    sample_table,
)
from .summaries import agreement_in_words

_PICTURES = 1500  # in all
_PER_CLUSTER = 36
_NAME = 250  # characters; of a longer name the end is shown
_LISTED = 100  # samples that the table begins with, and has pictures of
_PICTURE_BYTES = 2_700_000  # of all pictures together, as text
_QUALITIES = [(72, 80), (56, 70), (40, 60), (32, 40), (24, 20)]  # pixels, WebP quality

_GALLERY_TEXT = {
    True: "Typical members are those with the highest confidence. Open a cluster to see more.",
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
    """Write a page for the browser that shows the clusters of a fitted estimator.

    The page has everything in it and loads nothing: galleries of the clusters with their most
    typical and least certain members, sizes and confidences, a table of samples to search and
    sort, the losses and the parameters. For rows of features, the galleries name the features
    that tell a cluster from the others.

    To keep the page below 5 MB, at most 36 pictures per cluster and 1,500 in all are shown, of 72
    pixels or smaller, and at most 20,000 samples are listed, the least certain ones.

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
    >>> model = ContrastiveClustering(10, max_epochs=4, random_state=0).fit(images)
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
    fitted = trained_estimator(estimator)
    probabilities = soft_assignments(estimator, X)
    samples = as_samples(X)
    check_consistent_length(probabilities, samples, y, names)
    found = from_probabilities(probabilities)
    texts = [_shortened(str(n)) for n in (sample_names(samples) if names is None else names)]
    classes = None if y is None else column_or_1d(y).astype(str)
    image = is_image(samples, fitted.input_shape_)
    losses = {"loss": fitted.loss_curve_, **fitted.history_}
    chosen = [_examples(found, cluster) for cluster in range(found.n_clusters)]
    sprites, places = _sprites(samples, found, chosen, fitted.input_shape_) if image else ("", {})
    stand_out = {} if image else features_that_stand_out(samples, found)
    page = _template("report.html").substitute(
        version=__version__,
        title=escape(f"Clusters of {type(fitted).__name__}"),
        css=_template("report.css").template,
        js=_template("report.js").template,
        sprites=sprites,
        nav="" if classes is None else '<a href="#match">Classes</a>',
        facts=facts(found, fitted.n_iter_, classes),
        agreement=escape(_agreement_text(found, calibrated=is_calibrated(fitted), image=image)),
        clusters=cluster_table(found, classes),
        gallery_text=_GALLERY_TEXT[image],
        what="number or name" if classes is None else "number, class or name",
        what_sample="name" if classes is None else "name or class",
        gallery="\n".join(
            cluster_details(found, cluster, pair, texts, classes, places, stand_out.get(cluster))
            for cluster, pair in enumerate(chosen)
        ),
        match="" if classes is None else match_section(found, classes),
        curves=curves(losses),
        losses=loss_table(losses),
        parameters=parameter_table(estimator, fitted),
        **sample_table(found, probabilities, texts, classes, places),
    )
    from .._runtime.process_group import may_write  # only now: torch takes its time

    if may_write():
        path.write_text(page, encoding="utf-8", errors="replace", newline="\n")
    return path


def _agreement_text(found: Assignments, *, calibrated: bool, image: bool) -> str:
    """Say what the confidences on the page mean."""
    known = found.labels >= 0
    if not known.any():
        return ""
    if not calibrated:
        return (
            "Confidence is the probability that the network gives to a sample's own cluster. It is "
            "not calibrated: it may be near 100% for clusters that mean nothing."
        )
    words = agreement_in_words(float(found.confidence[known].mean()), images=image)
    return (
        "Confidence is the share of a cluster that is expected to belong together with a sample, "
        f"as far as its neighbours tell. In all: {words}{'' if words.endswith('.') else '.'}"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _template(name: str) -> Template:
    return Template((files(__package__) / "templates" / name).read_text("utf-8"))


def _examples(found: Assignments, cluster: int) -> tuple[np.ndarray, ...]:
    """Row numbers of the typical and of the uncertain members that are shown."""
    shown = min(_PER_CLUSTER, _PICTURES // found.n_clusters)
    return found.examples(cluster, shown - shown // 3, shown // 3)


def _sprites(
    samples: Any,
    found: Assignments,
    chosen: list[tuple[np.ndarray, ...]],
    input_shape: tuple[int, ...],
) -> tuple[str, dict[int, tuple[int, int]]]:
    """Render pictures of each cluster into one image: its examples, and what the table begins with.

    Returns
    -------
    css : str
        A class ``s0``, ``s1``, ... per cluster with its image, small enough for the page.
    places : dict of int to (int, int)
        By row number: cluster, and number of the picture within its image.
    """
    first = np.argsort(found.confidence, kind="stable")[:_LISTED]
    rows = []
    for cluster, pair in enumerate(chosen):
        examples = np.concatenate(pair)
        listed = np.setdiff1d(first[found.labels[first] == cluster], examples)
        rows.append(np.append(examples, listed))
    places = {int(r): (c, i) for c, members in enumerate(rows) for i, r in enumerate(members)}
    if not places:
        return "", {}
    ends = np.cumsum([len(members) for members in rows])[:-1]
    for side, quality in _QUALITIES:
        shown = pictures(samples, np.concatenate(rows), input_shape=input_shape, side=side)
        images = [_webp(part, quality) if len(part) else "" for part in np.split(shown, ends)]
        if sum(map(len, images)) <= _PICTURE_BYTES:
            break
    height, width = shown.shape[1] / max(shown.shape[1:3]), shown.shape[2] / max(shown.shape[1:3])
    rules = [f":root{{--w:{width:.4f};--h:{height:.4f};--columns:{SPRITE_COLUMNS}}}"]
    rules += [
        f".s{cluster}{{background-image:url(data:image/webp;base64,{image})}}"
        for cluster, image in enumerate(images)
        if image
    ]
    return "\n".join(rules), places


def _webp(tiles: np.ndarray, quality: int) -> str:
    """Encode pictures (m, h, w[, 3]) as one image of ten columns, in base64."""
    height, width = tiles.shape[1:3]
    n_rows = -(-len(tiles) // SPRITE_COLUMNS)
    sprite = np.zeros((n_rows * height, SPRITE_COLUMNS * width, *tiles.shape[3:]), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // SPRITE_COLUMNS * height, i % SPRITE_COLUMNS * width
        sprite[y : y + height, x : x + width] = tile
    file = io.BytesIO()
    Image.fromarray(sprite).save(file, "WEBP", quality=quality)
    return base64.b64encode(file.getvalue()).decode("ascii")
