"""Exports, checked against the formats that FiftyOne and Label Studio document."""

import json
import os
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from deepcluster_sk.inspection import to_fiftyone, to_label_studio


@pytest.fixture
def table(tmp_path):
    names = ["a.png", "b c.jpg", "sub/dé.png", "no&t.png"]
    return pd.DataFrame(
        {
            "sample": [str(tmp_path / name) for name in names],
            "cluster": [2, 0, 2, -1],
            "confidence": [0.5, 1.0, 0.75, np.nan],
            "typicality": np.array([0.5, np.nan, -1.0, np.nan], dtype=np.float32),
            "second_cluster": pd.array([0, None, 1, None], dtype="Int64"),
            "exemplar_distance": np.array([0.25, 0, 0.5, np.nan], dtype=np.float32),
            "class": ["x", "y", "x", "y"],
        }
    )


def check_fiftyone(content):
    """The documented format of labels.json of a FiftyOneImageClassificationDataset.

    ``{"classes": [str, ...], "labels": {uuid: target}}``, where an absolute path is a valid uuid,
    and a target is null for images without a label, or ``{"label": number of the class,
    "confidence": float, "attributes": {str: value}}``.
    """
    assert set(content) == {"classes", "labels"}
    assert all(isinstance(name, str) for name in content["classes"])
    assert len(set(content["classes"])) == len(content["classes"])
    for uuid, target in content["labels"].items():
        assert os.path.isabs(uuid)
        if target is None:
            continue
        assert set(target) == {"label", "confidence", "attributes"}
        assert type(target["label"]) is int
        assert 0 <= target["label"] < len(content["classes"])
        assert 0 <= target["confidence"] <= 1
        assert all(isinstance(v, str | int | float) for v in target["attributes"].values())


def check_label_studio(tasks, interface):
    """The documented format of tasks with predictions, for the tags of the interface.

    A list of ``{"data": {...}, "predictions": [{"model_version": str, "score": float, "result":
    [{"from_name", "to_name", "type": "choices", "value": {"choices": [str]}}]}]}``. The data have
    the variable that the Image tag names, from_name is that of the Choices tag, to_name that of
    the Image tag, and the choice is one of the tag's.
    """
    view = ElementTree.fromstring(interface)
    image, choices = view.find("Image"), view.find("Choices")
    assert choices.get("toName") == image.get("name")
    values = [choice.get("value") for choice in choices.findall("Choice")]
    assert isinstance(tasks, list)
    for task in tasks:
        assert set(task) == {"data", "predictions"}
        assert isinstance(task["data"][image.get("value").removeprefix("$")], str)
        for prediction in task["predictions"]:
            assert set(prediction) == {"model_version", "score", "result"}
            assert isinstance(prediction["model_version"], str)
            assert 0 <= prediction["score"] <= 1
            (result,) = prediction["result"]
            assert set(result) == {"from_name", "to_name", "type", "value"}
            assert result["type"] == "choices"
            assert (result["from_name"], result["to_name"]) == (
                choices.get("name"),
                image.get("name"),
            )
            (choice,) = result["value"]["choices"]
            assert choice in values


def test_fiftyone_gets_labels_confidences_and_attributes(table, tmp_path):
    path = to_fiftyone(table, tmp_path / "labels.json")
    content = json.loads(path.read_text("ascii"))
    check_fiftyone(content)
    assert content["classes"] == ["cluster 0", "cluster 1", "cluster 2"]
    assert list(content["labels"]) == table["sample"].tolist()
    first, second, _, last = content["labels"].values()
    assert first == {
        "label": 2,
        "confidence": 0.5,
        "attributes": {
            "typicality": 0.5,
            "second_cluster": 0,
            "exemplar_distance": 0.25,
            "class": "x",
        },
    }
    assert second["attributes"] == {"exemplar_distance": 0, "class": "y"}
    assert last is None


def test_fiftyone_gets_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"sample": ["a.png"], "cluster": [0], "confidence": [1.0]})
    content = json.loads(to_fiftyone(table, "labels.json").read_text("ascii"))
    assert list(content["labels"]) == [str(tmp_path / "a.png")]


def test_label_studio_gets_tasks_for_its_interface(table, tmp_path):
    interface = to_label_studio(table, tmp_path / "tasks.json", root=tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text("ascii"))
    check_label_studio(tasks, interface)
    assert len(tasks) == 4
    assert [len(task["predictions"]) for task in tasks] == [1, 1, 1, 0]
    assert tasks[0]["predictions"][0]["result"][0]["value"]["choices"] == ["cluster 2"]
    assert tasks[0]["predictions"][0]["score"] == 0.5
    assert tasks[1]["data"]["typicality"] is None
    assert tasks[0]["data"]["class"] == "x"
    assert [task["data"]["cluster"] for task in tasks] == [2, 0, 2, -1]
    for task, path in zip(tasks, table["sample"], strict=True):
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/"
        (file,) = parse_qs(address.query)["d"]  # as the server reads it
        assert tmp_path / file == tmp_path.joinpath(path)


def test_images_may_be_served_from_elsewhere(table, tmp_path):
    to_label_studio(table, tmp_path / "tasks.json", root=tmp_path, url="https://example.org/p/")
    tasks = json.loads((tmp_path / "tasks.json").read_text("ascii"))
    assert tasks[1]["data"]["image"] == "https://example.org/p/b%20c.jpg"
    assert tasks[2]["data"]["image"] == "https://example.org/p/sub/d%C3%A9.png"


def test_clusters_of_one_name_become_one_class(table, tmp_path):
    names = ["hats & caps", 'a "b"', "hats & caps"]
    path = to_fiftyone(table, tmp_path / "labels.json", cluster_names=names)
    content = json.loads(path.read_text("ascii"))
    check_fiftyone(content)
    assert content["classes"] == names[:2]
    assert [t and t["label"] for t in content["labels"].values()] == [0, 0, 0, None]
    interface = to_label_studio(table, tmp_path / "t.json", root=tmp_path, cluster_names=names)
    check_label_studio(json.loads((tmp_path / "t.json").read_text("ascii")), interface)
    assert interface.count("<Choice ") == 2


def test_names_that_are_no_text_are_written(tmp_path):
    sample = str(tmp_path / "caf\udce9.png")
    samples = pd.Series([sample], dtype=object)
    table = pd.DataFrame({"sample": samples, "cluster": [0], "confidence": [1.0]})
    path = to_fiftyone(table, tmp_path / "labels.json")
    assert list(json.loads(path.read_text("ascii"))["labels"]) == [sample]
    to_label_studio(table, tmp_path / "tasks.json", root=tmp_path)
    (task,) = json.loads((tmp_path / "tasks.json").read_text("ascii"))
    assert task["data"]["image"].endswith("caf%E9.png")


def export(which, table, path, **kwargs):
    if which == "fiftyone":
        return to_fiftyone(table, path, **kwargs)
    return to_label_studio(table, path, root=path.anchor, **kwargs)


@pytest.mark.parametrize("which", ["fiftyone", "label studio"])
def test_bad_tables_are_refused(which, table, tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(
        ValueError, match="The column 'sample' has 7, expected paths of image files"
    ):
        export(which, table.assign(sample=7), path)
    with pytest.raises(ValueError, match=r"has no column 'cluster', 'confidence'; it has 'sample'"):
        export(which, table[["sample"]], path)
    with pytest.raises(TypeError, match="table is of type list, expected a DataFrame such as"):
        export(which, [], path)
    with pytest.raises(ValueError, match="has 2 names, but the table has cluster 2; expected at"):
        export(which, table, path, cluster_names=["a", "b"])
    with pytest.raises(FileNotFoundError, match="cannot be written: its folder"):
        export(which, table, tmp_path / "none" / "x.json")
    assert not path.exists()


def test_files_outside_of_the_root_are_refused(table, tmp_path):
    with pytest.raises(
        ValueError, match=r"is not inside root=.*\. Name a folder that contains all"
    ):
        to_label_studio(table, tmp_path / "tasks.json", root=tmp_path / "sub")
