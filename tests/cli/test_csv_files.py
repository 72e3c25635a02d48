"""Tables of numbers in text."""

import numpy as np
import pytest
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
        (["1,2020-01-01"] * 2, "'2020-01-01' in line 2, column 2"),
        (["1.5,2020-01-01", "1,2"], "'2020-01-01' in line 1, column 2"),
        (['"1,234",3', "1,2"], "'1,234' in line 1, column 1"),
        (["1,2", "1,234,3"], "line 2 has 3 columns, those above have 2"),
        (["1", "1,2"], "line 2 has 2 columns, those above have 1"),
        (["1,2", "1.5#2,3"], "'1.5#2' in line 2, column 1"),
        (["1_000,2", "1,3"], "'1_000' in line 1, column 1"),
        (["1,2", "\uff11,3"], "'\uff11' in line 2, column 1"),
        (["1,5;2,5", "1,5;2,5"], "'5;2' in line 2, column 2"),
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
