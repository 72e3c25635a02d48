"""Tables of clusters as files that programs for labelling images open."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from . import errors
from .tables import check_table, check_target

if TYPE_CHECKING:
    from pandas import DataFrame

_LOCAL_FILES = "/data/local-files/?d="  # where Label Studio serves files of its own machine
_ATTRIBUTES = ("typicality", "second_cluster", "exemplar_distance", "class")
_CHOICES, _IMAGE = "cluster", "image"  # names of the tags in the labelling interface


def to_fiftyone(
    table: "DataFrame",
    path: str | os.PathLike[str],
    *,
    cluster_names: Sequence[str] | None = None,
) -> Path:
    """Write clusters as the labels of a ``FiftyOneImageClassificationDataset``.

    Each image, by its absolute path, gets its cluster as label, its confidence, and the other
    columns of the table as attributes. FiftyOne opens the file with::

        import fiftyone as fo

        dataset = fo.Dataset.from_dir(
            dataset_type=fo.types.FiftyOneImageClassificationDataset,
            labels_path="labels.json",
            data_path="photos",
        )

    Parameters
    ----------
    table : DataFrame
        What :func:`cluster_table` returns for image files.
    path : path-like
        The JSON file, which FiftyOne expects to be called ``labels.json`` unless it is told
        otherwise. It is replaced if it exists.
    cluster_names : sequence of str or None, default=None
        Names of the clusters. None takes ``"cluster 0"``, ``"cluster 1"`` and so on. Clusters of
        one name become one class.

    Returns
    -------
    path : Path
        Where the file is.

    Raises
    ------
    ValueError
        If the samples of the table are not paths, columns are missing, or there are too few names.
    TypeError
        If `table` is not a DataFrame.
    FileNotFoundError
        If the folder of `path` does not exist.
    OSError
        If the file cannot be written.

    See Also
    --------
    to_label_studio : For correcting the clusters by hand.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from deepcluster_sk.inspection import to_fiftyone
    >>> table = pd.DataFrame({"sample": ["/a.png"], "cluster": [0], "confidence": [0.9]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(to_fiftyone(table, f"{folder}/labels.json").name)
    labels.json
    """
    samples, clusters = _files_and_clusters(table)
    names = _cluster_names(clusters, cluster_names)
    classes = list(dict.fromkeys(names))
    numbers = [classes.index(name) for name in names]
    extra = {name: table[name].tolist() for name in _ATTRIBUTES if name in table.columns}
    labels: dict[str, Any] = {}
    for row, (sample, cluster, confidence) in enumerate(
        zip(samples, clusters, table["confidence"].tolist(), strict=True)
    ):
        attributes = {name: _plain(values[row]) for name, values in extra.items()}
        known = {name: value for name, value in attributes.items() if value is not None}
        label = {"label": numbers[cluster], "confidence": confidence, "attributes": known}
        labels[os.path.abspath(sample)] = label if cluster >= 0 else None
    return _write(path, {"classes": classes, "labels": labels})


def to_label_studio(
    table: "DataFrame",
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str],
    url: str = _LOCAL_FILES,
    cluster_names: Sequence[str] | None = None,
) -> str:
    """Write clusters as tasks of Label Studio that have a predicted choice.

    Import the file into a project whose labelling interface is the text that this function returns,
    and correct the choices there. Tasks can be sorted by the score of their prediction, which is
    the confidence, and by the other columns of the table, which are data of the task.

    Parameters
    ----------
    table : DataFrame
        What :func:`cluster_table` returns for image files.
    path : path-like
        The JSON file. It is replaced if it exists.
    root : path-like
        Folder that contains all files, and that `url` stands for. For files of the machine that
        Label Studio runs on, start it with ``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`` and
        this folder as ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``, and add the folder of the images
        to the project as a source storage of local files.
    url : str, default="/data/local-files/?d="
        What takes the place of `root` and the slash behind it in the address of an image, such as
        ``"https://example.org/photos/"``.
    cluster_names : sequence of str or None, default=None
        Names of the clusters. None takes ``"cluster 0"``, ``"cluster 1"`` and so on. Clusters of
        one name become one choice.

    Returns
    -------
    interface : str
        The labelling interface of the project, in XML.

    Raises
    ------
    ValueError
        If the samples of the table are not paths, a file is not inside of `root`, columns are
        missing, or there are too few names.
    TypeError
        If `table` is not a DataFrame.
    FileNotFoundError
        If the folder of `path` does not exist.
    OSError
        If the file cannot be written.

    See Also
    --------
    to_fiftyone : For looking at the clusters.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from deepcluster_sk.inspection import to_label_studio
    >>> table = pd.DataFrame({"sample": ["/a/b.png"], "cluster": [0], "confidence": [0.9]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(to_label_studio(table, f"{folder}/tasks.json", root="/a"))
    <View>
      <Image name="image" value="$image"/>
      <Choices name="cluster" toName="image" choice="single">
        <Choice value="cluster 0"/>
      </Choices>
    </View>
    """
    samples, clusters = _files_and_clusters(table)
    names = _cluster_names(clusters, cluster_names)
    extra = {name: table[name].tolist() for name in _ATTRIBUTES if name in table.columns}
    tasks = []
    for row, (sample, cluster, confidence) in enumerate(
        zip(samples, clusters, table["confidence"].tolist(), strict=True)
    ):
        data = {name: _plain(values[row]) for name, values in extra.items()}
        data |= {_IMAGE: url + _below(sample, root), "cluster": cluster}
        predictions = [_prediction(names[cluster], confidence)] if cluster >= 0 else []
        tasks.append({"data": data, "predictions": predictions})
    _write(path, tasks)
    choices = "".join(f"    <Choice value={quoteattr(n)}/>\n" for n in dict.fromkeys(names))
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}"/>\n'
        f'  <Choices name="{_CHOICES}" toName="{_IMAGE}" choice="single">\n{choices}'
        "  </Choices>\n</View>"
    )


def _prediction(name: str, confidence: float) -> dict[str, Any]:
    """Return the choice of a cluster as Label Studio writes it."""
    choice = {
        "from_name": _CHOICES,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": [name]},
    }
    return {"model_version": "deepcluster_sk", "score": confidence, "result": [choice]}


def _files_and_clusters(table: Any) -> tuple[list[str], list[int]]:
    """Return the paths of the samples and their clusters."""
    check_table(table, ("sample", "cluster", "confidence"))
    samples = table["sample"].tolist()
    for sample in samples:
        if not isinstance(sample, str | os.PathLike):
            raise errors.samples_without_files(sample)
    return [os.fspath(sample) for sample in samples], [int(c) for c in table["cluster"]]


def _cluster_names(clusters: Sequence[int], names: Sequence[str] | None) -> list[str]:
    """Return the name of each cluster."""
    n_clusters = max(clusters, default=-1) + 1
    if names is None:
        return [f"cluster {number}" for number in range(n_clusters)]
    if len(names) < n_clusters:
        raise errors.too_few_cluster_names(len(names), n_clusters)
    return [str(name) for name in names]


def _below(path: str, root: str | os.PathLike[str]) -> str:
    """Return the address of a file below the root, with slashes."""
    folder = os.path.abspath(root)
    file = Path(os.path.abspath(path))
    if not file.is_relative_to(folder):
        raise errors.outside_of_root(path, folder)
    return quote(os.fsencode(file.relative_to(folder).as_posix()))


def _plain(value: Any) -> Any:
    """Return a value of a table as JSON has it; None where it is missing."""
    from pandas import isna

    if isna(value):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def _write(path: str | os.PathLike[str], content: Any) -> Path:
    """Write JSON in ASCII, which has room for any file name."""
    path = Path(path)
    check_target(path)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="ascii")
    return path
