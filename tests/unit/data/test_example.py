import json

from flow_nexus_neural.data.example import example_record, inputs_in_order, positions_in_order
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.engine.building import schema


def number(name, mean=0.0, **more):
    return ColumnSpec(name=name, kind="number", mean=(mean,), sd=(1.0,), **more)


def vector(name, *mean):
    return ColumnSpec(name=name, kind="vector", mean=mean, sd=(1.0,) * len(mean))


def test_inputs_are_named_in_stored_order_with_the_width_of_lists():
    columns = (vector("lags", 1.0, 2.0, 3.0), number("size"))
    assert inputs_in_order(schema(columns=columns)) == "lags[3], size"


def test_every_place_of_a_row_is_named_with_its_level_or_number():
    color = ColumnSpec(name="color", kind="levels", mean=(0.5, 0.5), sd=(1, 1), levels=("red", "b"))
    spectrum = ColumnSpec(name="s", kind="vector", mean=(0.0, 0.0), sd=(1, 1))
    plain = ColumnSpec(name="a", kind="number", mean=(0.0,), sd=(1,))
    named = positions_in_order(schema(columns=(plain, color, spectrum)))
    assert named == ["a", "color=red", "color=b", "s[0]", "s[1]"]


def test_of_many_inputs_the_first_eight_are_named_and_the_others_counted():
    columns = tuple(number(f"c{index}") for index in range(11))
    assert inputs_in_order(schema(columns=columns)) == "c0, c1, c2, c3, c4, c5, c6, c7 and 3 more"


def test_an_example_holds_typical_values_of_every_kind():
    columns = (
        vector("lags", 0.1, 0.23456, 0.3),
        number("price", 0.5, medians={"BTC": 51234.0, "ETH": 3000.0}, pooled=(9.0, 1.0)),
        ColumnSpec(name="c", kind="levels", mean=(0.5, 0.5), sd=(1.0, 1.0), levels=("up", "down")),
        number("size", 0.000123456),
        number("fifth"),
    )
    record = json.loads(example_record(schema(columns=columns, symbols=("BTC", "ETH"))))
    assert record == {
        "symbol": "BTC",
        "lags": [0.235, 0.3],
        "price": 51200.0,
        "c": "up",
        "size": 0.000123,
    }


def test_a_model_of_windows_is_shown_a_window():
    shown = schema(input=InputSpec(vector_length=0, n_scalars=2, window=4))
    assert json.loads(example_record(shown)) == {"window": [{"f0": 0.0, "f1": 0.0}]}


def test_a_price_without_a_known_symbol_is_shown_as_one():
    columns = (number("price", medians={}, pooled=(0.0, 1.0)),)
    assert json.loads(example_record(schema(columns=columns))) == {"price": 0.0}
    columns = (number("price", medians={"BTC": 7.0}, pooled=(0.0, 1.0)),)
    assert json.loads(example_record(schema(columns=columns))) == {"price": 1.0}


def test_foreign_names_are_cut_and_lose_halves_of_characters():
    columns = (number("x" * 60), number("a\ud800b"))
    assert inputs_in_order(schema(columns=columns)) == f"{'x' * 40}, a?b"
