from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.columns import Layout
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.data.targets import (
    MAX_CLASSES,
    distinct_values,
    label_rows,
    rows_ahead,
)
from flow_nexus_neural.errors import InvalidDataset


def layout(column=None, *, target="y", price=None, horizon=0, given_reach=0):
    rows = len(price) if column is None else getattr(column, "codes", column).shape[0]
    return Layout(
        features={},
        vector=None,
        target=None if column is None else target,
        target_column=column,
        price=None if price is None else "close",
        price_column=price,
        horizon=horizon,
        given_reach=given_reach,
        time=None,
        symbols=(),
        symbol_of=np.full(rows, -1, dtype=np.int32),
    )


def made(column=None, **more):
    of = layout(column, **more)
    rows = len(of.symbol_of)
    return label_rows(of, np.arange(rows), np.zeros(rows, dtype=np.int64))


def text(*values):
    levels = tuple(dict.fromkeys(values))
    return TextColumn(np.array([levels.index(value) for value in values], dtype=np.int32), levels)


def test_the_row_ahead_is_in_the_same_series_or_nowhere():
    # Rows in the order of series, then time: 2, 0 (series 0) and 3, 1, 4 (series 1).
    order, series = np.array([2, 0, 3, 1, 4]), np.array([0, 1, 0, 1, 1])
    assert rows_ahead(order, series, 1).tolist() == [-1, 4, 0, 1, -1]
    assert rows_ahead(order, series, 2).tolist() == [-1, -1, -1, 4, -1]
    assert rows_ahead(order, series, 0).tolist() == [0, 1, 2, 3, 4]
    assert rows_ahead(order, series, 9).tolist() == [-1] * 5


def test_distinct_values_are_sorted_and_of_nothing_there_are_none():
    assert distinct_values(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [1.0, 2.0, 3.0]
    assert distinct_values(np.empty(0)).tolist() == []


@pytest.mark.parametrize(
    ("values", "task", "classes", "codes"),
    [
        ([-1, 1, 1, -1], "binary", [-1, 1], [0, 1, 1, 0]),
        ([0.5, 2.5, 0.5, 0.5], "binary", [0.5, 2.5], [0, 1, 0, 0]),
        ([5, 3, 4, 3], "multiclass", [3, 4, 5], [2, 0, 1, 0]),
        ([0.1, 0.2, 0.3, 0.1], "regression", None, [0.1, 0.2, 0.3, 0.1]),
    ],
)
def test_the_task_follows_from_the_distinct_numbers(values, task, classes, codes):
    found = made(np.array(values, dtype=np.float64))
    assert (found.task, found.classes, found.values.tolist()) == (task, classes, codes)
    assert found.usable.all()


def test_one_class_more_than_allowed_makes_whole_numbers_a_regression_and_texts_an_error():
    assert made(np.arange(float(MAX_CLASSES))).task == "multiclass"
    assert made(np.arange(float(MAX_CLASSES + 1))).task == "regression"
    assert made(text(*map(str, range(MAX_CLASSES)))).task == "multiclass"
    with pytest.raises(InvalidDataset, match=f"text with {MAX_CLASSES + 1} distinct values"):
        made(text(*map(str, range(MAX_CLASSES + 1))))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (("up", "down"), ["down", "up"]),
        (("no", "YES"), ["no", "YES"]),
        (("Buy", "sell"), ["sell", "Buy"]),
        (("b", "a"), ["a", "b"]),
        (("z", "up", "a"), ["a", "up", "z"]),
    ],
)
def test_of_two_texts_the_one_that_says_yes_is_class_one(values, classes):
    found = made(text(*values))
    assert found.classes == classes
    assert found.values.tolist() == [classes.index(value) for value in values]


def test_a_horizon_moves_labels_back_and_leaves_the_last_rows_without_one():
    found = made(np.array([0.5, 1.5, 2.5, 3.25]), horizon=2, given_reach=1)
    assert found.name == "y, 2 row(s) ahead"
    assert found.values.tolist()[:2] == [2.5, 3.25]
    assert found.usable.tolist() == [True, True, False, False]
    assert np.isnan(found.values[2:]).all()
    assert found.reach == 3


def test_without_a_target_the_label_is_whether_the_price_will_be_higher():
    found = made(price=np.array([1.0, 2.0, 2.0, 1.0, 5.0]), horizon=1)
    assert (found.name, found.task, found.classes) == ("next return > 0", "binary", [0, 1])
    assert found.values.tolist()[:4] == [1.0, 0.0, 0.0, 1.0]
    assert (found.usable.tolist()[4], found.reach, found.is_return) == (False, 1, True)
    later = made(price=np.array([1.0, 2.0, 2.0, 1.0, 5.0]), horizon=2)
    assert later.name == "return over the next 2 rows > 0"
    assert later.values.tolist()[:3] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("target", "values", "is_return"),
    [
        ("daily_return", [0.1, -0.2, 0.3], True),
        ("RET", [0.1, -0.2, 0.3], True),
        ("returned", [0.1, -0.2, 0.3], False),
        ("daily_return", [0, 1, 2], False),
    ],
)
def test_only_a_regression_of_a_return_has_a_direction(target, values, is_return):
    assert made(np.array(values, dtype=np.float64), target=target).is_return is is_return


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.array([1.0, np.nan, np.inf]), "missing or not finite in 2 of 3 rows"),
        (np.array([2.0, 2.0]), "has the value 2 in every row"),
        (np.array([0.1, 1.0, 1e101]), r"values as large as 1e\+101"),
        (np.ones((3, 2)), "holds lists"),
        (TextColumn(np.array([0, -1], dtype=np.int32), ("a",)), "missing in 1 of 2 rows"),
        (text("a", "a"), "text with 1 distinct values"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused_with_the_reason(column, words):
    with pytest.raises(InvalidDataset, match=words):
        made(column)


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (np.array([1.0, np.nan, 2.0]), "'close' has missing or infinite values"),
        (np.array([1.0, 2.0, 3.0]), "has the same sign in every row"),
        (text("1", "2", "1"), "the price column cannot give one"),
    ],
)
def test_a_price_that_gives_no_label_is_refused(price, words):
    of = replace(layout(price=np.ones(3), horizon=1), price_column=price)
    with pytest.raises(InvalidDataset, match=words):
        label_rows(of, np.arange(3), np.zeros(3, dtype=np.int64))
