"""Tables that are written, and copies."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from command_line import FAST, code_and_message, rows_of
from PIL import Image
from sklearn.datasets import load_digits

from deepcluster_sk import ContrastiveClustering, load, report
from deepcluster_sk._cli import libraries, main
from deepcluster_sk._cli.output import sizes_in_words
from deepcluster_sk._cli.tables_out import write_table
from deepcluster_sk.encoders import SmallCNN
from deepcluster_sk.inspection import cluster_table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


NAMES = ["plain.png", "caf\xe9.png", "\u65e5\u672c.png"]
if sys.platform == "linux":
    NAMES.append("\udce9.png")  # a byte that is no UTF-8
SHOWN = {
    "utf-8": [b"plain.png", b"caf\xc3\xa9.png", b"\xe6\x97\xa5\xe6\x9c\xac.png", b"\xe9.png"],
    "cp1252": [b"plain.png", b"caf\xe9.png", rb"\u65e5\u672c.png", b"\xe9.png"],
    "ascii": [b"plain.png", rb"caf\xe9.png", rb"\u65e5\u672c.png", b"\xe9.png"],
}


@pytest.fixture
def oddly_named(tmp_path):
    """A folder of images whose names not every encoding has."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip(NAMES, load_digits().images, strict=False):
        Image.fromarray((image * 15).astype(np.uint8)).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(folder / name)
    return folder


def shown_names(output):
    return {os.path.basename(line.split(b",")[0]) for line in output.splitlines()[1:]}


FIT = ["--quiet", "--n-clusters", "2", "--max-epochs", "1"]


@pytest.mark.parametrize("encoding", SHOWN)
def test_standard_output_takes_any_name_of_a_file(encoding, oddly_named, monkeypatch):
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding))
    assert main(["fit", str(oddly_named), *FIT]) == 0
    sys.stdout.flush()
    assert shown_names(output.getvalue()) == set(SHOWN[encoding][: len(NAMES)])


def test_the_output_of_a_process_takes_any_name_of_a_file(oddly_named):
    command = [sys.executable, "-m", "deepcluster_sk", "fit", str(oddly_named), *FIT]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert shown_names(done.stdout) == set(SHOWN["ascii"][: len(NAMES)])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([4], "1 cluster of 4 members"),
        ([1, 1], "2 clusters of 1 member"),
        ([7, 1200, 9], "3 clusters of 7 to 1,200 members"),
    ],
)
def test_sizes_of_clusters_are_told_in_words(sizes, words):
    assert sizes_in_words(np.array(sizes)) == words


def test_a_copy_never_overwrites(photos, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new"
    arguments = ["fit", str(photos), *FAST, "--quiet", "--copy-to", str(folder)]
    fit = ContrastiveClustering.fit

    def someone_else_writes(self, X, y=None):
        for k in range(3):
            (folder / f"cluster_{k}" / "even").mkdir(parents=True)
            (folder / f"cluster_{k}" / "even" / "00.png").write_text("mine", "utf-8")
        return fit(self, X, y)

    monkeypatch.setattr(ContrastiveClustering, "fit", someone_else_writes)
    code, text = code_and_message(arguments, capsys)
    assert code == 1
    assert "File exists" in text
    assert {path.read_text("utf-8") for path in folder.glob("*/even/00.png")} == {"mine"}


COLUMNS = {
    "path": ["a,b.png", "tab\there.png"],
    "cluster": np.array([1, -1]),
    "confidence": np.array([0.25, np.nan]),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", 'path,cluster,confidence\n"a,b.png",1,0.2500\ntab\there.png,-1,\n'),
        ("x.CSV", 'path,cluster,confidence\n"a,b.png",1,0.2500\ntab\there.png,-1,\n'),
        ("x.tsv", 'path\tcluster\tconfidence\na,b.png\t1\t0.2500\n"tab\there.png"\t-1\t\n'),
    ],
)
def test_the_suffix_chooses_what_parts_the_cells(name, expected, tmp_path):
    write_table(tmp_path / name, COLUMNS)
    assert (tmp_path / name).read_text("utf-8") == expected


def test_parquet_holds_the_same_columns(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write_table(
        tmp_path / "x.parquet", {**COLUMNS, "path": ["a", "\udce9.png"], "second": [3, None]}
    )
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert frame["second"].isna().tolist() == [False, True]
    assert frame["path"].tolist() == ["a", r"\udce9.png"]
    assert frame["cluster"].tolist() == [1, -1]
    np.testing.assert_array_equal(frame["confidence"], [0.25, np.nan])


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_details_are_more_columns(command, table, row_model, tmp_path):
    pytest.importorskip("pandas")
    short, long = tmp_path / "short.csv", tmp_path / "long.csv"
    arguments = [command, str(row_model), str(table(".csv")), "--id-column", "id", "--quiet"]
    arguments += ["--label-column" if command == "evaluate" else "--drop-column", "kind"]
    assert main([*arguments, "--out", str(short)]) == 0
    assert main([*arguments, "--out", str(long), "--details"]) == 0
    known = ["class"] if command == "evaluate" else []
    rows = rows_of(long)
    details = ["typicality", "second_cluster", "exemplar_distance"]
    assert list(rows[0])[:3] == ["id", "cluster", "confidence"]
    assert set(rows[0]) == {"id", "cluster", "confidence", *details, *known}
    kept = ["id", "cluster", "confidence", *known]
    assert [[row[name] for name in kept] for row in rows] == [
        [row[name] for name in kept] for row in rows_of(short)
    ]


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_table_and_report_cost_no_second_look_at_the_samples(
    command, photos, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("pandas")
    model, page = tmp_path / "model.dcsk", tmp_path / "page.html"
    ContrastiveClustering(3, max_epochs=1, random_state=0).fit(str(photos)).save(model)
    seen = []
    forward = SmallCNN.forward
    monkeypatch.setattr(
        SmallCNN, "forward", lambda self, x: (seen.append(len(x)), forward(self, x))[1]
    )
    assert main([command, str(model), str(photos), "--quiet"]) == 0
    once = sum(seen)
    assert once >= 60
    wanted = ["--details", "--out", str(tmp_path / "x.csv")]
    wanted += ["--report", str(page)] if command == "predict" else []
    assert main([command, str(model), str(photos), *wanted, "--quiet"]) == 0
    assert sum(seen) == 2 * once
    capsys.readouterr()
    if command == "predict":
        fitted = load(model)
        expected = cluster_table(fitted, str(photos))
        np.testing.assert_allclose(
            [float(row["typicality"]) for row in rows_of(tmp_path / "x.csv")],
            expected["typicality"],
            atol=1e-4,
        )
        assert page.read_bytes() == report(fitted, str(photos), tmp_path / "y.html").read_bytes()


@pytest.mark.parametrize("arguments", [["--out", "x.parquet"], ["--details"]])
def test_a_missing_library_is_named_before_the_training(arguments, photos, monkeypatch, capsys):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    monkeypatch.chdir(photos.parent)
    code, text = code_and_message(["fit", "photos", *FAST, *arguments], capsys)
    assert code == 1
    assert "needs pandas" in text
    assert 'pip install "deepcluster_sk[tables]"' in text
    assert not (photos.parent / "x.parquet").exists()
