"""Most similar samples, and groups of nearly the same ones, by the command."""

import csv
import io
import shutil

import numpy as np
import pytest
from command_line import code_and_message, rows_of

import deepcluster_sk
from deepcluster_sk import ContrastiveClustering
from deepcluster_sk._cli import main
from deepcluster_sk._inspection import duplicates
from deepcluster_sk._inspection.pictures import as_samples

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def model(photos, tmp_path):
    """A file of a model of `photos`."""
    path = tmp_path / "model.dcsk"
    ContrastiveClustering(3, max_epochs=1, random_state=0).fit(as_samples(photos)).save(path)
    return path


def cosine(model, X):
    """Cosine similarities of all pairs, by the features of a saved model."""
    features = deepcluster_sk.load(model).transform(X).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features @ features.T


def table_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_most_similar_images_are_listed_first(photos, model, capsys):
    query = photos / "odd" / "07.png"
    assert main(["similar", str(model), str(photos), "--query", str(query), "--n", "4"]) == 0
    rows = table_of(capsys.readouterr().out)
    assert list(rows[0]) == ["query", "path", "similarity"]
    assert {row["query"] for row in rows} == {str(query)}
    paths = as_samples(photos)
    near = cosine(model, paths)[paths.index(str(query))]
    near[paths.index(str(query))] = -np.inf  # an image is not its own answer
    expected = np.sort(near)[::-1][:4]
    np.testing.assert_allclose([float(row["similarity"]) for row in rows], expected, atol=1e-3)
    found = [near[paths.index(row["path"])] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_images_from_elsewhere_find_their_copy(photos, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(photos)
    shutil.copy(photos / "even" / "03.png", tmp_path / "other.png")
    queries = ["--query", str(tmp_path / "other.png"), "even/03.png"]
    out = tmp_path / "out.csv"
    assert main(["similar", str(model), "even", *queries, "--n", "2", "--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().err
    rows = rows_of(out)
    assert [row["query"] for row in rows] == [queries[1]] * 2 + ["even/03.png"] * 2
    assert rows[0]["path"].replace("\\", "/") == "even/03.png"
    assert float(rows[0]["similarity"]) == pytest.approx(1, abs=1e-4)
    assert "even/03.png" not in [row["path"].replace("\\", "/") for row in rows[2:]]


def test_rows_are_asked_for_by_number_or_id(table, row_model, blobs, capsys):
    arguments = ["similar", str(row_model), str(table(".csv")), "--drop-column", "kind", "--n", "3"]
    by_id = [*arguments, "--id-column", "id", "--query", "sample 5", "sample 0"]
    assert main(by_id) == 0
    names = table_of(capsys.readouterr().out)
    assert [row["query"] for row in names] == ["sample 5"] * 3 + ["sample 0"] * 3
    assert main([*arguments, "--drop-column", "id", "--query", "5", "--query", "0"]) == 0
    numbers = table_of(capsys.readouterr().out)
    assert [f"sample {row['row']}" for row in numbers] == [row["id"] for row in names]
    near = cosine(row_model, blobs[0])[5]
    near[5] = -np.inf
    found = [near[int(row["row"])] for row in numbers[:3]]
    np.testing.assert_allclose(found, np.sort(near)[::-1][:3], atol=1e-5)


def test_more_answers_than_samples_are_not_asked_for(blobs, row_model, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", blobs[0][:4])
    arguments = ["similar", str(row_model), str(tmp_path / "rows.npy"), "--query", "1"]
    assert main([*arguments, "--n", "50"]) == 0
    rows = table_of(capsys.readouterr().out)
    assert sorted(row["row"] for row in rows) == ["0", "2", "3"]


def test_queries_that_are_not_found_are_named(photos, model, table, row_model, capsys):
    code, text = code_and_message(["similar", model, photos, "--query", "no.png"], capsys)
    assert code == 1
    assert "--query 'no.png': there is no such image file" in text
    assert "Did you mean" not in text
    code, text = code_and_message(["similar", model, photos, "--query", "03.png"], capsys)
    assert code == 1
    assert f"Did you mean {str(photos / 'even' / '03.png')!r}?" in text
    code, text = code_and_message(["similar", model, photos, "--query", photos], capsys)
    assert code == 1
    assert "is a folder, expected image files" in text
    rows = ["similar", row_model, table(".csv"), "--drop-column", "kind"]
    code, text = code_and_message([*rows, "--id-column", "id", "--query", "5"], capsys)
    assert code == 1
    assert "--query '5' is no id of the table; it has 'sample 0', 'sample 1'" in text
    for query in ("60", "1.5", "x"):
        code, text = code_and_message([*rows, "--drop-column", "id", "--query", query], capsys)
        assert code == 1
        assert f"--query '{query}' is no row; expected a number from 0 to 59" in text
    code, text = code_and_message([*rows[:3], "--id-column", "kind", "--query", "kind 1"], capsys)
    assert code == 1  # the column of ids is no number
    path = table(".csv")
    path.write_text("id,a\nx,1\ny,2\nx,3\n", "utf-8")
    code, text = code_and_message(
        ["similar", row_model, path, "--id-column", "id", "--query", "x"], capsys
    )
    assert code == 1
    assert "--query 'x' is the id of 2 rows, such as 0 and 2" in text
    code, text = code_and_message(["similar", model, photos], capsys)
    assert code == 2
    assert "--query is missing" in text


def test_equal_files_are_a_group_of_duplicates(photos, model, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        shutil.copy(photos / "even" / "03.png", photos / name)
    assert main(["duplicates", str(model), str(photos), "--threshold", "0"]) == 0
    output = capsys.readouterr()
    rows = table_of(output.out)
    assert list(rows[0]) == ["group", "path"]
    largest = {row["path"] for row in rows if row["group"] == "0"}
    assert {str(photos / name) for name in ("a.png", "b.png")} <= largest
    assert str(photos / "even" / "03.png") in largest
    assert "1 group of images that are nearly the same, with 3 images in all" in output.err


def test_rows_of_one_group_are_named_by_their_id(table, row_model, tmp_path):
    path, out = table(".tsv"), tmp_path / "out.tsv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("sample 0", "again")]), "utf-8")
    arguments = ["duplicates", str(row_model), str(path), "--id-column", "id", "--quiet"]
    arguments += ["--drop-column", "kind", "--threshold", "0", "--out", str(out)]
    assert main(arguments) == 0
    rows = [line.split("\t") for line in out.read_text("utf-8").splitlines()]
    assert rows[0] == ["group", "id"]
    groups = {}
    for group, name in rows[1:]:
        groups.setdefault(group, set()).add(name)
    assert any({"sample 0", "again"} <= members for members in groups.values())


def test_no_duplicates_are_no_error(row_model, blobs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(duplicates, "near_duplicates", lambda *args, **kwargs: [])
    np.save(tmp_path / "rows.npy", blobs[0])
    assert main(["duplicates", str(row_model), str(tmp_path / "rows.npy")]) == 0
    output = capsys.readouterr()
    assert output.out == "group,row\n"
    assert "0 groups of rows that are nearly the same\n" in output.err


@pytest.mark.parametrize("threshold", ["2.1", "nan", "-1", "many"])
def test_a_threshold_is_a_distance(threshold, row_model, capsys):
    arguments = ["duplicates", row_model, "x.npy", f"--threshold={threshold}"]
    code, text = code_and_message(arguments, capsys)
    assert code == 2
    assert f"'{threshold}', expected auto, or a cosine distance from 0 to 2, such as" in text
