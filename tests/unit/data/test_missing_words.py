"""`none`, `NA` and the like: missing among numbers and dates, a word among words, in every form of data."""

import numpy as np
import pytest

from flow_nexus_neural.data.missing_words import MAX_WORDS, settled
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.data.table import TextColumn, table_from

WORDS = ["none", "buy", "NA", "buy", None]


def cells(column):
    if isinstance(column, TextColumn):
        return [None if code < 0 else column.levels[code] for code in column.codes]
    return [None if np.isnan(value) else value for value in column]


def forms(root, values):
    texts = ["" if value is None else value for value in values]
    rows = "".join(f"{number},{text}\n" for number, text in enumerate(texts))
    (root / "a.csv").write_text("a,y\n" + rows)
    np.savez(root / "a.npz", X=np.arange(len(values))[:, None], y=np.array(texts))
    return {
        "csv": "a.csv",
        "npz": "a.npz",
        "records": [{"a": number, "y": value} for number, value in enumerate(values)],
        "columns": {"a": list(range(len(values))), "y": list(values)},
        "X and y": {"X": [[number] for number in range(len(values))], "y": list(values)},
        "rows": [[number, value] for number, value in enumerate(values)],
        "clients": {
            "clients": {
                "ann": [{"a": 0, "y": values[0]}],
                "bob": [{"a": 1, "y": value} for value in values[1:]],
            }
        },
    }


FORMS = ["csv", "npz", "records", "columns", "X and y", "rows", "clients"]


def read(settings, root, form, values):
    source = resolve(forms(root, values)[form], settings)
    name = "y" if "y" in source.table.columns else "target"
    return cells(source.table.columns[name]), source.table.remarks


@pytest.mark.parametrize("form", FORMS)
def test_among_words_they_are_words_and_the_caller_is_told(settings, root, form):
    found, warnings = read(settings, root, form, WORDS)
    assert found == WORDS
    assert "'none' in " in warnings[-1]
    assert "(1 cells)" in warnings[-1]
    assert "not a missing value" in warnings[-1]


@pytest.mark.parametrize("form", FORMS)
def test_among_numbers_they_are_missing(settings, root, form):
    found, _ = read(settings, root, form, ["NA", "1", "none", "2", None])
    assert found == [None, 1, None, 2, None]


@pytest.mark.parametrize("form", FORMS)
def test_among_dates_they_are_missing(settings, root, form):
    found, warnings = read(settings, root, form, ["2024-01-01", "-", "2024-01-02", "null"])
    assert found == ["2024-01-01", None, "2024-01-02", None]
    assert not any("missing value" in warning for warning in warnings)


@pytest.mark.parametrize(
    "others", [["TRUE", "FALSE"], ["yes", "No"], [f"u{number}" for number in range(MAX_WORDS + 1)]]
)
def test_among_true_and_false_and_among_many_texts_they_are_missing(settings, others):
    values = [*others, "NA", "none"]
    column = resolve([{"a": 1, "y": value} for value in values], settings).table.columns["y"]
    assert cells(column) == [*others, None, None]


def test_a_client_without_any_value_has_missing_numbers_where_others_have_numbers(settings):
    clients = {"ann": [{"a": 0, "y": "none"}], "bob": [{"a": 1, "y": 3}]}
    column = resolve({"clients": clients}, settings).table.columns["y"]
    assert cells(column) == [None, 3]


def test_a_long_list_of_words_is_cut():
    column = TextColumn(np.arange(2, dtype=np.int32), ("none", "a"))
    table = settled(table_from({f"c{number}": column for number in range(20)}, "data"))
    assert " and 12 more: " in table.remarks[0]


def test_codes_follow_their_levels_when_words_in_between_go_missing():
    column = TextColumn(
        np.array([0, 1, 2, -1, 3, 4], dtype=np.int32), ("1st", "NA", "2nd", "?", "3rd")
    )
    table = settled(table_from({"a": column}, "data"))
    assert cells(table.columns["a"]) == ["1st", None, "2nd", None, None, "3rd"]
    assert table.columns["a"].levels == ("1st", "2nd", "3rd")
