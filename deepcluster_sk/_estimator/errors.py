"""What is said about parameters, X and files that cannot be used.

Every error that a user of an estimator can cause is made here: it says what was got, what was
expected, and what to do.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..exceptions import AugmentationError, DivergenceError, OnnxExportError, SavedModelError

Shape = tuple[int, ...]


def other_n_clusters(n_clusters: int, n_before: int) -> ValueError:
    """Say that a training cannot go on with another number of clusters."""
    return ValueError(
        f"n_clusters={n_clusters}, but the training goes on from {n_before} clusters. Restore "
        "n_clusters, or call fit with warm_start=False to start again."
    )


def merged_and_warm_start(n_clusters: int) -> ValueError:
    """Say that whole trainings do not go on with merged clusters."""
    return ValueError(
        f"warm_start=True goes on from {n_clusters} clusters that were merged after the training. "
        "Pass warm_start=False to train that many from the start, or call partial_fit, which keeps "
        "what was merged."
    )


def no_tree(n_clusters: int) -> AttributeError:
    """Say that it is not known which clusters are close."""
    return AttributeError(
        f"There is no linkage_ for these {n_clusters} clusters: it is learned at the end of fit, "
        "for up to 500 clusters. Call fit, or merge clusters by merge_clusters."
    )


def number_is_no_integer(n_clusters: object) -> TypeError:
    """Say that a number of clusters is something else."""
    return TypeError(f"n_clusters={n_clusters!r} is no integer. Pass a number of clusters.")


def bad_cut(n_clusters: int, n_now: int) -> ValueError:
    """Say that a tree cannot be cut into so many branches."""
    return ValueError(
        f"n_clusters={n_clusters}, expected a number in [1, {n_now}]: a tree of {n_now} clusters "
        "has no more branches."
    )


def no_groups(groups: object) -> TypeError:
    """Say that groups of clusters are something else."""
    return TypeError(
        f"groups={groups!r}, expected groups of cluster numbers, such as [[0, 3], [5, 7]]. A "
        "single group is [[0, 3]]."
    )


def empty_group(groups: object) -> ValueError:
    """Say that a group has no cluster."""
    return ValueError(f"groups={groups!r} has an empty group. Leave it out.")


def unknown_clusters(unknown: list[int], n_clusters: int) -> ValueError:
    """Say that clusters do not exist."""
    return ValueError(f"There are no clusters {unknown}, expected numbers in [0, {n_clusters}).")


def cluster_in_two_groups(clusters: list[int]) -> ValueError:
    """Say that clusters are named twice."""
    return ValueError(f"Clusters {clusters} are named more than once. Name each of them once.")


def auto_in_partial_fit() -> ValueError:
    """Say that a single pass cannot find the number of clusters."""
    return ValueError(
        "n_clusters='auto' in the first partial_fit, but the number of clusters is found at the "
        "end of fit. Pass a number, or call fit first."
    )


def other_freeze_encoder(freeze_encoder: bool, was_frozen: bool) -> ValueError:
    """Say that a training cannot go on with an encoder that is frozen now, or no more."""
    return ValueError(
        f"freeze_encoder={freeze_encoder!r}, but the training goes on from one with "
        f"freeze_encoder={was_frozen}. Pass that, or call fit with warm_start=False to start again."
    )


def weights_do_not_fit(error: Exception) -> ValueError:
    """Say that new networks have another structure than the fitted ones."""
    return ValueError(
        "warm_start=True goes on from the present weights, which do not fit the parameters: "
        f"{error}. Restore the parameters that shape the networks, or pass warm_start=False."
    )


def views_do_not_fit(
    views: tuple[int, ...], samples: tuple[int, ...], error: Exception
) -> AugmentationError:
    """Say that an encoder does not take the size that an augmentation gives to images."""
    return AugmentationError(
        f"augmentation= makes views of shape {views} of samples of shape {samples}, which the "
        f"encoder does not take ({type(error).__name__}: {error}). Let the augmentation resize "
        "its views to the size of the samples, or pass an encoder that takes images of any size."
    )


def assignments_diverged(learning_rate: float) -> DivergenceError:
    """Say that assignments are no numbers."""
    return DivergenceError(
        f"Assignments became NaN or infinite. Lower learning_rate (now {learning_rate:g})."
    )


def fewer_samples_than_clusters(n_samples: int, n_clusters: int) -> ValueError:
    """Say that there are too few samples."""
    return ValueError(
        f"n_samples={n_samples} should be >= n_clusters={n_clusters}. Lower n_clusters, or pass "
        "more samples."
    )


def single_sample(n_samples: int) -> ValueError:
    """Say that one sample alone cannot be contrasted."""
    return ValueError(
        f"n_samples={n_samples} should be >= 2: each sample is told from the others. Collect "
        "samples, and pass them together."
    )


def no_negatives(queue: str) -> ValueError:
    """Say that a loss has nothing to tell a sample or a cluster from."""
    return ValueError(
        f"{queue}=0 and batch_negatives=False leave a loss without negatives, which it would tell "
        f"samples or clusters from. Pass a larger {queue}, or batch_negatives=True."
    )


def single_sample_per_batch(batch_size: int) -> ValueError:
    """Say that a batch of one sample has nothing to contrast it with."""
    return ValueError(
        f"batch_size={batch_size} should be >= 2: each sample is told from the others of its "
        "batch. Pass a larger batch_size."
    )


def networks_too_large(
    sizes: Mapping[str, int], n_bytes: int, device: torch.device, free: int
) -> MemoryError:
    """Say which parameters make networks that cannot be trained in the memory."""
    named = ", ".join(f"{name}={value}" for name, value in sizes.items())
    return MemoryError(
        f"Training networks and queues with {named} takes at least {n_bytes / 1e9:,.1f} GB, but "
        f"{device} has {free / 1e9:,.1f} GB free. Lower these parameters."
    )


def unequal_parts(batch_size: int, n_processes: int, fitting: int) -> ValueError:
    """Say that the processes of a job cannot share a batch equally."""
    return ValueError(
        f"A batch of {batch_size} samples cannot be cut into equal parts for {n_processes} "
        f"processes. Pass batch_size={fitting}, or start another number of them."
    )


def compiled_in_a_job(n_processes: int) -> ValueError:
    """Say that a loss which several processes compute together cannot be compiled."""
    return ValueError(
        f"compile=True was passed in a job of {n_processes} processes, whose messages cannot be "
        "part of a graph. Pass compile=False, or start a single process."
    )


def empty(least: int) -> ValueError:
    """Say that X has no samples."""
    return ValueError(
        f"X is empty: found 0 samples, expected at least {least}. Pass rows, images, or paths of "
        "image files; a pattern of file names may have matched none."
    )


def ragged_list(name: str, error: Exception) -> ValueError:
    """Say that the elements of a list cannot be stacked."""
    return ValueError(
        f"X is a ragged list: its elements differ in shape ({error}). {name} expects samples of "
        "one shape; resize the images or pad the rows."
    )


def not_a_path(number: int, element: Any) -> ValueError:
    """Say which element of a container of paths is not a path."""
    return ValueError(
        f"X holds paths and other things: element {number} is {element!r}, expected a path. Pass "
        "paths of image files only, or an array of numbers."
    )


def not_numbers(
    name: str, kind: str, shape: Shape, text: str | bytes | os.PathLike[str]
) -> ValueError:
    """Say how text is passed that names image files."""
    if isinstance(text, bytes):
        mend = "Decode bytes: [os.fsdecode(path) for path in X]"
    else:
        mend = "Pass the column of a DataFrame, such as df['path'], or np.ravel(X) of an array"
    return ValueError(
        f"X ({kind} of shape {shape}) holds text, such as {text!r}. {name} expects numbers, or a "
        f"flat list, array or Series of paths of image files. {mend}; encode text of any other "
        "kind as numbers."
    )


def no_common_dtype(name: str, frame: Any) -> TypeError:
    """Say which types of columns cannot be in one array, such as numbers and dates."""
    dtypes = sorted(set(map(str, frame.dtypes)))
    return TypeError(
        f"X ({type(frame).__name__} of shape {frame.shape}) has columns of types that no array of "
        f"numbers holds together: {dtypes}. {name} expects numbers: convert dates and durations, "
        "for example to days since the first date."
    )


def not_finite(name: str, what: str, row: int, extent: str = "") -> ValueError:
    """Say which row holds NaN or infinity."""
    advice = (
        "does not accept missing values: drop these rows or fill them with an imputer from "
        "sklearn.impute."
        if what == "NaN"
        else "needs finite values: drop these rows, or clip them with numpy.nan_to_num."
    )
    return ValueError(f"Input X contains {what} in row {row}{extent}. {name} {advice}")


def files_for_rows(name: str, n_features: int) -> ValueError:
    """Say that image files cannot be assigned by a model of rows."""
    return ValueError(
        f"X consists of image files, but {name} was fitted with rows of {n_features} features. "
        "Pass rows, or fit on images."
    )


def other_shape(name: str, shape: Shape, fitted: Shape) -> ValueError:
    """Say that new samples have another shape than those of fit."""
    return ValueError(
        f"X has samples of shape {shape}, but {name} was fitted with samples of shape {fitted}. "
        f"Pass X of shape {('n', *fitted)}, or flattened rows."
    )


def too_many_dimensions(name: str, shape: Shape) -> ValueError:
    """Say that X is no array of rows or images."""
    return ValueError(
        f"X has {len(shape)} dimensions (shape {shape}). {name} expects rows (n, d), grey images "
        "(n, H, W), or images (n, H, W, C) or (n, C, H, W)."
    )


def no_pixels(shape: Shape) -> ValueError:
    """Say that images have a side of length 0."""
    return ValueError(
        f"X has shape {shape}: found images with 0 pixels, expected at least 1. Pass images whose "
        "height, width and channels are at least 1."
    )


def no_channel_axis(shape: Shape) -> ValueError:
    """Say that no axis can be that of the channels."""
    return ValueError(
        f"No channel axis in images of shape {shape}: expected 1, 3 or 4 channels on the last "
        "axis (H, W, C) or the first one (C, H, W). Move the axis, or select channels."
    )


def bad_image_shape(image_shape: Shape) -> ValueError:
    """Say that image_shape is not the shape of an image."""
    return ValueError(
        f"image_shape={image_shape}, expected (H, W), (H, W, C) or (C, H, W) with positive "
        "integers. Pass the shape of one flattened image."
    )


def image_shape_of_images(shape: Shape, image_shape: Shape) -> ValueError:
    """Say that image_shape contradicts images that are not flattened."""
    return ValueError(
        f"X has samples of shape {shape}, but image_shape={image_shape}. Leave image_shape=None "
        "for images that are not flattened."
    )


def image_shape_of_other_rows(shape: Shape, image_shape: Shape | None, n_needed: int) -> ValueError:
    """Say that flattened images have another number of columns than image_shape has pixels."""
    return ValueError(
        f"X has shape {shape} and image_shape={tuple(image_shape or ())} needs {n_needed} columns. "
        f"Pass the image_shape of these {shape[1]} columns, or X with {n_needed} columns."
    )


def unknown_data_set(name: str, data_set: str, known: Iterable[str]) -> ValueError:
    """Say which data sets a paper has."""
    return ValueError(
        f"data_set={data_set!r} is unknown to {name}. Expected one of {sorted(known)}."
    )


def unknown_dtype(dtype: str, known: Iterable[str]) -> ValueError:
    """Say which types of samples an exported graph can take."""
    return ValueError(f"dtype={dtype!r}, expected one of {list(known)}. Pass one of these names.")


def encoder_needed() -> SavedModelError:
    """Say that the code of an encoder is not in the file."""
    return SavedModelError(
        "The estimator was saved with an encoder of its own, whose code is not in the file. Pass "
        "the module, or a callable that returns it, as encoder=."
    )


def unknown_attribute(name: str) -> KeyError:
    """Say that a file names something that is not an attribute of an estimator."""
    return KeyError(f"{name} is not an attribute of a fitted estimator")


def bad_labels(n_clusters: int) -> ValueError:
    """Say that labels in a file name clusters that do not exist."""
    return ValueError(f"labels_ are not all in [0, {n_clusters})")


def bad_cluster_numbers(numbers: torch.Tensor) -> ValueError:
    """Say that the numbers of the clusters in a file leave some out."""
    return ValueError(
        f"cluster_of is {numbers.tolist()}, expected all integers from 0 to the largest"
    )


def bad_number_of_clusters(n_found: int, n_expected: int) -> ValueError:
    """Say that the parts of a file have different numbers of clusters."""
    return ValueError(f"there are {n_found} clusters, expected {n_expected}")


def labels_of_other_files() -> ValueError:
    """Say that labels in a file contradict the files that were skipped."""
    return ValueError("labels_ are not -1 for the files in skipped_, and for no others")


def onnx_packages_missing() -> ImportError:
    """Say how to get what an export needs."""
    return ImportError(
        'Exporting needs onnx and onnxscript. Install them with: pip install "deepcluster_sk[onnx]"'
    )


def torch_too_old_for_onnx(needed: str, found: str) -> ImportError:
    """Say which version of torch can export."""
    return ImportError(f"Exporting needs torch >= {needed}, found {found}. Upgrade torch.")


def not_exportable(error: Exception) -> OnnxExportError:
    """Say what an encoder must be like to be exported."""
    return OnnxExportError(
        f"The networks cannot be exported to ONNX: {error}\nIf the encoder is your own, its "
        "forward must consist of torch operations that have a counterpart in ONNX, without "
        "branches on values, and for any number of samples."
    )


def callbacks_missing(name: str, found: str) -> ImportError:
    """Say which version of scikit-learn has callbacks."""
    return ImportError(
        f"{name} needs the callbacks of scikit-learn >= 1.9, found {found}. Upgrade scikit-learn."
    )


def field_without_kind(class_name: str, field: str) -> TypeError:
    """Say that a field of an estimator class has no constraint."""
    return TypeError(
        f"The field {field!r} of {class_name} has no kind, expected one of _estimator/kinds.py or "
        "an Annotated type. Add a constraint, or mark the field as ClassVar."
    )


def field_without_default(class_name: str, field: str) -> TypeError:
    """Say that a field of an estimator class has no default."""
    return TypeError(
        f"The field {field!r} of {class_name} has no default, but estimators are built without "
        "arguments. Assign one."
    )


def parameter_without_description(class_name: str, parameter: str) -> TypeError:
    """Say that the docstring of an estimator class leaves out a parameter."""
    return TypeError(
        f"The docstring of {class_name} does not describe the parameter {parameter!r}. Add an "
        "entry of its own to the section Parameters."
    )


def unfit_arguments(class_name: str, error: TypeError) -> TypeError:
    """Say which argument a constructor does not have."""
    return TypeError(f"{class_name}.__init__() {error}")


def other_spaces(spaces: Any, feature_dim: int) -> ValueError:
    """Return the error for spaces that are not all columns of the features."""
    return ValueError(
        f"spaces={spaces!r}, expected a positive number of columns for each space, {feature_dim} "
        "in all: as many as the rows, or the features of the encoder, have. Pass the widths of the "
        "arrays that were concatenated, in their order."
    )
