import json

import numpy as np
import pytest

from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [("X", "y"), ("data", "labels"), ("features", "targets"), ("x", "target")],
)
def test_inputs_and_labels_are_found_under_their_usual_names(settings, inputs, labels):
    source = resolve({inputs: [[1, 2], [3, None]], labels: [0, 1]}, settings)
    assert list(source.table.columns) == ["f0", "f1", labels]
    assert source.target == labels
    assert np.isnan(source.table.columns["f1"][1])


def test_json_text_and_values_give_the_same_table(settings):
    value = {"X": [[1, 2], [3, 4]], "y": ["a", "b"], "feature_names": ["p", "q"]}
    from_text, from_value = (resolve(form, settings) for form in (json.dumps(value), value))
    assert from_text.sha256 == from_value.sha256
    assert list(from_text.table.columns) == ["p", "q", "y"]


def test_records_columns_with_rows_and_column_lists_give_the_same_table(settings):
    records = [{"a": 1, "b": "u", "c": True}, {"a": "2.5", "b": "v", "c": False}]
    rows = {"columns": ["a", "b", "c"], "rows": [[1, "u", True], ["2.5", "v", False]]}
    lists = {"a": [1, "2.5"], "b": ["u", "v"], "c": [True, False]}
    digests = {resolve(form, settings).sha256 for form in (records, rows, lists)}
    assert len(digests) == 1


def test_three_dimensions_are_sequences(settings):
    table = resolve({"X": [[[1, 2], [3, 4], [5, 6]]] * 2, "y": [0, 1]}, settings).table
    assert table.channels
    assert table.columns["c1"].tolist() == [[2, 4, 6]] * 2


def test_inline_clients_keep_their_rows_together(settings):
    part = {"X": [[1.0], [2.0]], "y": [0, 1]}
    table = resolve({"clients": {"b": part, "a": part}}, settings).table
    assert table.clients == ("a", "b")
    assert table.client_of.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ([], "empty list"),
        ([1, 2], "not a record"),
        ({}, "no inputs"),
        ({"X": [[1, 2], [3]], "y": [0, 1]}, "different widths"),
        ({"X": [[1, 2], ["a", 3]], "y": [0, 1]}, "something else than numbers"),
        ({"X": [[1, 2], [3, 4]]}, "no labels"),
        ({"X": [[1, 2], [3, 4]], "y": [0]}, "has 1 rows"),
        ({"X": [[1], [2]], "y": [[0], [1]]}, "a label is a list"),
        ({"X": [[1], [2]], "y": 3}, "not a list"),
        ({"X": [], "y": []}, "empty or not a list"),
        ({"X": [[]], "y": [1]}, "shape"),
        ({"X": [[1, 2]], "y": [1], "feature_names": ["a", "a"]}, "feature names"),
        ({"X": [[1], [2]], "y": [0, 1], "labels": [1, 0]}, "holds 'labels'"),
        ({"X": [[1], [2]], "y": [0, 1], "sample_weight": [1, 2]}, "holds 'sample_weight'"),
        ({"X": [[1], [2]], "data": [[1], [2]], "y": [0, 1]}, "holds 'data'"),
        ({"columns": ["a"], "rows": [[1]], "y": [1]}, "holds 'y'"),
        ({"clients": {"a": {"X": [[1]], "y": [1]}}, "X": [[1]]}, "holds 'X'"),
        ({"columns": ["a", "b"], "rows": [[1]]}, "row 0 has 1 values"),
        ({"columns": ["a", "a"], "rows": [[1, 2]]}, "twice"),
        ({"a": [1, 2], "b": [1]}, "different lengths"),
        ({"clients": {"a": {"X": [[1]], "y": [1]}, "b": {"X": [[1, 2]], "y": [1]}}}, "f1"),
        ([{"a": {"b": 1}}], "holds objects"),
        ([{"a": [1, 2]}, {"a": [1]}], "different lengths"),
        ({"X": [[float("nan")]], "y": [1]}, "not valid JSON"),
        ('{"X": [[Infinity]], "y": [1]}', "Infinity is not JSON"),
        ('{"X": [[1]]', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_form_that_cannot_work_is_refused_with_its_defect(settings, form, words):
    with pytest.raises(InvalidDataset, match=words) as caught:
        resolve(form, settings)
    assert len(str(caught.value)) < 1000


def test_inline_data_beyond_the_limit_are_refused_as_text_and_as_values(settings):
    long = {"X": [[1.0] * 1000] * 1300, "y": [0] * 1300}
    text = json.dumps(long)
    assert len(text) > MAX_INLINE_BYTES
    for form in (text, long):
        with pytest.raises(LimitExceeded, match="5000000"):
            resolve(form, settings)


def test_the_limit_of_inline_data_is_of_bytes_and_not_of_characters(settings):
    rows = [{"\u4e2d" * 180: index} for index in range(10_000)]
    text = json.dumps(rows, ensure_ascii=False)
    assert len(text) < MAX_INLINE_BYTES < len(text.encode())
    for form in (text, rows):
        with pytest.raises(LimitExceeded, match="5000000 bytes"):
            resolve(form, settings)


@pytest.mark.parametrize(
    "form", ['[{"\\ud800": 1}]', '[{"a": "\\ud800"}]', [{"n" * 201: 1}], [{"": 1}]]
)
def test_names_and_texts_that_cannot_be_shown_are_refused(settings, form):
    with pytest.raises(InvalidDataset) as caught:
        resolve(form, settings)
    str(caught.value).encode()
