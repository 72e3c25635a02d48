"""The samples that are most similar to others, by the direction of their features."""

import os
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import gen_batches

from . import errors
from .assignments import features
from .pictures import as_samples

_CELLS = 2**24  # of a table of similarities that is in memory at once
_ROWS = 4096  # whose exact similarities are computed at once
_ROUNDING = 1e-5  # of a matrix product in float32; what is that near to the last one is compared


class Similar(NamedTuple):
    """What :func:`similar` returns.

    Parameters
    ----------
    rows : ndarray of shape (n_queries, n), int64
        Row numbers in X, the most similar first; -1 for a query that was skipped.
    similarity : ndarray of shape (n_queries, n), float32
        Their cosine similarity to the query, in [-1, 1]; NaN for a query that was skipped.
    """

    rows: np.ndarray
    similarity: np.ndarray


def similar(estimator: Any, X: Any, queries: Any, n: int = 10) -> Similar:
    """Find the samples that are most similar to others.

    The cosine similarities of the encoder's features are compared with all samples, exactly. Of
    equally similar samples, the first ones are returned. Image files that were skipped are never
    found.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. In a pipeline
        that ends in a clusterer of another package, such as k-means, the features are what it gets
        from the steps before it.
    X : array-like
        The samples to search, as ``estimator.transform`` accepts them.
    queries : array-like, int, or array of int of shape (n_queries,)
        What to search for: samples like those of X, the path of an image file, or row numbers of X.
        A row is not its own answer.
    n : int, default=10
        How many samples to find for each query.

    Returns
    -------
    found : Similar
        Named tuple ``(rows, similarity)`` of two arrays of shape (n_queries, n), the most similar
        first.

    Raises
    ------
    ValueError
        If `n` is less than 1 or more than the number of other samples, or if `queries` are empty or
        not in X.
    TypeError
        If the estimator has no features, or is a class.
    NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.inspection import similar
    >>> digits = load_digits()
    >>> model = ContrastiveClustering(10, max_epochs=2, random_state=0).fit(digits.images)
    >>> rows, similarity = similar(model, digits.images, [0, 1], n=5)
    >>> rows.shape
    (2, 5)
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise errors.bad_count(n)
    numbers = _row_numbers(queries)
    samples = as_samples(X)
    if numbers is not None:
        n_samples = samples.shape[0] if hasattr(samples, "shape") else len(samples)
        if ((numbers < 0) | (numbers >= n_samples)).any():
            raise errors.bad_row_numbers(numbers, n_samples)
    unit = directions(features(estimator, samples))
    if numbers is None:
        targets = directions(features(estimator, _query_samples(queries)))
        if targets.shape[1] != unit.shape[1]:
            raise errors.different_features(targets.shape[1], unit.shape[1])
    else:
        targets = unit[numbers]
    known = np.flatnonzero(np.isfinite(unit).all(axis=1))
    n_others = len(known) - (numbers is not None)
    if n > n_others:
        raise errors.too_few_others(int(n), n_others)
    if len(known) < len(unit):
        unit = unit[known]
    own = None if numbers is None else np.searchsorted(known, numbers)
    found = _nearest(unit, targets, own, int(n))
    rows = np.where(found.rows >= 0, known[found.rows], -1)
    return Similar(rows, found.similarity)


def _row_numbers(queries: Any) -> np.ndarray | None:
    """Return queries that are row numbers; None for samples."""
    if isinstance(queries, str | os.PathLike):
        return None
    if not isinstance(queries, Integral | np.ndarray | list | tuple | range):
        return None
    if not isinstance(queries, Integral) and len(queries) == 0:
        raise errors.no_queries()
    if isinstance(queries, list | tuple) and np.ndim(queries[0]):
        return None  # samples, of any shapes
    values = np.atleast_1d(np.asarray(queries))
    if values.ndim == 1 and values.dtype == bool:
        raise errors.boolean_queries()
    return values.astype(np.int64) if values.ndim == 1 and values.dtype.kind in "iu" else None


def _query_samples(queries: Any) -> Any:
    """Return queries as samples, also those of a single file."""
    if isinstance(queries, str | os.PathLike) and not os.path.isdir(queries):
        return [os.fspath(queries)]
    return as_samples(queries)


def directions(features: np.ndarray) -> np.ndarray:
    """Return features scaled to a length of one, as a new array; those of length zero stay zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features, dtype=np.float64))
    lengths[lengths == 0] = 1
    unit: np.ndarray = features / lengths[:, None].astype(np.float32)
    return unit


def exact_products(unit: np.ndarray, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the products of some rows with a vector, in float64: equal ones for equal rows."""
    products = [
        (unit[rows[piece]].astype(np.float64) * target).sum(axis=1)
        for piece in gen_batches(len(rows), _ROWS)
    ]
    return np.concatenate(products)


def _nearest(unit: np.ndarray, targets: np.ndarray, own: np.ndarray | None, n: int) -> Similar:
    """Search the directions (m, d) nearest to targets (n_queries, d).

    Parameters
    ----------
    unit : ndarray of shape (m, d), float32
        Without NaN.
    targets : ndarray of shape (n_queries, d), float32
        Rows of NaN find nothing.
    own : ndarray of shape (n_queries,), int, or None
        Which row each target is, which is not found; None if the targets are no rows.
    n : int
        At most m, or m - 1 with `own`.
    """
    rows = np.full((len(targets), n), -1, dtype=np.int64)
    similarity = np.full((len(targets), n), np.nan, dtype=np.float32)
    known = np.flatnonzero(np.isfinite(targets).all(axis=1))
    for piece in gen_batches(len(known), max(1, _CELLS // len(unit))):
        table = targets[known[piece]] @ unit.T
        for query, values in zip(known[piece], table, strict=True):
            if own is not None:
                values[own[query]] = -np.inf
            least = np.partition(values, -n)[-n]
            near = np.flatnonzero(values >= least - _ROUNDING)
            exact = exact_products(unit, near, targets[query].astype(np.float64))
            order = np.argsort(-exact, kind="stable")[:n]
            rows[query] = near[order]
            similarity[query] = np.clip(exact[order], -1, 1)
    return Similar(rows, similarity)
