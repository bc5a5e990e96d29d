import numpy as np
import pytest

from flow_nexus_neural.data.normalise import (
    ColumnSpec,
    RowScaler,
    fit_channel,
    fit_column,
    raw_values,
    scale,
    scale_column,
)
from flow_nexus_neural.data.table import TextColumn

NOBODY = np.full(6, -1, dtype=np.int32)
ALL = np.arange(6)


def fitted(column, train=ALL, *, name="a", symbols=(), symbol_of=NOBODY, ratios=False):
    return fit_column(name, column, np.asarray(train), symbols, symbol_of, ratios=ratios)


def test_mean_and_deviation_are_those_of_training_rows_that_have_a_value():
    column = np.array([1.0, 3.0, np.nan, np.inf, 100.0, 100.0])
    spec = fitted(column, [0, 1, 2, 3])
    assert (spec.kind, spec.mean, spec.sd) == ("number", (2.0,), (1.0,))
    scaled = scale_column(spec, column, ALL, (), NOBODY)
    assert scaled[:, 0].tolist() == [-1.0, 1.0, 0.0, 0.0, 6.0, 6.0]


def test_a_constant_column_is_always_zero_even_where_it_changes_later():
    column = np.array([5.0, 5.0, 5.0, 5.0, 9.0, -9.0])
    spec = fitted(column, [0, 1, 2, 3])
    assert spec.sd == (0.0,)
    assert (scale_column(spec, column, ALL, (), NOBODY) == 0).all()


def test_rounding_of_a_large_constant_is_no_variation():
    column = 1e15 + np.array([0.0, 0.125, 0.0, 0.125, 0.0, 0.125])
    assert fitted(column).sd == (0.0,)


def test_values_whose_squares_overflow_are_scaled_to_zero():
    spec = fitted(np.array([1e300, -1e300, 1e308, -1e308, 0, 1]))
    assert (spec.mean, spec.sd) == ((0.0,), (0.0,))


def test_every_step_of_a_vector_has_its_own_scale_and_a_channel_has_one():
    column = np.array([[0.0, 10.0], [2.0, 30.0]])
    vector = fitted(column, [0, 1], symbol_of=NOBODY[:2])
    assert (vector.kind, vector.mean, vector.sd) == ("vector", (1.0, 20.0), (1.0, 10.0))
    channel = fit_channel("c", column)
    assert channel.mean == (10.5,)
    assert channel.sd == pytest.approx((np.std([0, 10, 2, 30]),))


def test_prices_become_ratios_to_the_median_of_their_symbol():
    prices = np.array([1.0, 2.0, 4.0, 100.0, 200.0, 400.0])
    symbol_of = np.array([0, 0, 0, 1, 1, 1], dtype=np.int32)
    spec = fitted(prices, name="Close", symbols=("A", "B"), symbol_of=symbol_of, ratios=True)
    assert spec.medians == {"A": 2.0, "B": 200.0}
    assert spec.mean == pytest.approx((0.0,), abs=1e-12)
    assert spec.sd == pytest.approx((np.log(2) * np.sqrt(2 / 3),))
    scaled = scale_column(spec, prices, ALL, ("A", "B"), symbol_of)[:, 0]
    step = np.sqrt(1.5)
    assert scaled == pytest.approx([-step, 0, step, -step, 0, step], abs=1e-6)


def test_a_price_of_an_unknown_symbol_is_placed_among_all_prices():
    prices = np.array([1.0, np.e**2, 1.0, np.e**2, 1.0, np.e**2])
    symbol_of = np.array([0, 0, 0, 0, 1, -1], dtype=np.int32)
    spec = fitted(prices, name="price", symbols=("A", "B"), symbol_of=symbol_of, ratios=True)
    assert spec.pooled == pytest.approx((1.0, 1.0))
    scaled = scale(spec, np.array([[np.e**3], [0.0]]), np.array([np.nan, np.nan]))[0]
    assert scaled[:, 0] == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize(
    ("name", "values", "ratios"),
    [
        ("price", [1, 2, 3, 4, 5, 6], False),
        ("size", [1, 2, 3, 4, 5, 6], True),
        ("price", [1, 2, 3, 4, 5, 0], True),
    ],
)
def test_plain_values_are_scaled_without_a_ratio(name, values, ratios):
    spec = fitted(np.array(values, dtype=float), name=name, ratios=ratios)
    assert (spec.medians, spec.pooled) == (None, None)
    assert spec.mean == (sum(values) / 6,)


def test_levels_are_those_of_training_rows_in_order():
    column = TextColumn(np.array([2, 0, 0, 1, -1, 3], dtype=np.int32), ("b", "a", "c", "late"))
    spec = fitted(column, [0, 1, 2, 3])
    assert (spec.kind, spec.levels) == ("levels", ("a", "b", "c"))
    assert spec.mean == (0.25, 0.5, 0.25)
    raw = raw_values(column, spec.levels, np.array([0, 4, 5]))
    assert raw[0].tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(raw[1]).all()
    assert raw[2].tolist() == [0.0, 0.0, 0.0]


def test_numbers_are_clipped_and_said_to_be_and_levels_are_not_said_to_be():
    number = ColumnSpec(name="a", kind="number", mean=(0.0,), sd=(1.0,))
    values = np.array([[5.9], [-6.1], [np.nan]])
    scaled, outside = scale(number, values, None)
    assert scaled[:, 0] == pytest.approx([5.9, -6.0, 0.0])
    assert outside[:, 0].tolist() == [False, True, False]
    assert np.isnan(values[2, 0])
    rare = ColumnSpec(name="c", kind="levels", mean=(0.01,), sd=(0.1,), levels=("x",))
    scaled, outside = scale(rare, np.array([[1.0]]), None)
    assert (scaled[0, 0], outside[0, 0]) == (6.0, False)


def test_whole_rows_are_scaled_as_their_columns_are():
    rng = np.random.Generator(np.random.PCG64(4))
    specs = [
        ColumnSpec(name="v", kind="vector", mean=(1.0, 2.0), sd=(0.5, 0.0)),
        ColumnSpec(
            name="p", kind="number", mean=(0.1,), sd=(0.3,), medians={"A": 2.0}, pooled=(1.0, 2.0)
        ),
        ColumnSpec(name="c", kind="levels", mean=(0.1, 0.9), sd=(0.3, 0.05), levels=("x", "y")),
    ]
    values = np.abs(rng.standard_normal((40, 5))) * 3
    values[rng.random((40, 5)) < 0.2] = np.nan
    symbols = ["A" if index % 2 else None for index in range(40)]
    scaler = RowScaler(specs)
    assert scaler.starts.tolist() == [0, 2, 3]
    scaled, outside = scaler.scale(values, symbols)
    bases = np.array([2.0 if symbol else np.nan for symbol in symbols])
    for spec, place in zip(specs, (slice(0, 2), slice(2, 3), slice(3, 5)), strict=True):
        alone = scale(spec, values[:, place], bases if spec.medians else None)
        assert scaled[:, place] == pytest.approx(alone[0])
        assert (outside[:, place] == alone[1]).all()
