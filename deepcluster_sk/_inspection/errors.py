"""The errors of displays, scorers and the report: each function builds one of them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

_WAY_OUT = (
    "Pass a fitted estimator of deepcluster_sk, or a Pipeline or search that ends in one; the "
    "labels of any other can be drawn by a display's from_predictions."
)


def class_in_place_of_instance(estimator: type) -> TypeError:
    """Return the error for a class that nobody has made an instance of."""
    name = estimator.__name__
    return TypeError(
        f"Got the class {name}, expected a fitted instance of it. Create and fit one, such as "
        f"{name}().fit(X), and pass it."
    )


def missing_method(estimator: Any, method: str) -> TypeError:
    """Return the error for an estimator of another package that lacks a method."""
    return TypeError(f"{type(estimator).__name__} has no method {method}. {_WAY_OUT}")


def missing_training(estimator: Any) -> TypeError:
    """Return the error for an estimator of another package, which has not kept its losses."""
    return TypeError(
        f"{type(estimator).__name__} has no loss curve and no parameters of deepcluster_sk to "
        f"show. {_WAY_OUT}"
    )


def search_without_best(search: Any) -> NotFittedError:
    """Return the error for a search that has not fitted its best estimator."""
    return NotFittedError(
        f"This {type(search).__name__} has no best_estimator_ to show. Call fit, with refit=True, "
        "before passing it."
    )


def bad_labels(labels: np.ndarray) -> ValueError:
    """Return the error for labels that are not integers."""
    return ValueError(
        f"labels have shape {labels.shape} and dtype {labels.dtype}; expected at least one integer "
        "from 0 on, or -1 for samples without a cluster."
    )


def bad_clusters(clusters: Any, n_clusters: int) -> ValueError:
    """Return the error for numbers of clusters that do not exist."""
    return ValueError(
        f"clusters={clusters!r}, expected a list of integers in [0, {n_clusters}), or None for all."
    )


def missing_report_folder(path: Path) -> FileNotFoundError:
    """Return the error for a report in a folder that does not exist."""
    return FileNotFoundError(
        f"The report cannot be written to {os.fspath(path)!r}: there is no folder "
        f"{os.fspath(path.parent)!r}. Create it first."
    )
