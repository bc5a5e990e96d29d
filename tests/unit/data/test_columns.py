import numpy as np
import pytest

from flow_nexus_neural.data.columns import (
    MAX_LEVELS,
    ColumnChoice,
    find_column,
    lay_out,
)
from flow_nexus_neural.data.symbols import MAX_SYMBOLS
from flow_nexus_neural.data.table import Table, TextColumn
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset, LimitExceeded
from tests.unit.data.column_values import numbers, text


def layout(columns, **choice):
    first = next(iter(columns.values()))
    rows = len(first.codes) if isinstance(first, TextColumn) else len(first)
    return lay_out(Table(columns, rows), ColumnChoice(**choice))


def reasons(found):
    return {item["name"]: item["reason"] for item in found.excluded}


def test_a_column_is_found_exactly_before_it_is_found_in_another_case():
    assert find_column("a", ["A", "a"], "target") == "a"
    assert find_column("PRICE", ["price", "x"], "target") == "price"
    with pytest.raises(InvalidArguments, match="target names column 'B', which"):
        find_column("B", ["b1", "bB", "Bb"], "target")


def test_a_name_in_two_cases_is_not_guessed():
    with pytest.raises(InvalidArguments):
        find_column("aB", ["AB", "ab"], "features")


def test_an_unknown_column_is_refused_with_the_nearest_and_the_first_names():
    with pytest.raises(InvalidArguments) as caught:
        find_column("volum", ["volume", *(f"c{index}" for index in range(9))], "features")
    assert caught.value.hint.startswith("did you mean 'volume'? columns: volume, c0")
    assert caught.value.hint.endswith("and 2 more")


def test_every_column_gets_one_role():
    found = layout(
        {
            "Date": text("2024-01-01", "2024-01-02", "2024-01-03"),
            "Ticker": text("B", "A", None),
            "size": numbers(1, 2, 3),
            "id": numbers(7, 8, 9),
            "label": numbers(0, 1, 0),
        }
    )
    assert (found.target, found.price, found.horizon) == ("label", None, 0)
    assert list(found.features) == ["size", "id"]
    assert found.time.tolist() == [1_704_067_200_000.0 + 86_400_000.0 * day for day in range(3)]
    assert (found.symbols, found.symbol_of.tolist()) == (("A", "B"), [1, 0, -1])
    assert reasons(found) == {"Date": "time", "Ticker": "routing"}


def test_with_a_time_and_a_price_the_label_is_the_next_return():
    columns = {"time": numbers(1, 2), "Close": numbers(5, 6), "v": numbers(0, 1)}
    found = layout(columns)
    assert (found.target, found.price, found.horizon) == (None, "Close", 1)
    assert list(found.features) == ["Close", "v"]
    with pytest.raises(InvalidArguments, match="horizon=0 for the return"):
        layout(columns, horizon=0)


def test_without_any_hint_the_last_column_is_the_target_and_it_is_said():
    found = layout({"a": numbers(1, 2), "b": numbers(0, 1)})
    assert (found.target, list(found.features)) == ("b", ["a"])
    assert found.warnings == ["no target was named: the last column 'b' is taken"]


def test_a_target_of_later_rows_keeps_todays_value_as_a_feature():
    columns = {"v": numbers(1, 2, 3), "w": numbers(0, 1, 1)}
    assert list(layout(columns, target="v").features) == ["w"]
    assert list(layout(columns, target="v", horizon=2).features) == ["v", "w"]


def test_a_chosen_outcome_is_used_with_a_warning_and_another_is_left_out():
    columns = {"a": numbers(1, 2), "trend": numbers(0, 1), "y": numbers(0, 1)}
    left_out = layout(columns, target="y")
    assert reasons(left_out) == {"trend": "label-like"}
    chosen = layout(columns, target="y", features=("trend",))
    assert list(chosen.features) == ["trend"]
    assert reasons(chosen) == {"a": "not chosen"}
    assert any("used because you chose it" in warning for warning in chosen.warnings)
    with pytest.raises(InvalidArguments, match="'y' is the target and cannot be a feature"):
        layout(columns, target="y", features=("a", "y"))


def test_steps_in_columns_are_joined_in_the_order_of_their_numbers():
    steps = {f"lag[{k}]": numbers(k, 10 + k) for k in (2, 0, 3, 1)}
    found = layout({**steps, "y": numbers(0, 1)})
    assert found.vector == "lag"
    assert found.features["lag"].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    short = layout({**{f"lag[{k}]": numbers(k, k) for k in range(3)}, "y": numbers(0, 1)})
    assert (short.vector, list(short.features)) == (None, ["lag[0]", "lag[1]", "lag[2]"])


def test_of_two_vectors_only_features_stays_a_sequence():
    columns = {"features": np.ones((2, 3)), "other": np.ones((2, 2)), "y": numbers(0, 1)}
    found = layout(columns)
    assert found.vector == "features"
    assert list(found.features) == ["features", "other[0]", "other[1]"]
    assert "2 vector columns: only 'features' is kept as a sequence" in found.warnings


def test_true_and_false_become_numbers_and_other_texts_do_not():
    found = layout(
        {"on": text("True", "false", None), "c": text("true", "no", "no"), "y": numbers(0, 1, 0)}
    )
    assert found.features["on"].tolist()[:2] == [1.0, 0.0]
    assert np.isnan(found.features["on"][2])
    assert isinstance(found.features["c"], TextColumn)


def test_a_text_with_one_value_too_many_is_no_category():
    rows = MAX_LEVELS + 1
    labels = np.arange(rows) % 2.0
    many = layout({"c": text(*map(str, range(rows))), "x": labels, "y": labels})
    assert reasons(many) == {"c": f"text with {rows} distinct values"}
    fits = layout({"c": text(*(str(k % MAX_LEVELS) for k in range(rows))), "y": labels})
    assert list(fits.features) == ["c"]


def test_too_many_symbols_and_no_feature_at_all_are_refused():
    rows = MAX_SYMBOLS + 1
    with pytest.raises(LimitExceeded, match=f"names {rows} symbols"):
        layout({"symbol": np.arange(float(rows)), "a": np.ones(rows), "y": np.ones(rows)})
    with pytest.raises(InvalidDataset, match="no column is left as a feature \\(a: empty\\)"):
        layout({"a": numbers(np.nan, np.nan), "y": numbers(0, 1)})


def test_a_wish_that_cannot_be_followed_is_a_warning():
    columns = {"a": numbers(1, 2), "gone": numbers(np.nan, np.nan), "y": numbers(0, 1)}
    found = layout(columns, target="y", features=("a", "gone"))
    assert list(found.features) == ["a"]
    assert found.warnings == ["features names 'gone', which cannot be used: empty"]
    many = text(*map(str, range(MAX_LEVELS + 1)))
    rows = np.arange(MAX_LEVELS + 1.0)
    told = layout({"a": rows, "many": many, "y": rows % 2}, target="y", features=("a", "many"))
    assert told.warnings == [
        "features names 'many', which cannot be used: text with 17 distinct values"
    ]


def test_steps_that_are_named_one_by_one_are_not_joined():
    steps = {f"lag_{k}": numbers(k, 10 + k) for k in range(5)}
    found = layout({**steps, "y": numbers(0, 1)}, target="y", features=("lag_0", "lag_3"))
    assert (found.vector, list(found.features)) == (None, ["lag_0", "lag_3"])


def test_an_excluded_column_has_no_role():
    columns = {
        "time": numbers(1, 2),
        "symbol": text("A", "B"),
        "label": numbers(0, 1),
        "a": numbers(1, 2),
        "win": numbers(0, 1),
    }
    found = layout(columns, exclude=("TIME", "symbol", "label"))
    assert (found.time, found.symbols, found.target) == (None, (), "win")
    assert reasons(found) == dict.fromkeys(["time", "symbol", "label"], "in exclude")
    assert list(found.features) == ["a"]


def test_the_name_of_a_vector_excludes_all_its_steps():
    steps = {f"lag[{k}]": numbers(k, k) for k in range(5)}
    found = layout({**steps, "a": numbers(1, 2), "y": numbers(0, 1)}, exclude=("lag",))
    assert list(found.features) == ["a"]


@pytest.mark.parametrize("also", [{"target": "a"}, {"time_column": "a"}, {"features": ("A", "b")}])
def test_a_column_that_is_needed_cannot_be_excluded(also):
    columns = {"a": numbers(1, 2), "b": numbers(1, 2), "y": numbers(0, 1)}
    with pytest.raises(InvalidArguments, match="exclude names 'a', which is needed"):
        layout(columns, exclude=("a",), **also)
    with pytest.raises(InvalidArguments, match="exclude names column 'c', which the data do not"):
        layout(columns, exclude=("c",))


def test_dates_that_are_named_as_features_are_the_time_and_it_is_said():
    days = text(*(f"2024-01-{k:02d}" for k in range(1, MAX_LEVELS + 2)))
    rows = np.arange(MAX_LEVELS + 1.0)
    columns = {"date": days, "a": rows, "y": rows % 2}
    found = layout(columns, target="y", features=("Date", "a"))
    assert (list(found.features), len(found.time)) == (["a"], MAX_LEVELS + 1)
    assert "features names 'Date', which cannot be used: time" in found.warnings
    with pytest.raises(InvalidArguments, match="features names only 'date', which is the time"):
        layout(columns, target="y", features=("date",))


def test_y_is_an_input_beside_x_where_z_is_the_target():
    columns = {name: numbers(0, 1, 3) for name in "xyz"}
    assert list(layout(columns).features) == ["x", "y"]
