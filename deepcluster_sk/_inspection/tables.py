"""Tables with one row per sample, and the most central samples of each cluster."""

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._runtime.files import ANY_NAME, special_target
from . import errors
from .assignments import (
    Assignments,
    Described,
    described,
)
from .names import paths_of
from .pictures import as_samples
from .search import directions, exact_products

if TYPE_CHECKING:
    from pandas import DataFrame

_EXEMPLARS = 5  # per cluster, that distances are measured to
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_SEPARATORS, ".parquet")


def cluster_table(
    estimator: Any, X: Any, y: ArrayLike | None = None, *, names: Sequence[Any] | None = None
) -> "DataFrame":
    """Return a table with one row per sample.

    Estimators of this package encode the samples once for all columns.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. A pipeline may
        also end in a clusterer of another package that has labels alone, such as k-means.
    X : array-like
        What ``estimator.predict`` accepts.
    y : array-like of shape (n_samples,) or None, default=None
        Classes, if they are known: the column ``class``.
    names : sequence or None, default=None
        The column ``sample``. None takes the paths, the index of a data frame, or row numbers.

    Returns
    -------
    table : DataFrame
        In the order of X, with the columns

        - ``sample``: path, name or row number;
        - ``cluster``: int64; -1 for image files that were skipped, and for what an estimator with
          `outlier_fraction` puts in no cluster;
        - ``confidence``: float64 in [0, 1], the probability of the sample's own cluster; 1 where
          the clusterer has labels alone;
        - ``typicality``: float32, ``score_samples`` of the estimator, higher is more typical; NaN
          where it has no such method, or has been through ``partial_fit`` alone;
        - ``second_cluster``: Int64, the second most probable cluster; missing where no other
          cluster has any probability;
        - ``exemplar_distance``: float32 in [0, 2], the cosine distance to the nearest of the five
          :func:`exemplars` of the sample's own cluster, in the encoder's features;
        - ``class``: `y`, if it is given.

        What is not known of a sample without a cluster is missing.

    Raises
    ------
    ValueError
        If `y` or `names` have another length than X.
    TypeError
        If the estimator has no clusters or no features, or is a class.
    NotFittedError
        If it is not fitted.
    ImportError
        If pandas is not installed.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.inspection import cluster_table
    >>> digits = load_digits()
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(digits.images)
    >>> table = cluster_table(model, digits.images, digits.target)
    >>> table.shape
    (1797, 7)
    """
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise errors.missing_package("pandas", "cluster_table") from error
    samples = as_samples(X)
    return table_of(described(estimator, samples), samples, y, names)


def table_of(
    told: Described, samples: Any, y: ArrayLike | None, names: Sequence[Any] | None
) -> "DataFrame":
    """Return the table of what an estimator has said, as :func:`cluster_table` does."""
    import pandas as pd

    assert told.features is not None
    check_consistent_length(told.probabilities, y, names)
    found = told.found
    known = found.labels >= 0
    second = _second_clusters(told.probabilities, found)
    scores = np.full(len(known), np.nan) if told.scores is None else told.scores
    columns = {
        "sample": _text_column(
            _sample_column(samples, len(known)) if names is None else list(names)
        ),
        "cluster": found.labels,
        "confidence": np.where(known, found.confidence, np.nan),
        "typicality": scores.astype(np.float32),
        "second_cluster": pd.array(second, dtype="Int64"),
        "exemplar_distance": _exemplar_distances(directions(told.features), found),
    }
    columns["second_cluster"][second < 0] = pd.NA
    if y is not None:
        columns["class"] = column_or_1d(y)
    return pd.DataFrame(columns)


def exemplars(estimator: Any, X: Any, n: int = 1) -> np.ndarray:
    """Return the most central samples of each cluster.

    These are the members whose features point most nearly in the mean direction of the features of
    the cluster. The members of the highest confidence, which a
    :class:`~deepcluster_sk.display.ClusterGalleryDisplay` shows, are those that are farthest from
    other clusters, and may be extreme. What an estimator with `outlier_fraction` puts in no cluster
    is not returned. Estimators of this package encode the samples once.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. A pipeline may
        also end in a clusterer of another package that has labels alone, such as k-means.
    X : array-like
        What ``estimator.predict`` accepts.
    n : int, default=1
        How many samples of each cluster.

    Returns
    -------
    rows : ndarray of shape (n_clusters, n), int64
        Row numbers in X, the most central first; -1 where a cluster has fewer members.

    Raises
    ------
    ValueError
        If `n` is less than 1.
    TypeError
        If the estimator has no clusters or no features, or is a class.
    NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.inspection import exemplars
    >>> images = load_digits().images
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(images)
    >>> exemplars(model, images, n=3).shape
    (10, 3)
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise errors.bad_count(n)
    told = described(estimator, as_samples(X))
    assert told.features is not None
    return _central_members(directions(told.features), told.found, int(n))


def write_table(table: "DataFrame", path: str | os.PathLike[str]) -> Path:
    """Write a table as CSV, TSV or Parquet, by the suffix of the path.

    Text is UTF-8. File names that are no valid text are written to CSV and TSV byte by byte as they
    are; in Parquet, which has no place for them, such bytes are escaped by a backslash.

    Parameters
    ----------
    table : DataFrame
        Such as :func:`cluster_table` returns. The index is not written.
    path : path-like
        Ends in ``.csv``, ``.tsv`` or ``.parquet``, in upper or lower case. The file is replaced if
        it exists.

    Returns
    -------
    path : Path
        Where the table is.

    Raises
    ------
    ValueError
        If the suffix is another one.
    TypeError
        If `table` is not a DataFrame.
    ImportError
        If pyarrow, which Parquet needs, is not installed.
    FileNotFoundError
        If the folder of `path` does not exist.
    OSError
        If something is at `path` that is no regular file, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from deepcluster_sk.inspection import write_table
    >>> table = pd.DataFrame({"sample": ["a.png", "b.png"], "cluster": [1, 0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(write_table(table, f"{folder}/clusters.csv").read_text())
    sample,cluster
    a.png,1
    b.png,0
    <BLANKLINE>
    """
    check_table(table, ())
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise errors.unknown_suffix(path, _SUFFIXES)
    check_target(path)
    if suffix == ".parquet":
        try:
            _with_plain_text(table).to_parquet(path, engine="pyarrow", index=False)
        except ImportError as error:
            raise errors.missing_package("pyarrow", "Parquet") from error
    else:
        table.to_csv(
            path,
            sep=_SEPARATORS[suffix],
            index=False,
            encoding="utf-8",
            errors=ANY_NAME,
            lineterminator="\n",
        )
    return path


def check_table(table: Any, columns: Sequence[str]) -> None:
    """Refuse what is no data frame, or lacks columns."""
    if not hasattr(table, "to_csv") or not hasattr(table, "columns"):
        raise errors.no_table(table)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise errors.missing_columns(missing, [str(name) for name in table.columns])


def check_target(path: Path) -> None:
    """Refuse a file in no folder, or in place of a device or folder."""
    if not path.parent.is_dir():
        raise errors.missing_folder(path)
    kind = special_target(path)
    if kind is not None:
        raise errors.no_regular_file(path, kind)


def _with_plain_text(table: "DataFrame") -> "DataFrame":
    """Escape the bytes of names that are no valid text."""
    if "sample" not in table.columns:
        return table
    names = [
        name.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(name, str) else name
        for name in table["sample"]
    ]
    return table.assign(sample=names)


def _sample_column(samples: Any, n_samples: int) -> Any:
    """Return paths, the index of a data frame, or row numbers."""
    paths = paths_of(samples)
    if paths is not None:
        return paths
    return samples.index if hasattr(samples, "iloc") else np.arange(n_samples)


def _text_column(values: Any) -> Any:
    """Return a column whose texts may be names of files that are no valid text."""
    try:
        "".join(value for value in values if isinstance(value, str)).encode("utf-8")
    except UnicodeEncodeError:  # pandas has a type for texts that refuses them
        from pandas import Series

        return Series(values, dtype=object)
    return values


def _second_clusters(probabilities: np.ndarray, found: Assignments) -> np.ndarray:
    """Return the second most probable cluster of each sample; -1 where there is none."""
    rest = np.array(probabilities, dtype=np.float64)
    known = found.labels >= 0
    rest[~known] = 0
    rest[known, found.labels[known]] = 0
    second = rest.argmax(axis=1)
    return np.where(rest.max(axis=1) > 0, second, -1)


def _central_members(unit: np.ndarray, found: Assignments, n: int) -> np.ndarray:
    """Return the members nearest to the mean direction of each cluster: (n_clusters, n)."""
    central = np.full((found.n_clusters, n), -1, dtype=np.int64)
    for cluster in range(found.n_clusters):
        members = np.flatnonzero(found.labels == cluster)
        if len(members):
            mean = unit[members].sum(axis=0, dtype=np.float64)
            order = np.argsort(-exact_products(unit, members, mean), kind="stable")[:n]
            central[cluster, : len(order)] = members[order]
    return central


def _exemplar_distances(unit: np.ndarray, found: Assignments) -> np.ndarray:
    """Return the cosine distance of each sample to the nearest exemplar of its cluster."""
    distances = np.full(len(unit), np.nan, dtype=np.float32)
    for cluster, central in enumerate(_central_members(unit, found, _EXEMPLARS)):
        members = np.flatnonzero(found.labels == cluster)
        central = central[central >= 0]
        if len(members):
            nearest = (unit[members] @ unit[central].T).max(axis=1)
            distances[members] = np.clip(1 - nearest, 0, 2)
            distances[central] = 0
    return distances
