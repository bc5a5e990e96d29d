"""Rows of a file in series: by symbol and client, in time order, or else as they stand."""

import numpy as np
import pytest

from flow_nexus_neural.data.file_series import series_in_file
from flow_nexus_neural.data.table import Table, TextColumn


@pytest.fixture
def schema(load):
    rows = [{"symbol": "ab"[t % 2], "time": t, "v": t % 11, "y": t % 3 % 2} for t in range(200)]
    return load(rows, target="y", window=2).schema


def table(**columns):
    return Table({name: np.array(values, dtype=float) for name, values in columns.items()}, 4)


def test_rows_are_ordered_by_the_time_of_the_training_rows(schema):
    series = series_in_file(schema, table(when=[3, 1, 2, 0], v=[0, 0, 0, 0]), ("when",))
    assert series.order.tolist() == [3, 1, 2, 0]
    assert series.warnings == []
    windows, whole = series.windows(np.arange(4), 2)
    assert whole.tolist() == [True, True, True, False]
    assert windows.tolist() == [[2, 0], [3, 1], [1, 2], [3, 3]]
    assert series.ahead(1).tolist() == [-1, 2, 0, 1]


def test_without_a_time_the_order_of_the_rows_counts_and_that_is_said(schema):
    series = series_in_file(schema, table(v=[0, 0, 0, 0]), ("time",))
    assert series.order.tolist() == [0, 1, 2, 3]
    assert "no time column" in series.warnings[0]


def test_no_window_crosses_from_one_symbol_or_client_into_another(schema):
    symbols = TextColumn(np.array([0, 1, 0, 1], dtype=np.int32), ("a", "b"))
    rows = Table({"Symbol": symbols, "time": np.arange(4.0)}, 4)
    assert series_in_file(schema, rows, ("time",)).windows(np.arange(4), 2)[0].tolist() == [
        [0, 0],
        [1, 1],
        [0, 2],
        [1, 3],
    ]
    clients = np.array([0, 0, 1, 1], dtype=np.int32)
    apart = Table(rows.columns, 4, clients=("p", "q"), client_of=clients)
    assert not series_in_file(schema, apart, ("time",)).windows(np.arange(4), 2)[1].any()


def test_a_date_and_a_time_of_day_are_joined_as_in_training(schema):
    days = TextColumn(np.array([1, 0, 1, 0], dtype=np.int32), ("2024-01-01", "2024-01-02"))
    clock = TextColumn(np.array([0, 1, 1, 0], dtype=np.int32), ("09:00", "10:00"))
    rows = Table({"Date": days, "Time": clock, "v": np.zeros(4)}, 4)
    assert series_in_file(schema, rows, ("Date", "Time")).order.tolist() == [3, 1, 0, 2]
