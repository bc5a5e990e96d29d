"""An exported predictor refuses in one line what the model that it was made of would refuse."""

import sys

import numpy as np
import pytest

from flow_nexus_neural.artifacts.standalone.command import main, rows_of

MODEL = {
    "row_shape": [4],
    "columns": [
        {"name": "a", "mean": [0.0], "levels": None},
        {"name": "color", "mean": [0.0, 0.0], "levels": ["red", "blue"]},
        {"name": "b", "mean": [0.0], "levels": None},
    ],
}


def test_dicts_by_name_and_lists_in_stored_order_are_the_same_row():
    by_name = rows_of(MODEL, [{"a": 1, "color": "blue", "other": "x"}])
    np.testing.assert_array_equal(by_name, [[1, 0, 1, np.nan]])
    np.testing.assert_array_equal(rows_of(MODEL, [[1, 0, 1, None]]), by_name)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([{"zzz": 1}], "record 0 has none of the model's columns, which are a, color, b"),
        ([{"a": 1}, {}], "record 1 has none"),
        ([{"a": [1]}], "record 0, a: must be a finite number"),
        ([{"a": "x"}], "must be a finite number"),
        ([{"a": float("nan")}], "must be a finite number"),
        ([{"a": float("inf")}], "must be a finite number"),
        ([{"color": ["red"]}], "record 0, color: must be one text"),
        ([[1, 2]], "a list of 4 numbers"),
        (["a"], "a list of 4 numbers"),
        ([], "at least one record"),
        ({"a": 1}, "must be a list"),
    ],
)
def test_what_is_no_record_is_refused_by_place_and_reason(records, why):
    with pytest.raises(ValueError, match=why):
        rows_of(MODEL, records)


@pytest.mark.parametrize("content", ['[{"zzz": 1}]', "[{", "[1e400]"])
def test_a_program_that_cannot_answer_ends_with_one_line(content, tmp_path, monkeypatch):
    asked = tmp_path / "records.json"
    asked.write_text(content)
    monkeypatch.setattr(sys, "argv", ["p.py", str(asked)])
    with pytest.raises(SystemExit) as ended:
        main(MODEL, {})
    assert ended.value.code.startswith("p.py: ")
    assert "\n" not in ended.value.code
