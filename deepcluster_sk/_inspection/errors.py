"""The errors of displays, scorers and the report: each function builds one of them."""

import os
from collections.abc import Sequence
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


def labels_alone(estimator: Any) -> TypeError:
    """Return the error for a clusterer of another package outside of a pipeline."""
    name = type(estimator).__name__
    return TypeError(
        f"{name} has no method predict_proba. Pass it as the last step of a fitted Pipeline, "
        f"{_pipeline_with(name)}; a display's from_predictions draws its labels alone."
    )


def missing_features(estimator: Any) -> TypeError:
    """Return the error for an estimator of another package that compares no features."""
    name = type(estimator).__name__
    example = f": {_pipeline_with(name)}" if hasattr(estimator, "predict") else ""
    return TypeError(
        f"{name} has no features of samples to compare. Pass a fitted estimator of deepcluster_sk, "
        f"or a Pipeline whose steps before the last one transform samples to features{example}."
    )


def _pipeline_with(name: str) -> str:
    """Show how the features of our estimators get to a clusterer of another package."""
    return (
        f"make_pipeline(model, {name}(...)).fit(X), where model is an estimator of deepcluster_sk "
        "or another transformer"
    )


def missing_training(estimator: Any) -> TypeError:
    """Return the error for an estimator of another package, which has not kept its losses."""
    return TypeError(
        f"{type(estimator).__name__} has no loss curve and no parameters of deepcluster_sk to "
        f"show. {_WAY_OUT} display.cluster_map and inspection.cluster_table also take a Pipeline "
        "that ends in another clusterer, such as make_pipeline(model, KMeans(...))."
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


def bad_count(n: Any) -> ValueError:
    """Return the error for a number of samples to find."""
    return ValueError(f"n={n!r}, expected an integer of at least 1.")


def too_few_others(n: int, n_others: int) -> ValueError:
    """Return the error for more neighbours than there are."""
    return ValueError(
        f"n={n}, but a query can be compared with only {n_others} other samples of X. Ask for at "
        "most as many."
    )


def no_queries() -> ValueError:
    """Return the error for an empty list of queries."""
    return ValueError(
        "There is nothing to search for: queries has neither samples nor row numbers."
    )


def bad_row_numbers(queries: np.ndarray, n_samples: int) -> ValueError:
    """Return the error for queries that are no rows of X."""
    wrong = queries[(queries < 0) | (queries >= n_samples)]
    return ValueError(
        f"queries name row {wrong[0]}, but X has {n_samples} samples; expected row numbers in "
        f"[0, {n_samples})."
    )


def boolean_queries() -> TypeError:
    """Return the error for a mask in place of row numbers."""
    return TypeError(
        "queries are booleans; expected row numbers, such as np.flatnonzero(mask), or samples."
    )


def different_features(n_found: int, n_expected: int) -> ValueError:
    """Return the error for features of queries that cannot be compared with those of X."""
    return ValueError(
        f"The features of queries have {n_found} columns, those of X {n_expected}; expected "
        "samples of the same kind."
    )


def bad_threshold(threshold: Any) -> ValueError:
    """Return the error for a distance that cosine distances never have."""
    return ValueError(
        f"threshold={threshold!r}, expected 'auto' or a cosine distance in [0, 2]; most "
        "near-duplicates are below 0.1."
    )


def missing_package(package: str, what: str) -> ImportError:
    """Return the error for a package of the extra for tables."""
    return ImportError(
        f"{what} needs the package {package}, which the extra for tables contains: pip install "
        "'deepcluster_sk[tables]'."
    )


def unknown_suffix(path: Path, suffixes: Sequence[str]) -> ValueError:
    """Return the error for a table in a format that is not written."""
    return ValueError(
        f"{os.fspath(path)!r} has the suffix {path.suffix!r}, expected one of "
        f"{', '.join(suffixes)} for a table."
    )


def no_table(table: Any) -> TypeError:
    """Return the error for something in place of a table."""
    return TypeError(
        f"table is of type {type(table).__name__}, expected a DataFrame such as cluster_table "
        "returns."
    )


def missing_columns(missing: Sequence[str], columns: Sequence[str]) -> ValueError:
    """Return the error for a table without the columns of ours."""
    return ValueError(
        f"The table has no column {', '.join(map(repr, missing))}; it has "
        f"{', '.join(map(repr, columns))}. Pass what cluster_table returns."
    )


def missing_folder(path: Path) -> FileNotFoundError:
    """Return the error for a file in a folder that does not exist."""
    return FileNotFoundError(
        f"The folder {os.fspath(path.parent)!r} is missing; make it before writing "
        f"{os.fspath(path.name)!r} to it."
    )


def no_regular_file(path: Path, kind: str) -> OSError:
    """Return the error for a target that a file must not replace."""
    return OSError(f"{os.fspath(path)!r} is {kind}; name a regular file to write the table to.")


def samples_without_files(sample: Any) -> ValueError:
    """Return the error for an export of samples that are not image files."""
    return ValueError(
        f"The column 'sample' has {sample!r}, expected paths of image files, which the other "
        "program opens. Make the table from a folder or from paths, or pass these as names."
    )


def outside_of_root(path: str, root: str) -> ValueError:
    """Return the error for a file that is not below the folder that others see."""
    return ValueError(
        f"The file {path!r} is not inside root={root!r}. Name a folder that contains all files."
    )


def too_few_cluster_names(n_names: int, n_clusters: int) -> ValueError:
    """Return the error for clusters that have no name."""
    return ValueError(
        f"cluster_names has {n_names} names, but the table has cluster {n_clusters - 1}; expected "
        f"at least {n_clusters}."
    )
