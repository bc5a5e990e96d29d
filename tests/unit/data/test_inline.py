import json

import numpy as np
import pytest

from flow_nexus_neural.data.inline import stack, stack_clients, table_of
from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from flow_nexus_neural.data.labelled_arrays import columns_of_matrix, label_key, labels_column
from flow_nexus_neural.data.memory import Limits
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
        ({"X": [[1], [2]], "y": [0, [1]]}, "a label is a list"),
        ({"X": [[1], [2]], "y": [[1, 0], [0, 1]]}, "is one-hot, with 2 values"),
        ({"X": [[1], [2]], "y": [[0], [1, 2]]}, "is a list"),
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


def test_a_label_column_never_takes_the_name_of_an_input():
    table, target = table_of(
        {"X": [[1], [2]], "y": [0, 1], "feature_names": ["y"]}, "data", Limits(1_000)
    )
    assert (list(table.columns), target) == (["y", "y_label"], "y_label")
    assert table.columns["y"].tolist() == [1.0, 2.0]
    assert table.columns["y_label"].tolist() == [0.0, 1.0]


def test_labels_are_numbers_when_all_are_and_else_text():
    assert labels_column([1, None, True], "data").tolist()[::2] == [1.0, 1.0]
    mixed = labels_column([1, "a", None, "a"], "data")
    assert (mixed.levels, mixed.codes.tolist()) == (("1", "a"), [0, 1, -1, 1])


def test_the_key_of_labels_is_the_first_known_one():
    assert label_key({"target": [], "labels": []}, "X", "data") == "labels"
    with pytest.raises(InvalidDataset, match="inputs in 'X' but no labels"):
        label_key({"X": []}, "X", "data")


def test_inputs_of_one_two_and_three_dimensions_become_columns():
    assert list(columns_of_matrix(np.ones(4), None, "data")) == ["f0"]
    plain = columns_of_matrix(np.arange(6.0).reshape(3, 2), ["p", "q"], "data")
    assert plain["q"].tolist() == [1.0, 3.0, 5.0]
    sequences = columns_of_matrix(np.arange(12.0).reshape(2, 3, 2), None, "data")
    assert sequences["c1"].tolist() == [[1.0, 3.0, 5.0], [7.0, 9.0, 11.0]]
    with pytest.raises(InvalidDataset, match=r"inputs have shape \[2, 0\]"):
        columns_of_matrix(np.ones((2, 0)), None, "data")


def test_stacked_texts_share_their_levels_and_numbers_among_texts_become_text():
    one = table_of([{"c": "a"}, {"c": "b"}], "one", Limits(1_000))[0]
    other = table_of([{"c": "b"}, {"c": None}], "other", Limits(1_000))[0]
    third = table_of([{"c": 1.5}, {"c": None}], "third", Limits(1_000))[0]
    column = stack([one, other, third], ["one", "other", "third"], "data").columns["c"]
    assert column.levels[:2] == ("a", "b")
    texts = [None if code < 0 else column.levels[code] for code in column.codes]
    assert texts == ["a", "b", "b", None, "1.5", None]


def test_parts_that_do_not_fit_are_named():
    one = table_of([{"a": 1, "b": 1}], "one", Limits(1_000))[0]
    other = table_of([{"a": 1, "c": 1}], "other", Limits(1_000))[0]
    with pytest.raises(InvalidDataset, match="data: other and one differ in columns b, c"):
        stack([one, other], ["one", "other"], "data")
    with pytest.raises(InvalidDataset, match="data is empty"):
        stack([], [], "data")
    with pytest.raises(LimitExceeded):
        stack_clients({"p": one, "q": one}, "data", Limits(1))


@pytest.mark.parametrize("labels", [[[0], [1]], [[[0]], [[1]]], [0, 1]])
def test_a_column_of_labels_is_one_label_per_row(settings, labels):
    table = resolve({"X": [[1, 2], [3, 4]], "y": labels}, settings).table
    assert table.columns["y"].tolist() == [0, 1]


def test_inputs_of_four_sizes_are_flattened_with_a_word(settings):
    x = np.arange(24.0).reshape(2, 2, 3, 2).tolist()
    source = resolve({"X": x, "y": [0, 1]}, settings)
    assert [source.table.columns[f"f{index}"][1] for index in (0, 11)] == [12, 23]
    assert source.table.remarks == ("inputs of shape [2, 3, 2] are flattened to 12 columns",)


def test_training_and_test_lists_are_the_users_own_split(settings):
    data = {"x_train": [[1], [2], [3]], "y_train": [0, 1, 0], "x_test": [[4]], "y_test": [1]}
    source = resolve(data, settings)
    assert (source.target, source.table.in_test.tolist()) == ("y", [False, False, False, True])
    with pytest.raises(InvalidDataset, match="holds 'extra'"):
        resolve({**data, "extra": 1}, settings)
