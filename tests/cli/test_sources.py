"""What the command clusters, and what it cannot."""

import io
import os
import sys

import numpy as np
import pytest
from command_line import FAST, code_and_message

from deepcluster_sk._cli import main


def array(values):
    """A file of an array, as bytes."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def archive(values):
    file = io.BytesIO()
    np.savez(file, X=values)
    return file.getvalue()


NPY, NPZ = array(np.eye(9)), archive(np.eye(9))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.csv", b"a,b\n1,red\n", "not a table of numbers: 'red' in line 2, column 'b'. Leave"),
        ("latin.csv", b"gr\xf6sse,b\n1,2\n", "is not text in UTF-8: invalid start byte at byte 2"),
        ("empty.csv", b"", "holds no rows; expected comma-separated numbers"),
        ("heads.csv", b"a,b\n", "holds no rows"),
        ("few.csv", b"1,2\n3,4\n", "n_samples=2 should be >= --n-clusters 3"),
        ("nan.csv", b"1,2\n3,nan\n4,5\n", "line 2, column 2 is missing: it holds 'nan'. Fill in"),
        (
            "damaged.npy",
            b"no array",
            "damaged.npy' cannot be read: the magic string is not correct",
        ),
        ("empty.npy", b"", "empty.npy' cannot be read: EOF: reading magic string"),
        ("cut.npy", NPY[:40], "cut.npy' cannot be read: EOF: reading array header"),
        ("header.npy", NPY[:10] + b"{'descr': [[['" + NPY[24:], "header.npy' cannot be read: "),
        ("empty.npz", b"", "empty.npz' cannot be read: File is not a zip file"),
        ("damaged.npz", NPZ[:-100], "damaged.npz' cannot be read: File is not a zip file"),
        (
            "flipped.npz",
            NPZ[:300] + b"xxx" + NPZ[303:],
            "cannot be read: Bad CRC-32 for file 'X.npy'",
        ),
        (
            "scalar.npy",
            array(np.float64(3)),
            "holds an array of shape () and dtype float64, expected",
        ),
        ("complex.npy", array(np.eye(4) + 1j), "dtype complex128, expected rows or images of real"),
        (
            "words.npy",
            array(np.array(["a", "b"])),
            "dtype <U1, expected rows or images of real numb",
        ),
        ("absent.npy", None, "No such file"),
        ("absent", None, "there is no file or folder"),
        ("a folder", "folder", "holds no image files"),
    ],
)
def test_data_that_cannot_be_used_end_with_1(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, text = code_and_message(["fit", path, *FAST, "--quiet"], capsys)
    assert code == 1
    assert message in text
    assert text.startswith("deepcluster-sk: error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".png"])
def test_a_pipe_is_not_waited_for(suffix, tmp_path, capsys):
    os.mkfifo(tmp_path / f"x{suffix}")
    code, text = code_and_message(["fit", tmp_path / f"x{suffix}", *FAST], capsys)
    assert code == 1
    if suffix == ".png":
        assert "a named pipe, expected a regular file" in text
    else:
        assert "is a named pipe. Pass a regular file with the rows or images" in text


def test_archive_of_several_arrays_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "two.npz", a=np.eye(3), b=np.eye(3))
    code, text = code_and_message(["fit", tmp_path / "two.npz", *FAST], capsys)
    assert code == 1
    assert "holds 2 arrays (a, b); expected one, or one named 'X'" in text


def test_pickled_array_is_refused(tmp_path, capsys):
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object))
    code, text = code_and_message(["fit", tmp_path / "objects.npy", *FAST], capsys)
    assert code == 1
    assert "Python objects" in text


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.txt", "rows"])
def test_a_file_of_another_kind_is_told_what_is_read(name, tmp_path, capsys):
    (tmp_path / name).write_text("a,b\n1,2\n", "utf-8")
    code, text = code_and_message(["fit", tmp_path / name, *FAST], capsys)
    assert code == 1
    assert "is no image, and no file of rows that is known by its suffix. Rows are read" in text
    assert ".npy, .npz, .csv, .tsv, .parquet; images from .bmp, .gif" in text


def test_an_image_of_another_suffix_is_an_image(photos, tmp_path, row_model, capsys):
    (photos / "odd" / "00.png").rename(tmp_path / "image.dat")
    code, text = code_and_message(["predict", row_model, tmp_path / "image.dat"], capsys)
    assert code == 1
    assert "known by its suffix" not in text  # but the model is of rows


def test_columns_are_of_tables_only(tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.eye(5))
    code, text = code_and_message(["fit", tmp_path / "rows.npy", *FAST, "--id-column", "1"], capsys)
    assert code == 2
    assert "--id-column: " in text
    assert "rows.npy' is no table with columns" in text


@pytest.mark.filterwarnings("default:the first column:UserWarning")
def test_a_counting_column_is_told_in_one_line(row_model, blobs, tmp_path, capsys):
    lines = [",".join(map(str, [row, *values])) for row, values in enumerate(blobs[0].tolist())]
    (tmp_path / "rows.csv").write_text("\n".join([",a,b,c,d,e", *lines]), "utf-8")
    arguments = ["predict", str(row_model), str(tmp_path / "rows.csv")]
    assert main(arguments) == 1
    text = capsys.readouterr().err
    assert "deepcluster-sk: warning: the first column of " in text
    assert main([*arguments, "--id-column", "1"]) == 0
    assert "warning" not in capsys.readouterr().err
