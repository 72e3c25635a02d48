"""Tables in Parquet, and the libraries that they need."""

from pathlib import Path

import numpy as np
import pytest

from deepcluster_sk._cli import libraries
from deepcluster_sk._cli.columns import Wanted
from deepcluster_sk._cli.parquet_files import read_parquet

pd = pytest.importorskip("pandas")


@pytest.fixture
def write(tmp_path):
    """A function that writes a frame to a file."""
    pytest.importorskip("pyarrow")

    def to_file(frame):
        path = tmp_path / "rows.parquet"
        frame.to_parquet(path)
        return str(path)

    return to_file


def frame():
    return pd.DataFrame({"id": ["x", "y"], "a": [1, 2], "b": [0.5, 1.5], "kind": ["u", "v"]})


def test_ids_classes_and_features_are_told_apart(write):
    found = read_parquet(write(frame()), Wanted("id", "kind"))
    np.testing.assert_array_equal(found.X, [[1, 0.5], [2, 1.5]])
    assert found.X.dtype == np.float64
    assert (found.ids, found.labels) == (["x", "y"], ["u", "v"])


def test_an_index_is_no_feature_and_may_name_the_rows(write):
    path = write(frame().set_index("id"))
    found = read_parquet(path, Wanted("id", dropped=["kind"]))
    np.testing.assert_array_equal(found.X, [[1, 0.5], [2, 1.5]])
    assert found.ids == ["x", "y"]
    assert read_parquet(path, Wanted(dropped=["kind"])).ids is None


def test_single_precision_and_bools_are_kept_as_numbers(write):
    singles = pd.DataFrame({"a": np.array([1, 2], np.float32)})
    assert read_parquet(write(singles), Wanted()).X.dtype == np.float32
    flags = pd.DataFrame({"a": [True, False], "b": pd.array([1, 2], "Int64")})
    np.testing.assert_array_equal(read_parquet(write(flags), Wanted()).X, [[1, 1], [0, 2]])


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"a": [1.0, None], "b": [1, 2]}, Wanted(), "row 1, column 'a' is missing: it holds 'NaN'"),
        ({"a": [1, 2], "b": ["u", "v"]}, Wanted(), "column 'b' is of type .*'u'; expected numbers"),
        ({"a": [1, 2], "b": [None, "v"]}, Wanted(label="b"), "row 0: the class in column 'b' is"),
        ({"a": [], "b": []}, Wanted(), "holds a table without rows; expected columns of numbers"),
        ({"a": [1], "b": [2]}, Wanted(id="c"), "--id-column 'c' is no column of .* 'a', 'b'"),
    ],
)
def test_what_cannot_be_used_is_named(columns, wanted, message, write):
    with pytest.raises(ValueError, match=message):
        read_parquet(write(pd.DataFrame(columns)), wanted)


def test_a_counting_column_of_pandas_leads_to_a_warning(write):
    counted = pd.DataFrame({"Unnamed: 0": [0, 1, 2], "a": [5, 5, 6]})
    with pytest.warns(UserWarning, match="only counts the rows: 0, 1, 2"):
        read_parquet(write(counted), Wanted())


def test_damaged_and_absent_files_are_named(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"rows.parquet' cannot be read: "):
        read_parquet(str(path), Wanted())
    with pytest.raises(FileNotFoundError):
        read_parquet(str(tmp_path / "absent.parquet"), Wanted())


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs pandas and pyarrow, which are not installed"):
        read_parquet(str(Path("rows.parquet")), Wanted())
