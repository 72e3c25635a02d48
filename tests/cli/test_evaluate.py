"""Clusters against known classes."""

import numpy as np
import pytest
from command_line import code_and_message, rows_of
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._cli.evaluate import aligned, scores
from deepcluster_sk._inspection.pictures import as_samples
from deepcluster_sk.metrics import clustering_accuracy_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def model(photos, tmp_path):
    """A file of a model of `photos`."""
    path = tmp_path / "model.dcsk"
    ContrastiveClustering(3, max_epochs=1, random_state=0).fit(as_samples(photos)).save(path)
    return path


def numbers(text):
    """The measures that are printed, by name."""
    lines = text.split("\n\n")[0].splitlines()
    return {name: float(value) for name, value in map(str.split, lines)}


def test_subfolders_are_classes(photos, model, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert main(["evaluate", str(model), str(photos), "--out", str(out)]) == 0
    output = capsys.readouterr()
    assert f"wrote {out}" in output.err
    classes = ["even"] * 30 + ["odd"] * 30
    clusters = deepcluster_sk.load(model).predict(as_samples(photos))
    found = numbers(output.out)
    assert found["samples"] == 60
    assert found["ACC"] == pytest.approx(clustering_accuracy_score(classes, clusters), abs=1e-4)
    assert found["NMI"] == pytest.approx(normalized_mutual_info_score(classes, clusters), abs=1e-4)
    assert found["ARI"] == pytest.approx(adjusted_rand_score(classes, clusters), abs=1e-4)
    rows = rows_of(out)
    assert list(rows[0]) == ["path", "cluster", "confidence", "class"]
    assert [row["class"] for row in rows] == classes
    assert [int(row["cluster"]) for row in rows] == clusters.tolist()


@pytest.mark.filterwarnings("default::UserWarning")
def test_images_without_a_class_and_unreadable_ones_are_left_out(photos, model, capsys):
    for name in ("00.png", "01.png"):
        (photos / "odd" / name).rename(photos / name)
    (photos / "odd" / "02.png").write_bytes(b"no image")
    assert main(["evaluate", str(model), str(photos), "--on-error", "skip"]) == 0
    output = capsys.readouterr()
    assert "warning: 2 images are in" in output.err
    assert "1 samples without a cluster are left out of the scores" in output.err
    assert numbers(output.out)["samples"] == 57


@pytest.mark.filterwarnings("default::UserWarning")
def test_clusters_that_were_copied_are_no_classes(photos, model, capsys):
    for number, name in enumerate(("even", "odd")):
        (photos / name).rename(photos / f"cluster_{number}")
    assert main(["evaluate", str(model), str(photos)]) == 0
    assert "are named as --copy-to names clusters" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_column_holds_the_classes(suffix, table, row_model, blobs, tmp_path, capsys):
    path, out = table(suffix), tmp_path / f"out{suffix}"
    arguments = ["evaluate", str(row_model), str(path), "--id-column", "id"]
    assert main([*arguments, "--label-column", "kind", "--out", str(out)]) == 0
    clusters = deepcluster_sk.load(row_model).predict(blobs[0])
    found = numbers(capsys.readouterr().out)
    assert found["ACC"] == pytest.approx(clustering_accuracy_score(blobs[1], clusters), abs=1e-4)
    if suffix == ".parquet":
        rows = pytest.importorskip("pandas").read_parquet(out)
        assert rows.columns.tolist() == ["id", "cluster", "confidence", "class"]
        assert rows["cluster"].tolist() == clusters.tolist()
        assert rows["id"].tolist() == [f"sample {row}" for row in range(60)]
    else:
        lines = out.read_text("utf-8").splitlines()
        delimiter = "\t" if suffix == ".tsv" else ","
        assert lines[0] == delimiter.join(["id", "cluster", "confidence", "class"])
        assert lines[1].split(delimiter)[::3] == ["sample 0", f"kind {blobs[1][0]}"]


def test_the_matched_table_has_matched_pairs_on_the_diagonal():
    text = scores(np.array(["cat", "cat", "dog", "dog", "dog"]), np.array([4, 4, 0, 0, 4]))
    assert text.split("\n\n")[1] == "class  4  0\ncat    2  0\ndog    1  2\n"
    assert numbers(text)["ACC"] == 0.8


def test_many_clusters_are_shown_as_pairs():
    classes = np.arange(25).repeat(2)
    clusters = np.minimum(classes[::-1] + 1, 22)
    table = scores(classes, clusters).split("\n\n")[1].splitlines()
    assert table[0].split() == ["class", "samples", "cluster", "in", "both"]
    assert len(table) == 26
    assert {"- 0", "22 2"} <= {" ".join(line.split()[2:]) for line in table}


def test_classes_of_numbers_are_in_the_order_of_numbers(table, row_model, blobs, capsys):
    path = table(".csv")
    text = path.read_text("utf-8").replace("kind 0", "10").replace("kind 1", "9")
    path.write_text(text.replace("kind 2", "100"), "utf-8")
    arguments = ["--id-column", "id", "--label-column", "kind"]
    assert main(["evaluate", str(row_model), str(path), *arguments]) == 0
    rows = capsys.readouterr().out.split("\n\n")[1].splitlines()[1:]
    names = [int(row.split()[0]) for row in rows]
    assert sorted(names) == [9, 10, 100]
    assert names[: names.index(100)] == sorted(names[: names.index(100)])


def test_names_that_standard_output_lacks_are_escaped():
    assert aligned([["caf\udce9", "1"]]) == [r"caf\udce9  1"]


def test_what_tells_no_classes_is_refused(photos, model, table, row_model, tmp_path, capsys):
    code, text = code_and_message(["evaluate", row_model, table(".csv")], capsys)
    assert code == 2
    assert "tells no classes; expected a folder whose subfolders are the classes" in text
    code, text = code_and_message(["evaluate", model, photos / "even"], capsys)
    assert code == 1
    assert "has no subfolders with images; expected one subfolder per class" in text
    code, text = code_and_message(["evaluate", model, tmp_path / "absent"], capsys)
    assert code == 1
    assert "there is no file or folder" in text
    (tmp_path / "empty").mkdir()
    code, text = code_and_message(["evaluate", model, tmp_path / "empty"], capsys)
    assert code == 1
    assert "holds no image files" in text
    code, text = code_and_message(["evaluate", model, photos, "--label-column", "kind"], capsys)
    assert code == 2
    assert "--label-column: " in text
    assert "is no table with columns; expected a .csv, .tsv or .parquet" in text


def test_images_that_all_are_unreadable_cannot_be_compared(photos, model, monkeypatch, capsys):
    from deepcluster_sk._cli import evaluate
    from deepcluster_sk._inspection.assignments import Described

    nothing = Described(np.full((60, 3), np.nan), None, None, None)
    monkeypatch.setattr(evaluate, "described", lambda estimator, X: nothing)
    code, text = code_and_message(["evaluate", model, photos], capsys)
    assert code == 1
    assert "no sample has a cluster, so there is nothing to compare" in text
