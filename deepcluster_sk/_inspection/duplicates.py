"""Groups of samples that are nearly the same."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import gen_batches

from . import errors
from .assignments import features
from .equality import first_equal
from .pictures import as_samples
from .search import directions

_BLOCK = 1024  # samples that are compared at once with
_TILE = 8192  # so many others: 32 MB of similarities
_MEASURED = 500  # samples whose distances say what is usual
_FEWEST = 30  # samples; of fewer, nothing is said about distances
_RANKS = (5, 20)  # neighbours whose distances are measured
_BY_CHANCE = 0.01  # neighbours per sample within the threshold, as far as the distances tell
_LARGEST_SHARE = 1 / 3  # of the usual distance to the fifth neighbour


def near_duplicates(estimator: Any, X: Any, threshold: float | str = "auto") -> list[np.ndarray]:
    """Find groups of samples that are nearly the same.

    Samples that are equal byte by byte, files or rows, are always in one group. The others are
    compared by the cosine distance of the encoder's features, exactly, in the order of the rows:
    a sample joins the first group whose first member is nearer than the threshold, or else begins a
    group of its own. So there are no chains of samples that differ more and more, and if the first
    member of each group is kept and the others are dropped, no two of the remaining samples are
    nearer than the threshold.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. In a pipeline
        that ends in a clusterer of another package, such as k-means, the features are what it gets
        from the steps before it.
    X : array-like
        What ``estimator.transform`` accepts. Image files that were skipped are in no group.
    threshold : float or "auto", default="auto"
        Cosine distance in [0, 2] below which samples are nearly the same. 0 leaves equal samples
        only. "auto" takes it from the distances to the neighbours, see the notes.

    Returns
    -------
    groups : list of ndarray of shape (n_members,), int64
        Row numbers in ascending order, two or more per group, the largest group first, and of
        groups of the same size the one whose first member comes first.

    Raises
    ------
    ValueError
        If `threshold` is neither "auto" nor in [0, 2].
    TypeError
        If the estimator has no features, or is a class.
    NotFittedError
        If it is not fitted.

    Notes
    -----
    "auto" reads two numbers from the distances of up to 500 samples to all others: the usual
    distance to the fifth neighbour, and, from the fifth and the twentieth, how fast the number of
    neighbours grows with the distance. Continued to smaller distances, this growth says how many
    neighbours a sample has within a distance by chance. The threshold is the distance at which
    this is one for every hundred samples, and at most a third of the distance to the fifth
    neighbour. Of fewer than 30 different samples, only equal ones are found.

    An encoder that was trained to ignore a change, such as another colour, finds samples that
    differ in nothing else.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.inspection import near_duplicates
    >>> images = load_digits().images[:300]
    >>> images = np.concatenate([images, images[:2]])
    >>> model = ContrastiveClustering(10, max_epochs=4, random_state=0).fit(images)
    >>> near_duplicates(model, images, threshold=0)
    [array([  0, 300]), array([  1, 301])]
    """
    _check_threshold(threshold)
    samples = as_samples(X)
    return near_duplicates_of(samples, features(estimator, samples), threshold)


def near_duplicates_of(
    samples: Any, encoded: np.ndarray, threshold: float | str = "auto"
) -> list[np.ndarray]:
    """Find the same groups, of samples whose features (n_samples, n_features) are known."""
    unit = directions(encoded)
    known = np.flatnonzero(np.isfinite(unit).all(axis=1))
    first = first_equal(samples, known)
    different = known[first == known]
    compared = unit[different]
    limit = usual_threshold(compared) if isinstance(threshold, str) else float(threshold)
    leader = np.full(len(unit), -1)
    leader[different] = different[leaders(compared, limit)]
    return _groups(known, leader[first])


def _check_threshold(threshold: Any) -> None:
    if isinstance(threshold, str):
        valid = threshold == "auto"
    else:
        valid = isinstance(threshold, Real) and not isinstance(threshold, bool)
        valid = valid and 0 <= float(threshold) <= 2
    if not valid:
        raise errors.bad_threshold(threshold)


def _groups(rows: np.ndarray, leader: np.ndarray) -> list[np.ndarray]:
    """Collect rows of the same leader; the largest groups first."""
    order = np.argsort(leader, kind="stable")
    starts = np.flatnonzero(np.diff(leader[order], prepend=-1))[1:]
    groups = [rows[members] for members in np.split(order, starts) if len(members) > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def usual_threshold(unit: np.ndarray) -> float:
    """Return a cosine distance that few samples have to a neighbour by chance.

    Parameters
    ----------
    unit : ndarray of shape (n, d), float32
        Directions of samples, no two of which are equal.
    """
    if len(unit) < _FEWEST:
        return 0.0
    chosen = np.unique(np.linspace(0, len(unit) - 1, _MEASURED).astype(int))
    near, far = np.median(_neighbor_distances(unit, chosen), axis=0)
    if not 0 < near < far:  # the features of most samples are the same
        return 0.0
    # the k-th of neighbours that lie by chance is at the distance within which k - 1/3 are expected
    expected, expected_far = _RANKS[0] - 1 / 3, _RANKS[1] - 1 / 3
    growth = np.log(expected_far / expected) / np.log(far / near)
    share = (_BY_CHANCE / expected) ** (1 / growth)
    return float(near * min(share, _LARGEST_SHARE))


def _neighbor_distances(unit: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the distances of some samples to their neighbours of two ranks: (m, 2)."""
    distances = []
    for piece in gen_batches(len(chosen), max(1, _BLOCK * _TILE // len(unit))):
        table = 1 - unit[chosen[piece]] @ unit.T
        table[np.arange(len(table)), chosen[piece]] = -np.inf  # itself is the first of all
        distances.append(np.partition(table, _RANKS, axis=1)[:, _RANKS])
    return np.concatenate(distances)


def leaders(unit: np.ndarray, threshold: float) -> np.ndarray:
    """Assign each sample to the first one that is near, among those assigned to themselves.

    Parameters
    ----------
    unit : ndarray of shape (n, d), float32
        Directions of samples.
    threshold : float
        Cosine distance below which samples are near.

    Returns
    -------
    leader : ndarray of shape (n,), int64
        Never greater than the row number itself.
    """
    leader = np.arange(len(unit))
    if threshold <= 0:
        return leader
    limit = np.float32(1 - threshold)
    for block in gen_batches(len(unit), _BLOCK):
        waiting = np.arange(block.start, block.stop)
        waiting = waiting[leader[waiting] == waiting]
        own = _leaders_in_block(unit[waiting], limit)
        leader[waiting] = waiting[own]
        leading = waiting[own == np.arange(len(own))]
        n_later = len(unit) - block.stop if len(leading) else 0
        for tile in gen_batches(n_later, _TILE) if n_later else ():
            others = np.arange(block.stop + tile.start, block.stop + tile.stop)
            similarity = unit[leading] @ unit[block.stop + tile.start : block.stop + tile.stop].T
            hit = (similarity.max(axis=0) > limit) & (leader[others] == others)
            leader[others[hit]] = leading[(similarity[:, hit] > limit).argmax(axis=0)]
    return leader


def _leaders_in_block(unit: np.ndarray, limit: np.floating[Any]) -> np.ndarray:
    """Assign a few samples among themselves, in their order."""
    is_near = unit @ unit.T > limit
    leader = np.full(len(unit), -1)
    for row in range(len(unit)):
        if leader[row] < 0:
            leader[row] = row
            leader[(leader < 0) & is_near[row]] = row
    return leader
