import numpy as np

from flow_nexus_neural.data.readers.csv_symbols import rows_per_symbol
from tests.unit.data.column_values import numbers, text


def test_columns_per_symbol_become_rows_per_symbol():
    columns = {"0": text("d1", "d2"), "1": numbers(1, 2), "2": numbers(3, 4), "3": numbers(5, 6)}
    long = rows_per_symbol(
        columns, list(columns), ["Date", "Close", "Close", "Volume"], ["", "AAA", "BBB", "AAA"]
    )
    assert [long["Date"].levels[code] for code in long["Date"].codes] == ["d1", "d2", "d1", "d2"]
    assert long["Close"].tolist() == [1, 2, 3, 4]
    assert long["Volume"][:2].tolist() == [5, 6]
    assert np.isnan(long["Volume"][2:]).all()
    assert [long["symbol"].levels[code] for code in long["symbol"].codes] == ["AAA"] * 2 + [
        "BBB"
    ] * 2


def test_texts_of_one_symbol_and_numbers_of_another_are_texts():
    columns = {"a": text("x", None), "b": numbers(1, 2)}
    long = rows_per_symbol(columns, ["a", "b"], ["q", "q"], ["S", "T"])
    assert [None if code < 0 else long["q"].levels[code] for code in long["q"].codes] == [
        "x",
        None,
        "1.0",
        "2.0",
    ]


def test_a_single_symbol_needs_no_column():
    columns = {"a": numbers(1, 2), "b": numbers(3, 4)}
    assert list(rows_per_symbol(columns, ["a", "b"], ["t", "q"], ["", "S"])) == ["t", "q"]
