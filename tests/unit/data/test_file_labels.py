"""Labels that a file holds, as the model counts its classes and values."""

import numpy as np
import pytest

from flow_nexus_neural.data.file_labels import label_column, labels_in_file
from flow_nexus_neural.data.file_series import series_in_file
from flow_nexus_neural.data.table import Table, TextColumn


def text(*values):
    levels = tuple(dict.fromkeys(v for v in values if v))
    codes = np.array([levels.index(v) if v else -1 for v in values], dtype=np.int32)
    return TextColumn(codes, levels)


def labels(schema, column, name="y", shift=0, **more):
    rows = len(column.codes) if isinstance(column, TextColumn) else len(column)
    table = Table({name: column, **more}, rows)
    series = series_in_file(schema, table, ("time",)) if shift else None
    return labels_in_file(schema, table, series, shift)


@pytest.fixture
def classes(load):
    return load(
        [{"v": i % 7, "y": ["no", "yes", "maybe"][i % 3]} for i in range(90)], target="y"
    ).schema


@pytest.fixture
def binary(load):
    return load([{"v": i % 7, "y": i % 2} for i in range(90)], target="y").schema


@pytest.fixture
def numbers(load):
    return load([{"v": i % 7, "y": 0.37 * i % 9} for i in range(90)], target="y").schema


def test_classes_are_counted_as_the_model_counts_them(classes):
    found = labels(classes, text("yes", "no", "", " maybe "), name="Y")
    index = {label: place for place, label in enumerate(classes.classes)}
    expected = [index["yes"], index["no"], np.nan, index["maybe"]]
    np.testing.assert_array_equal(found.values, expected)
    assert (found.column, found.warnings) == ("Y", [])


def test_a_class_that_the_model_does_not_know_is_not_measured_and_named(classes):
    found = labels(classes, text("yes", "never"))
    assert np.isnan(found.values[1])
    assert "1 classes that the model does not know, such as 'never'" in found.warnings[0]


@pytest.mark.parametrize(
    "column", [np.array([1.0, 0, np.nan]), text("1", "0", "NA"), text("1.0", "0", "")]
)
def test_a_class_is_the_same_however_it_is_written(binary, column):
    np.testing.assert_array_equal(labels(binary, column).values, [1, 0, np.nan])


@pytest.mark.parametrize(
    "column", [np.array([1.5, np.inf, 3.25]), text("1.5", "?", "3.25"), text("1.5", "word", "3.25")]
)
def test_values_are_those_of_the_target(numbers, column):
    found = labels(numbers, column)
    np.testing.assert_array_equal(found.values, [1.5, np.nan, 3.25])


def test_a_label_of_a_later_row_is_taken_from_there(numbers):
    found = labels(numbers, np.arange(4.0), shift=2, time=np.array([3.0, 2, 1, 0]))
    np.testing.assert_array_equal(found.values, [np.nan, np.nan, 0, 1])


def test_the_direction_of_a_price_is_told_from_the_next_rows(load):
    rows = [{"time": i, "price": 10 + (i * 7) % 5, "v": i % 3} for i in range(200)]
    schema = load(rows).schema
    assert schema.target_name is None
    found = labels(schema, np.array([3.0, 4, 2, 2]), name="Close", shift=1, time=np.arange(4.0))
    np.testing.assert_array_equal(found.values, [1, 0, 0, np.nan])
    assert found.column == "Close"


def test_a_file_without_the_column_has_no_labels(binary):
    table = Table({"v": np.zeros(3)}, 3)
    assert label_column(binary, table) is None
    assert labels_in_file(binary, table, None, 0) is None
