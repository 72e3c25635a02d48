"""Tables of numbers in text."""

import numpy as np
import pytest

from deepcluster_sk._cli.columns import Wanted
from deepcluster_sk._cli.csv_files import read_csv


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,2", "1+2j,3"], "'1+2j' in line 2, column 1"),
        (["1+2j,3", "1,2"], "'1+2j' in line 1, column 1"),
        (["2j,3", "1,2"], "'2j' in line 1, column 1"),
        (["(1+2j),a", "1,2"], "'(1+2j)' in line 1, column 1"),
        (["0x10,3", "1,2"], "'0x10' in line 1, column 1"),
        (["a,b", "", "# c", "0x10,3"], "'0x10' in line 4, column 'a'"),
        (["1,2020-01-01"] * 2, "'2020-01-01' in line 2, column '2020-01-01'"),
        (["1.5,2020-01-01", "1,2"], "'2020-01-01' in line 1, column 2"),
        (['"1,234",3', "1,2"], "'1,234' in line 1, column 1"),
        (["1,2", "1,234,3"], "line 2 has 3 columns, those above have 2"),
        (["1", "1,2"], "line 2 has 2 columns, those above have 1"),
        (["1,2", "1.5#2,3"], "'1.5#2' in line 2, column 1"),
        (["1_000,2", "1,3"], "'1_000' in line 1, column 1"),
        (["1,2", "\uff11,3"], "'\uff11' in line 2, column 1"),
        (["1,5;2,5", "1,5;2,5"], "'5;2' in line 2, column '5;2'"),
        (["1,2", '"' + "a" * 200_000], "'\"aaaaa"),
    ],
)
def test_what_is_no_number_is_named_with_its_line(lines, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        ValueError, match=r"is not a table of numbers: .*, and write numbers as 1234"
    ) as e:
        read_csv(str(path))
    assert f": {message}" in str(e.value)


@pytest.mark.parametrize(
    "lines",
    [
        ["a,j", "1,2.5", "-3,4e2"],
        ["id,2019", "1,2.5", "-3,4e2"],
        [",0", "1,2.5", "-3,4e2"],
        ["# a,b", "1,2.5", "", "# and", "-3,4e2", "  "],
        ['"1","2.5"', " -3 , 4e2 "],
        ["\ufeff1,2.5\r", "-3,4e2\r"],
    ],
)
def test_tables_with_names_comments_and_quotes_are_read(lines, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("\n".join(lines).encode())
    np.testing.assert_array_equal(read_csv(str(path)).X, [[1, 2.5], [-3, 400]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,", "1,2"], "line 1, column 2 is missing: the cell is empty. Fill in a number"),
        (["1,2", ",2"], "line 2, column 1 is missing: the cell is empty"),
        (["1,2", "NA,3"], "line 2, column 1 is missing: it holds 'NA'"),
        (["1,NA,3", "1,2,3"], "line 1, column 2 is missing: it holds 'NA'"),
        (["name,age", "", "# c", "1,2", "1,"], "line 5, column 'age' is missing: the cell is"),
        (["name,age", "1,2", "1, NaN "], "line 3, column 'age' is missing: it holds 'NaN'"),
        (["name,age", "1,null", "a,2"], "line 2, column 'age' is missing: it holds 'null'"),
    ],
)
def test_missing_values_are_named(lines, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match="leave out the row, or the column with --drop") as e:
        read_csv(str(path))
    assert f"rows.csv', {message}" in str(e.value)


def test_tabs_part_the_cells_of_a_tsv(tmp_path):
    path = tmp_path / "rows.TSV"
    path.write_text("a, b\tc\n1\t2.5\n# d\n\n3\t4\n", "utf-8")
    np.testing.assert_array_equal(read_csv(str(path)).X, [[1, 2.5], [3, 4]])
    path.write_text("1\t2\n\t\n", "utf-8")
    with pytest.raises(ValueError, match=r"line 2, column 1 is missing"):
        read_csv(str(path))
    path.write_text("# nothing\n", "utf-8")
    with pytest.raises(ValueError, match=r"holds no rows; expected tab-separated"):
        read_csv(str(path))


TABLE = ["id,a,kind,b", '"x, y",1,red,2', "# comment", " z ,3,blue,4"]


@pytest.mark.parametrize(
    ("wanted", "X", "ids", "labels"),
    [
        (Wanted(id="id", label="kind"), [[1, 2], [3, 4]], ["x, y", "z"], ["red", "blue"]),
        (Wanted(id="1", dropped=["3", "b"]), [[1], [3]], ["x, y", "z"], None),
        (Wanted(label="3", dropped=["id"]), [[1, 2], [3, 4]], None, ["red", "blue"]),
        (Wanted(dropped=["id", "kind"]), [[1, 2], [3, 4]], None, None),
    ],
)
def test_columns_are_found_by_name_or_number(wanted, X, ids, labels, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(TABLE), "utf-8")
    found = read_csv(str(path), wanted)
    np.testing.assert_array_equal(found.X, X)
    assert (found.ids, found.labels) == (ids, labels)


def test_a_name_goes_before_a_number(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("2,1,c\n5,6,7\n8,9,10\n", "utf-8")
    assert read_csv(str(path), Wanted(id="c")).ids == ["7", "10"]
    path.write_text("a,1,c\n5,6,7\n8,9,10\n", "utf-8")
    assert read_csv(str(path), Wanted(id="1")).ids == ["6", "9"]


@pytest.mark.parametrize(
    ("lines", "wanted", "message"),
    [
        (TABLE, Wanted(id="no"), r"--id-column 'no' is no column of .*: it has 'id', 'a', 'kind'"),
        (TABLE, Wanted(label="5"), r"--label-column '5' is no .* or a number from 1 to 4\."),
        (TABLE, Wanted(dropped=["0"]), "--drop-column '0' is no column"),
        (["1,2", "3,4"], Wanted(id="a"), "'a' is no column of .*: it has no names"),
        (["a,a,b", "1,2,3"], Wanted(id="a"), "the columns 1 and 2 of .* have this name. Pass the"),
        (["a,b", "1,2"], Wanted(id="a", dropped=["b"]), "has no column left to cluster. Name few"),
        (["a", "1,2"], Wanted(id="1"), "has 1 names above 2 columns, which leaves open what"),
        (["id,a", "x,1", "y,2,3"], Wanted(id="id"), "line 3 has 3 columns, those above have 2"),
        (["id,a", "x,1", "y"], Wanted(id="id"), "line 3 has 1 columns, those above have 2"),
        (["id,a", "x,1", "y,"], Wanted(id="id"), "line 3, column 'a' is missing"),
        (["k,a", "x,1", ",2"], Wanted(label="k"), "line 3: the class in column 'k' is missing. Fi"),
        (["k,a", "x,1", "z,u"], Wanted(label="k"), "'u' in line 3, column 'a'"),
    ],
)
def test_wrong_columns_are_named(lines, wanted, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=message):
        read_csv(str(path), wanted)


def test_columns_of_the_same_name_do_no_harm_unless_one_is_asked_for(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,a,b\n1,2,3\n", "utf-8")
    np.testing.assert_array_equal(read_csv(str(path)).X, [[1, 2, 3]])
    assert read_csv(str(path), Wanted(id="2")).ids == ["2"]


@pytest.mark.parametrize("lines", [[",a", "0,5", "1,5", "2,4"], ["1,5", "2,5", "3,7"]])
def test_a_column_that_only_counts_leads_to_a_warning(lines, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.warns(
        UserWarning, match=r"only counts the rows: [01], [12], [23] .* --id-column 1"
    ):
        read_csv(str(path))
    assert read_csv(str(path), Wanted(id="1")).X.shape == (3, 1)


@pytest.mark.parametrize(
    "lines",
    [
        ["n,a", "0,5", "1,5", "2,4"],  # it has a name
        [",a", "0,5", "1,5", "3,4"],
        ["0,5", "1,5"],
        ["0", "1", "2"],
        ["5,0", "6,1", "8,2"],
    ],
)
def test_other_columns_lead_to_no_warning(lines, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines), "utf-8")
    read_csv(str(path))
