"""JSON as other tools write it is the same table as a list of records."""

import json

import numpy as np
import pytest

from flow_nexus_neural.data.inline import table_of
from flow_nexus_neural.data.json_forms import ROW_NUMBERS_BELOW, ColumnsByRow, known_form
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset

ROWS = 40
RECORDS = [{"a": i * 0.5, "side": "xy"[i % 2], "label": i % 3} for i in range(ROWS)]
NAMES = list(RECORDS[0])
ID = 9_007_199_254_740_993
"""2^53 + 1: float64 makes it 2^53."""


def read(value):
    return table_of(value, "data", Limits(100_000))


def cells(table, name):
    column = table.columns[name]
    if isinstance(column, TextColumn):
        return [None if code < 0 else column.levels[code] for code in column.codes]
    return column.tolist()


def by_row(labels):
    return {str(label): record for label, record in zip(labels, RECORDS, strict=True)}


def by_column(labels):
    return {
        name: {str(label): r[name] for label, r in zip(labels, RECORDS, strict=True)}
        for name in NAMES
    }


def split(labels):
    return {"columns": NAMES, "index": list(labels), "data": [list(r.values()) for r in RECORDS]}


def table_orient(labels, name="index", kind="integer"):
    fields = [{"name": name, "type": kind}, {"name": "a", "type": "number"}]
    return {
        "schema": {"fields": fields, "primaryKey": [name], "pandas_version": "1.4.0"},
        "data": [{name: label, **r} for label, r in zip(labels, RECORDS, strict=True)],
    }


SHUFFLED = np.random.default_rng(0).permutation(ROWS).tolist()
FORMS = {
    "columns": by_column(range(ROWS)),
    "columns of a shuffled frame": by_column(SHUFFLED),
    "columns of a filtered frame": by_column(range(0, 3 * ROWS, 3)),
    "index": by_row(range(ROWS)),
    "index of a shuffled frame": by_row(SHUFFLED),
    "split": split(range(ROWS)),
    "split without index": {key: split([])[key] for key in ("columns", "data")},
    "table": table_orient(range(ROWS)),
    "an interface": {"status": "ok", "next": None, "results": RECORDS},
    "wrapped": {"records": RECORDS},
    "names in the first row": [NAMES, *(list(record.values()) for record in RECORDS)],
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_is_the_table_of_its_records(name):
    before = json.dumps(FORMS[name])
    table, _ = read(FORMS[name])
    assert list(table.columns) == NAMES
    for column in NAMES:
        assert cells(table, column) == [record[column] for record in RECORDS]
    assert json.dumps(FORMS[name]) == before, "the caller's own data stay as they are"


@pytest.mark.parametrize("name", ["columns", "index", "split", "table"])
def test_an_index_that_only_numbers_the_rows_is_left_out_with_a_word(name):
    assert "index" in " ".join(read(FORMS[name])[0].remarks)


DAYS = [f"2024-01-{day:02d}T00:00:00.000" for day in range(1, 31)] + [
    f"2024-02-{day:02d}T00:00:00.000" for day in range(1, 11)
]
EPOCHS = [1_704_067_200_000 + 86_400_000 * day for day in range(ROWS)]


@pytest.mark.parametrize("form", [by_column, by_row, split])
def test_an_index_of_times_is_kept_as_a_column(form):
    assert cells(read(form(DAYS))[0], "timestamp") == DAYS
    assert cells(read(form(EPOCHS))[0], "index") == EPOCHS


def test_a_named_index_of_a_table_is_kept():
    table = read(table_orient(DAYS, "date", "datetime"))[0]
    assert cells(table, "date") == DAYS
    assert cells(read(table_orient(range(5, 5 + ROWS), "customer"))[0], "customer") == list(
        range(5, 5 + ROWS)
    )


def test_values_have_the_target_last_and_say_so():
    table, target = read([[0.5, 1, "up"], [1.5, 2, "down"]])
    assert (list(table.columns), target) == (["f0", "f1", "target"], "target")
    assert cells(table, "target") == ["up", "down"]
    assert "last value of each is the target" in table.remarks[0]


def test_rows_under_their_numbers_are_rows():
    table, target = read({str(i): [i, i % 2] for i in range(ROWS)})
    assert (table.rows, list(table.columns), target) == (ROWS, ["f0", "target"], "target")


def test_two_columns_of_lists_stay_columns():
    assert read({"0": [1, 2, 3], "1": [4, 5, 6]})[0].rows == 3


def test_the_users_of_leaf_are_the_clients():
    value = {
        "users": ["u1", "u0"],
        "num_samples": [2, 3],
        "user_data": {
            "u0": {"x": [[1, 2], [3, 4], [5, 6]], "y": [0, 1, 0]},
            "u1": {"x": [[7, 8], [9, 9]], "y": [1, 1]},
        },
        "hierarchies": [],
    }
    table, target = read(value)
    assert (table.clients, target) == (("u0", "u1"), "y")
    assert table.client_of.tolist() == [0, 0, 0, 1, 1]
    assert cells(table, "f1") == [2, 4, 6, 8, 9]
    with pytest.raises(InvalidDataset, match="user 'u1' has 2 labels, num_samples says 5"):
        read({**value, "num_samples": [5, 3]})
    with pytest.raises(InvalidDataset, match="user_data lacks users u9"):
        read({**value, "users": ["u0", "u9"]})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ids: [{"id": one, "b": 1} for one in ids],
        lambda ids: {"id": ids, "b": [1] * len(ids)},
        lambda ids: {"id": {str(i): one for i, one in enumerate(ids)}, "b": {"0": 1}},
        lambda ids: {"columns": ["id", "b"], "rows": [[one, 1] for one in ids]},
        lambda ids: {"X": [[1.0]] * len(ids), "feature_names": ["b"], "labels": ids},
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_whole_numbers_above_2_to_the_53_keep_every_digit(wrap, as_text):
    ids = [ID, ID - 1, 17, ID + 1, 10**30]
    table = read(wrap([str(one) for one in ids] if as_text else ids))[0]
    name = "id" if "id" in table.columns else "labels"
    assert cells(table, name) == list(map(str, ids))


@pytest.mark.parametrize("values", [[2**53, 2**60], [1e30, 2.5e17], [1_704_067_200_000_000_000]])
def test_whole_numbers_that_float64_holds_stay_numbers(values):
    assert cells(read({"a": values, "b": values})[0], "a") == values


def test_nanoseconds_stay_numbers_although_the_last_digits_are_rounded():
    nanoseconds = [1_704_067_200_000_000_123 + i * 10**9 for i in range(5)]
    column = read({"timestamp": nanoseconds, "b": [1] * 5})[0].columns["timestamp"]
    assert np.allclose(column, nanoseconds, rtol=0, atol=256)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], {"a": 1}], "row 1 is an object, row 0 is a list"),
        ([[1], [2]], "no rows of two or more values"),
        ([[1, 2], [3]], "row 1 has 1 values"),
        ({"columns": ["a"], "index": [0], "data": [[1], [2]]}, "index has 1 entries, data 2 rows"),
        ({"columns": ["a", "a"], "data": [[1, 2]]}, "names a column twice"),
        ({"X": [[1], [2]], "lables": [0, 1]}, "holds 'lables'"),
        ({"a": {}, "b": {}}, "has no rows"),
        ({"users": ["u"], "user_data": {"u": {"x": [["text"]], "y": [1]}}}, "something else than"),
    ],
)
def test_what_does_not_fit_is_named(value, words):
    with pytest.raises(InvalidDataset, match=words):
        read(value)


def test_columns_by_row_come_in_blocks_of_bounded_size():
    labels = list(map(str, range(300_000)))
    form = known_form({"a": dict.fromkeys(labels, 1), "b": {"7": 2}}, "data").value
    assert isinstance(form, ColumnsByRow)
    blocks = list(form.blocks())
    assert [len(block["a"]) for block in blocks] == [250_000, 50_000]
    assert blocks[0]["b"][6:9] == [None, 2, None]


def test_a_large_index_is_no_numbering():
    assert EPOCHS[0] // 1000 > ROW_NUMBERS_BELOW
