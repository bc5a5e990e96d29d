import numpy as np
import pytest

from flow_nexus_neural.data.market import with_lags
from flow_nexus_neural.data.table import Table, TextColumn
from flow_nexus_neural.errors import DataTooSmall, InvalidDataset


def history(returns, start=100.0):
    return start * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))


RETURNS = 0.001 * np.arange(1, 53)  # 53 rows: three have the 50 returns before them


def single(**columns):
    price = history(RETURNS)
    return Table({"date": np.arange(53.0), "Close": price, **columns}, 53)


def test_lags_are_the_last_fifty_log_returns_oldest_first():
    table, notes = with_lags(single())
    assert table.rows == 3
    assert table.columns["features"].shape == (3, 50)
    for row in range(3):
        assert table.columns["features"][row] == pytest.approx(RETURNS[row : row + 50], rel=1e-5)
    assert table.columns["price"] == pytest.approx(history(RETURNS)[50:])
    assert table.columns["timestamp"].tolist() == [50.0, 51.0, 52.0]
    assert "50 rows without that history are dropped" in notes[0]


def test_volatility_is_weighted_by_the_decay_and_a_given_one_is_kept():
    variance = RETURNS[0] ** 2
    for value in RETURNS[:50]:
        variance = 0.94 * variance + 0.06 * value**2
    table, _ = with_lags(single())
    assert table.columns["volatility"][0] == pytest.approx(np.sqrt(variance))
    given, _ = with_lags(single(volatility=np.arange(53.0)))
    assert given.columns["volatility"].tolist() == [50.0, 51.0, 52.0]


def test_each_symbol_has_a_history_of_its_own_whatever_the_order_of_the_rows():
    down = history(-RETURNS)
    time = np.repeat(np.arange(53.0), 2)
    price = np.stack([history(RETURNS), down], axis=1).ravel()
    codes = np.tile(np.array([0, 1], dtype=np.int32), 53)
    order = np.random.Generator(np.random.PCG64(1)).permutation(106)
    columns = {
        "timestamp": time[order],
        "ticker": TextColumn(codes[order], ("UP", "DOWN")),
        "price": price[order],
    }
    table, _ = with_lags(Table(columns, 106))
    assert table.rows == 6
    up = table.columns["symbol"].codes == 0
    assert (table.columns["features"][up] > 0).all()
    assert (table.columns["features"][~up] < 0).all()
    # Rows keep the order of the table.
    kept = [row for row in range(106) if time[order][row] >= 50]
    assert table.columns["price"].tolist() == price[order][kept].tolist()


def test_columns_without_a_role_are_left_out():
    table, _ = with_lags(single(note=np.ones(53), vol=np.ones(53)))
    assert set(table.columns) == {"timestamp", "price", "volume", "volatility", "features"}


@pytest.mark.parametrize(
    "columns",
    [
        {"date": np.arange(60.0), "size": np.ones(60)},
        {"close": np.ones(60), "size": np.ones(60)},
        {"date": np.arange(60.0), "close": np.ones(60), "Features[0]": np.ones(60)},
    ],
)
def test_a_table_without_price_and_time_or_with_features_is_left_as_it_is(columns):
    table = Table(columns, 60)
    assert with_lags(table) == (table, [])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_price_that_has_no_logarithm_is_refused(bad):
    table = single()
    table.columns["Close"][7] = bad
    with pytest.raises(InvalidDataset, match="'Close' has values that are no positive number"):
        with_lags(table)


def test_symbols_without_fifty_rows_before_them_are_too_short():
    price = history(RETURNS)[:50]
    with pytest.raises(DataTooSmall, match="no symbol has more than 50 rows"):
        with_lags(Table({"date": np.arange(50.0), "close": price}, 50))
