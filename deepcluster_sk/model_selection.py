"""Choosing parameters without labels: scorers, and curves over the number of clusters.

The scorers have scikit-learn's signature ``scorer(estimator, X, y=None)``, for ``scoring=`` of
cross-validation and grid search. Each returns the lowest value that it can take where fewer than
two clusters are found, so that a search never prefers a collapsed fit and never stops at one.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from ._inspection.assignments import Assignments, assign, final_estimator, method_of
from .metrics import embedding_silhouette_score

__all__ = [
    "generalization_scorer",
    "mean_confidence_scorer",
    "n_clusters_curve",
    "silhouette_scorer",
    "stability_scorer",
]

Scorer = Callable[[Any, Any, Any], float]

_FOLDS, _SCORED, _ITERATIONS = 10, 10_000, 200
_MAX_SEED = np.iinfo(np.int32).max


def silhouette_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the clusters by their mean silhouette coefficient in the encoder's features.

    These features are learned, so that scores of estimators whose parameters shape them in another
    way, such as temperatures or encoders, cannot be compared.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one.
    X : array-like
        What ``estimator.predict`` accepts. Of more than 10,000 samples, a fixed random subset of
        10,000 is scored.
    y : Ignored
        Not used, present here for API consistency by convention.

    Returns
    -------
    score : float
        In [-1, 1], higher is better; -1 for fewer than two clusters, or as many as samples.
    """
    del y
    return embedding_silhouette_score(
        method_of(estimator, "transform")(X), method_of(estimator, "predict")(X)
    )


def mean_confidence_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the clusters by the mean probability of each sample's own cluster.

    It is calibrated at the end of ``fit`` by the agreement of neighbours. Clusters that are stable
    and still too coarse get a high one: read it beside other scores.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one.
    X : array-like
        What ``estimator.predict_proba`` accepts.
    y : Ignored
        Not used, present here for API consistency by convention.

    Returns
    -------
    score : float
        In [0, 1], higher is better; 0 for fewer than two clusters.
    """
    del y
    found = assign(estimator, X)
    known = found.labels >= 0
    return float(found.confidence[known].mean()) if _n_found(found) > 1 else 0.0


def generalization_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the clusters by how well linear classifiers learn them.

    The mean accuracy of logistic regression in a 10-fold cross-validation, whose classes are the
    predicted clusters. With several feature spaces, as :class:`~deepcluster_sk.TURTLE` has, it is
    the mean over the spaces. No classes are needed: the authors of TURTLE choose its parameters
    by this score.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one.
    X : array-like
        What ``estimator.predict`` accepts. Of more than 10,000 samples, a fixed random subset of
        10,000 is scored. Samples in no cluster are left out.
    y : Ignored
        Not used, present here for API consistency by convention.

    Returns
    -------
    score : float
        In [0, 1], higher is better; 0 for fewer than two clusters or fewer than 10 samples.

    Notes
    -----
    Features are those of ``estimator.transform``. Fewer clusters are learned more easily: compare
    fits with the same `n_clusters`.

    References
    ----------
    .. [1] Gadetsky, Jiang and Brbic, "Let go of your labels with unsupervised transfer", ICML 2024,
       https://arxiv.org/abs/2406.07236
    """
    from ._runtime.threads import libraries_in_one_thread  # imports torch

    del y
    labels = np.asarray(method_of(estimator, "predict")(X))
    features = np.asarray(method_of(estimator, "transform")(X))
    order = np.random.default_rng(0).permutation(np.flatnonzero(labels >= 0))[:_SCORED]
    labels, features = labels[order], features[order]
    if len(labels) < _FOLDS or len(np.unique(labels)) < 2:
        return 0.0
    dims = getattr(final_estimator(estimator), "spaces", None) or [features.shape[1]]
    spaces = np.split(features, np.cumsum(dims)[:-1], axis=1)
    with libraries_in_one_thread():
        return float(np.mean([_accuracy(space, labels) for space in spaces]))


def _accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean accuracy of logistic regression on the parts that it has not seen."""
    accuracies = []
    for train, test in KFold(_FOLDS).split(features):  # the rows have been shuffled
        if len(np.unique(labels[train])) < 2:
            accuracies.append(float(np.mean(labels[test] == labels[train][0])))
            continue
        model = LogisticRegression(max_iter=_ITERATIONS).fit(features[train], labels[train])
        accuracies.append(float(model.score(features[test], labels[test])))
    return float(np.mean(accuracies))


def stability_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Score the clusters by their agreement with those of a second fit on X.

    A clone with another random state is fitted on X, and the adjusted Rand index of both
    predictions is returned: costs one fit. On held-out samples, as in cross-validation, the two
    fits have seen different samples as well.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package, or a pipeline or search that ends in one. It stays as
        it is.
    X : array-like
        What ``estimator.fit`` accepts.
    y : Ignored
        Not used, present here for API consistency by convention.

    Returns
    -------
    score : float
        In [-0.5, 1], higher is better, near 0 for chance; -0.5 where either fit finds fewer than
        two clusters, though any two of these agree, and where X has fewer samples than clusters.
    """
    del y
    found = assign(estimator, X)
    if len(found.labels) < found.n_clusters:
        return -0.5
    used = _seeds(estimator)
    unused = next(seed for seed in itertools.count() if seed not in used)
    second = _with_random_state(estimator, unused).fit(X)
    return _agreement(found, assign(second, X))


def n_clusters_curve(
    estimator: Any,
    X: Any,
    *,
    n_clusters: Sequence[int],
    scoring: Mapping[str, Scorer] | None = None,
    n_fits: int = 2,
    random_state: int | RandomState | None = 0,
) -> dict[str, np.ndarray]:
    """Fit a range of cluster numbers, and score every fit on all samples.

    Parameters
    ----------
    estimator : object
        An estimator of this package, or a pipeline that ends in one; fitted or not. It stays as it
        is, only clones are fitted. Of a pipeline, `n_clusters` of the last step is varied.
    X : array-like
        What ``estimator.fit`` accepts.
    n_clusters : sequence of int
        The cluster numbers to try.
    scoring : mapping of str to callable or None, default=None
        Scorers ``scorer(estimator, X, y)`` by name. None takes :func:`silhouette_scorer` as
        ``"silhouette"`` and :func:`mean_confidence_scorer` as ``"mean confidence"``.
    n_fits : int, default=2
        Fits of each cluster number, which differ in their random state. With two or more,
        ``"stability"`` is the adjusted Rand index of each fit with the next one, the last with the
        first: what :func:`stability_scorer` returns, without further fits.
    random_state : int, RandomState or None, default=0
        Where the random states of the fits are drawn from.

    Returns
    -------
    scores : dict of str to ndarray of shape (len(n_clusters), n_fits), float
        By the names of the scorers.

    Raises
    ------
    ValueError
        If `n_clusters` is empty, or `n_fits` less than 1, or a scorer has the name ``"stability"``
        and `n_fits` is more than 1.
    TypeError
        If the estimator is a class, has no parameter `n_clusters`, or cannot be scored, or if
        `scoring` is no mapping.

    See Also
    --------
    deepcluster_sk.display.ClusterNumberDisplay : Draws these curves.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from deepcluster_sk import ContrastiveClustering
    >>> from deepcluster_sk.model_selection import n_clusters_curve
    >>> X, _ = make_blobs(90, centers=3, n_features=5, random_state=0)
    >>> scores = n_clusters_curve(ContrastiveClustering(max_epochs=10), X, n_clusters=[2, 3])
    >>> sorted(scores)
    ['mean confidence', 'silhouette', 'stability']
    >>> scores["stability"].shape
    (2, 2)
    """
    if len(n_clusters) == 0 or n_fits < 1:
        raise ValueError(
            f"n_clusters={n_clusters!r} and n_fits={n_fits!r}, expected at least one cluster "
            "number and at least one fit."
        )
    if scoring is None:
        scoring = {"silhouette": silhouette_scorer, "mean confidence": mean_confidence_scorer}
    if not isinstance(scoring, Mapping):
        raise TypeError(
            f"scoring={scoring!r}, expected a mapping of names to scorers, such as "
            "{'silhouette': silhouette_scorer}."
        )
    if n_fits > 1 and "stability" in scoring:
        raise ValueError(
            f"scoring has the name 'stability', which n_fits={n_fits} computes itself. Give the "
            "scorer another name, or pass n_fits=1."
        )
    seeds = check_random_state(random_state).randint(_MAX_SEED, size=n_fits)
    scores: dict[str, list[list[float]]] = {name: [] for name in scoring}
    if n_fits > 1:
        scores["stability"] = []
    for number in n_clusters:
        fits = [_with_n_clusters(estimator, number, int(seed)).fit(X) for seed in seeds]
        for name, scorer in scoring.items():
            scores[name].append([float(scorer(fit, X, None)) for fit in fits])
        if n_fits > 1:
            found = [assign(fit, X) for fit in fits]
            pairs = zip(found, [*found[1:], found[0]], strict=True)
            scores["stability"].append([_agreement(*pair) for pair in pairs])
    return {name: np.array(values) for name, values in scores.items()}


def _with_random_state(estimator: Any, random_state: int) -> Any:
    """Return an unfitted clone, all of whose random states, also those of steps, are set."""
    copy = clone(estimator)
    return copy.set_params(**dict.fromkeys(_parameters(copy, "random_state"), random_state))


def _with_n_clusters(estimator: Any, n_clusters: int, random_state: int) -> Any:
    """Return an unfitted clone with another number of clusters and another random state."""
    copy = _with_random_state(estimator, random_state)
    name = _parameter_of_last_step(copy, "n_clusters")
    if name not in copy.get_params():
        raise TypeError(
            f"{type(estimator).__name__} has no parameter n_clusters, which would be varied. Pass "
            "an estimator of deepcluster_sk, or a Pipeline that ends in one."
        )
    return copy.set_params(**{name: n_clusters})


def _parameter_of_last_step(estimator: Any, name: str) -> str:
    """Name a parameter of the estimator or, of a pipeline, of its last step."""
    if not isinstance(estimator, Pipeline):
        return name
    step, last = estimator.steps[-1]
    return f"{step}__{_parameter_of_last_step(last, name)}"


def _parameters(estimator: Any, name: str) -> list[str]:
    """Names of a parameter in the estimator and, with their prefix, in the steps of a pipeline."""
    return [key for key in estimator.get_params() if key == name or key.endswith(f"__{name}")]


def _seeds(estimator: Any) -> set[int | None]:
    """Random states of the estimator and its steps that are integers, None for others."""
    params = estimator.get_params()
    states = [params[key] for key in _parameters(estimator, "random_state")]
    return {int(state) if isinstance(state, int | np.integer) else None for state in states}


def _n_found(assignments: Assignments) -> int:
    return int((assignments.sizes > 0).sum())


def _agreement(first: Assignments, second: Assignments) -> float:
    """Return the adjusted Rand index, or -0.5 if either has found less than two clusters."""
    if min(_n_found(first), _n_found(second)) < 2:
        return -0.5
    known = (first.labels >= 0) & (second.labels >= 0)
    return float(adjusted_rand_score(first.labels[known], second.labels[known]))
