"""The samples of a page, as its script reads them."""

import numpy as np
import pytest
from report_pages import unpacked

from deepcluster_sk._inspection.assignments import from_labels
from deepcluster_sk._inspection.report_data import listed_rows, packed, quantized, shortened


def test_columns_are_read_as_they_were_written():
    rng = np.random.default_rng(0)
    columns = {
        "small": rng.integers(0, 256, 7),
        "signed": rng.integers(-5, 300, 7),
        "places": rng.integers(0, 65536, 7),
        "large": rng.integers(-5, 2**30, 7),
        "none": np.empty(0, np.int64),
    }
    header, found = unpacked(packed({"names": ["ä", "</script>", "\udcff"]}, columns))
    assert header == {"names": ["ä", "</script>", "\udcff"]}
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values)
    kinds = [found[name].dtype.name for name in columns]
    assert kinds == ["uint8", "int16", "uint16", "int32", "uint8"]


@pytest.mark.parametrize(("low", "high", "kind"), [(0, 255, "uint8"), (-1, 255, "int16")])
def test_columns_take_the_smallest_type(low, high, kind):
    _, columns = unpacked(packed({}, {"x": np.array([low, high])}))
    assert columns["x"].dtype.name == kind


def test_all_rows_are_listed_up_to_a_number(monkeypatch):
    monkeypatch.setattr("deepcluster_sk._inspection.report_data.MAX_LISTED", 50)
    monkeypatch.setattr("deepcluster_sk._inspection.report_data._LEAST_CERTAIN", 10)
    confidence = np.random.default_rng(0).random(200)
    few = from_labels(np.zeros(50, int), confidence[:50])
    assert listed_rows(few, np.array([1])).tolist() == list(range(50))
    rows = listed_rows(from_labels(np.zeros(200, int), confidence), np.array([3, 150]))
    assert len(rows) == 50
    assert (np.diff(rows) > 0).all()
    assert {3, 150, *np.argsort(confidence)[:10]} <= set(rows.tolist())


def test_of_long_names_the_end_is_kept():
    assert shortened("short", 10) == "short"
    assert shortened("folder/photo.jpg", 10) == "…photo.jpg"


def test_places_as_whole_numbers_keep_the_shape_of_the_map():
    places = np.array([[-1.0, 2.0], [3.0, 2.0], [np.nan, np.nan], [1.0, 4.0]], np.float32)
    np.testing.assert_array_equal(
        quantized(places), [[0, 0], [65534, 0], [65535, 65535], [32767, 32767]]
    )
    assert (quantized(np.full((2, 2), np.nan)) == 65535).all()
    assert (quantized(np.ones((2, 2), np.float32)) == 0).all()
