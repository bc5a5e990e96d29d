import numpy as np
import pytest

from flow_nexus_neural.data.target_choice import default_target
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.column_values import text

ROWS = 200
drawn = np.random.Generator(np.random.PCG64(4))
signal = drawn.standard_normal(ROWS)
win = (signal > 0) + 0.0
HOURS = 1_704_067_200 + 3_600.0 * np.arange(ROWS)
DAYS = text(*(str(np.datetime64("2024-01-01") + k) for k in range(ROWS)))


def chosen(columns, barred=(), *, has_time=False):
    warnings = []
    return default_target(columns, barred, None, warnings, has_time=has_time), warnings


@pytest.mark.parametrize("name", ["target", "Label", "y", "CLASS", "direction", "outcome"])
def test_a_target_guessed_from_its_name_is_told(name):
    assert chosen({name: win, "a": signal}) == (
        name,
        [f"no target was named: '{name}' is taken for its name"],
    )


def test_the_return_of_a_price_is_told():
    assert chosen({"Close": signal, "a": signal}, has_time=True) == (
        None,
        ["no target was named: it is whether 'Close' is higher in a later row"],
    )


@pytest.mark.parametrize(
    ("last", "column"),
    [
        ("timestamp", HOURS),
        ("when", DAYS),
        ("__index_level_0__", DAYS),
        ("row", np.arange(ROWS) + 1.0),
        ("customer_id", np.round(1e8 * np.abs(signal))),
        ("note", text(*map(str, range(ROWS)))),
        ("constant", np.ones(ROWS)),
        ("vector", np.ones((ROWS, 3))),
    ],
)
def test_the_target_is_the_last_column_that_can_be_one(last, column):
    assert chosen({"a": signal, "win": win, last: column}) == (
        "win",
        ["no target was named: the last column that can be one, 'win' is taken"],
    )


def test_a_barred_column_is_no_default_target():
    assert chosen({"a": signal, "win": win, "symbol": win}, ["symbol"])[0] == "win"


def test_beside_x_and_z_y_is_a_coordinate():
    axes = {"x": signal, "y": signal, "z": signal}
    assert chosen({**axes, "activity": win})[0] == "activity"
    assert chosen({"y": signal, "x": signal, "a": win})[0] == "y"
    assert chosen({**axes, "class": win, "a": win})[0] == "class"


def test_where_nothing_can_be_a_target_one_must_be_named():
    with pytest.raises(InvalidDataset, match="no column can be one by default"):
        chosen({"timestamp": HOURS})


def test_a_coordinate_is_an_input_and_the_default_target_is_told(load):
    records = [
        {"x": float(signal[k]), "y": float(signal[k]), "z": float(signal[-k]), "moves": int(win[k])}
        for k in range(ROWS)
    ]
    data = load(records)
    assert (data.description.columns, data.description.target) == (["x", "y", "z"], "moves")
    assert "no target was named: the last column 'moves' is taken" in data.warnings


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("timestamp", [int(value) for value in HOURS]),
        ("date", list(DAYS.levels)),
        ("symbol", ["AA", "BB"] * 100),
    ],
)
def test_neither_time_nor_symbol_is_a_default_target(load, write_csv, name, column):
    rows = [[f"{signal[k]:.4f}", k % 7, int(win[k]), column[k]] for k in range(ROWS)]
    write_csv("a.csv", ["a", "b", "win", name], rows)
    data = load("a.csv")
    assert (data.description.target, data.description.task) == ("win", "binary")
    assert data.description.columns == ["a", "b"]
