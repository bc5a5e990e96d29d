import json

import pytest

from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.records import (
    MAX_RECORDS,
    MAX_TEXT_BYTES,
    MAX_WINDOW_ROWS,
    Records,
    parse_records,
)
from flow_nexus_neural.errors import InvalidRecord
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.engine.building import schema

ROWS = schema()
WINDOWS = schema(input=InputSpec(vector_length=0, n_scalars=2, window=3))


@pytest.mark.parametrize(
    ("value", "rows", "is_list", "mode"),
    [
        ({"a": 1}, [[{"a": 1}]], False, "single"),
        ([1, 2], [[[1, 2]]], False, "single"),
        ([{"a": 1}], [[{"a": 1}]], True, "batch"),
        ([[1, 2], [3, 4]], [[[1, 2]], [[3, 4]]], True, "batch"),
        ([{"a": 1}, [3, 4]], [[{"a": 1}], [[3, 4]]], True, "batch"),
    ],
)
def test_every_form_of_single_rows_is_found_in_values_and_in_text(value, rows, is_list, mode):
    expected = Records(rows, is_list=is_list, mode=mode)
    assert parse_records(ROWS, value) == expected
    assert parse_records(ROWS, json.dumps(value)) == expected


def test_a_window_gives_its_rows_what_is_said_beside_it():
    found = parse_records(WINDOWS, {"symbol": "A", "window": [{"a": 1}, {"symbol": "B"}, [5, 6]]})
    rows = [{"symbol": "A", "a": 1}, {"symbol": "B"}, [5, 6]]
    assert found == Records([rows], is_list=False, mode="window")


def test_a_list_of_steps_is_one_window_and_a_list_of_lists_of_steps_many():
    steps = [[1, 2], [3, 4], [5, 6]]
    assert parse_records(WINDOWS, steps) == Records([steps], is_list=False, mode="window")
    many = parse_records(WINDOWS, [steps, steps])
    assert many == Records([steps, steps], is_list=True, mode="window")


def test_an_input_that_is_called_window_is_no_window():
    columns = (ColumnSpec(name="Window", kind="vector", mean=(0.0, 0.0), sd=(1.0, 1.0)),)
    record = {"window": [1, 2]}
    found = parse_records(schema(columns=columns), record)
    assert found == Records([[record]], is_list=False, mode="single")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not valid JSON"),
        ("[NaN]", "NaN is not JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("3", "input is a number, not a record"),
        ("null", "input is null, not a record"),
        (3.5, "input is a number, not a record"),
        ([], "empty list"),
        ([{"a": 1}, 3], "record 1 is a number"),
        ({"window": [[1, 2]]}, "trained on single rows"),
        (" " * (MAX_TEXT_BYTES + 1), f"has {MAX_TEXT_BYTES + 1} characters"),
    ],
)
def test_what_is_no_record_is_refused_as_what_it_is(value, words):
    with pytest.raises(InvalidRecord, match=words):
        parse_records(ROWS, value)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ([], "an empty or very long list"),
        ([[1, 2]] * (MAX_WINDOW_ROWS + 1), "an empty or very long list"),
        ([[1, 2], "x"], "a row of a window is a text"),
    ],
)
def test_windows_without_usable_rows_are_refused(window, words):
    with pytest.raises(InvalidRecord, match=words):
        parse_records(WINDOWS, {"window": window})


def test_as_many_records_as_fit_one_call_are_read_and_one_more_is_not():
    assert len(parse_records(ROWS, [{"a": 1}] * MAX_RECORDS).rows) == MAX_RECORDS
    with pytest.raises(InvalidRecord, match=f"{MAX_RECORDS + 1} records; at most {MAX_RECORDS}"):
        parse_records(ROWS, [{"a": 1}] * (MAX_RECORDS + 1))
