"""Which symbols a table has, and whose each row is."""

import numpy as np
import pytest

from flow_nexus_neural.data.symbols import MAX_SYMBOLS, symbols_in
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import LimitExceeded


def test_text_symbols_are_sorted_and_an_empty_cell_is_unknown():
    column = TextColumn(np.array([1, 0, -1, 1], dtype=np.int32), ("ETH", "BTC"))
    symbols, of_row = symbols_in({"symbol": column}, "symbol", 4)
    assert (symbols, of_row.tolist()) == (("BTC", "ETH"), [0, 1, -1, 0])


def test_symbols_may_be_numbers():
    symbols, of_row = symbols_in({"asset": np.array([7.0, np.nan, 2.0])}, "asset", 3)
    assert (symbols, of_row.tolist()) == (("2", "7"), [1, -1, 0])


def test_without_a_column_no_row_has_a_symbol():
    assert symbols_in({}, None, 2)[0] == ()
    assert symbols_in({}, None, 2)[1].tolist() == [-1, -1]


def test_more_symbols_than_can_be_told_apart_are_refused():
    with pytest.raises(LimitExceeded, match="'symbol' names 1025 symbols"):
        symbols_in({"symbol": np.arange(MAX_SYMBOLS + 1.0)}, "symbol", MAX_SYMBOLS + 1)
