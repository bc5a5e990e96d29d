import numpy as np
import pytest

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.table import Table, TextColumn
from flow_nexus_neural.data.written_numbers import odd_cell, read_number, with_numbers
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.column_values import text

ROWS = 240
signal = np.random.Generator(np.random.PCG64(1)).standard_normal(ROWS)


def converted(columns, labels=(), inputs=()):
    first = next(iter(columns.values()))
    rows = len(first.codes) if isinstance(first, TextColumn) else len(first)
    return with_numbers(Table(columns, rows), labels, inputs)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1,234,567", 1234567),
        ("1.234.567", 1234567),
        ("12,34,567.5", 1234567.5),
        ("0,1257", 0.1257),
        ("12%", 12),
        ("12 %", 12),
        ("$3", 3),
        ("-$3.50", -3.5),
        ("$-3.50", -3.5),
        ("\u20ac 1.234,50", 1234.5),
        ("1 234,50 \u20ac", 1234.5),
        ("USD 7", 7),
        ("(5)", -5),
        ("($1,234.00)", -1234),
        ("$(5)", -5),
        ("5-", -5),
        ("+5", 5),
        ("1e3", 1000),
        ("2,5e-3", 0.0025),
        ("\u22122", -2),
        ("\u20132.5", -2.5),
        ("1\u2009234\u2009567", 1234567),
        ("1\u202f234,5", 1234.5),
        ("1\u00a0234", 1234),
        ("1'234.50", 1234.5),
        ("100.5K", 100500),
        ("1.5M", 1.5e6),
        ("2B", 2e9),
        (".5", 0.5),
        ("5.", 5),
    ],
)
def test_a_number_is_read_in_any_spelling_that_means_one_thing(written, number):
    assert read_number(written) == pytest.approx(number, abs=1e-12)


@pytest.mark.parametrize(
    "written",
    [
        *("1,234", "1.234.5", "1,23,4", "1 23", "0.57 Dividend", "5 apples", "12m", "A1", "x", ""),
        *("2024-01-31", "12:30", "192.168.1.1", "--5", "-(5)", "$5%", "%5", "1" * 50),
    ],
)
def test_what_may_mean_two_things_or_nothing_is_not_read(written):
    assert np.isnan(read_number(written))


def test_what_may_mean_two_things_is_read_where_the_mark_before_decimals_is_known():
    assert (read_number("1,234", "."), read_number("1,234", ",")) == (1234, 1.234)
    assert (read_number("1.234", "."), read_number("1.234", ",")) == (1.234, 1234)


FORMS = {
    "thousands": (lambda v: f"{1e6 + 1e5 * v:,.0f}", "."),
    "thousands below a million": (lambda v: f"{5e4 + 1e4 * v:,.2f}", "."),
    "spaces": (lambda v: f"{1e6 + 1e5 * v:,.0f}".replace(",", " "), "."),
    "thin spaces": (lambda v: f"{1e6 + 1e5 * v:,.0f}".replace(",", "\u2009"), "."),
    "decimal comma": (lambda v: f"{v:.4f}".replace(".", ","), ","),
    "points and a comma": (
        lambda v: f"{1e6 + 1e5 * v:,.2f}".translate({44: ".", 46: ","}),
        ",",
    ),
    "per cent": (lambda v: f"{v:.3f}%", "."),
    "currency": (lambda v: f"${100 + v:.3f}", "."),
    "thousands of thousands": (lambda v: f"{100 + 10 * v:.3f}K", "."),
    "minus": (lambda v: f"{v:.4f}".replace("-", "\u2212"), "."),
    "brackets": (lambda v: f"({-v:.4f})" if v < 0 else f"{v:.4f}", "."),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_in_another_spelling_is_a_column_of_numbers(form):
    write, decimal = FORMS[form]
    table = converted({"a": text(*map(write, signal)), "b": signal})
    assert np.corrcoef(table.columns["a"], signal)[0, 1] > 0.9999
    assert (table.decimals, table.remarks) == ({"a": decimal}, ())


@pytest.mark.parametrize(
    "gap", ["#N/A", "--", ".", "<NA>", "n.a.", "#VALUE!", "NaT", "\\N", "\u2014"]
)
def test_what_stands_for_a_missing_number_is_missing(gap):
    cells = [gap if k % 20 == 0 else f"{value:.4f}" for k, value in enumerate(signal)]
    table = converted({"a": text(*cells), "b": signal})
    assert np.flatnonzero(np.isnan(table.columns["a"])).tolist() == list(range(0, ROWS, 20))
    assert table.remarks == ()


def test_a_few_odd_cells_count_as_unknown_and_are_told_by_column_row_and_cell():
    cells = [f"{value:.4f}" for value in signal]
    cells[30], cells[77] = "0.57 Dividend", "halted"
    table = converted({"a": text(*cells), "b": signal})
    assert np.flatnonzero(np.isnan(table.columns["a"])).tolist() == [30, 77]
    assert table.remarks == (
        "'a' holds numbers; what is none counts as unknown: '0.57 Dividend' in row 31 and 1 more cells",
    )


def left_as_text(cells, others=None):
    column = text(*cells)
    table = converted({"a": column, **(others or {"b": np.arange(len(cells))})})
    assert table.columns["a"] is column
    return table.remarks


def test_many_odd_cells_leave_a_column_as_it_is_with_a_word():
    cells = [f"{value:.4f}" if k % 3 else f"n{k}" for k, value in enumerate(signal)]
    assert left_as_text(cells) == (
        "'a' is not read as numbers: it also holds other texts, such as 'n0' in row 1",
    )


def test_a_column_that_may_mean_two_things_is_left_as_it_is_with_a_word():
    cells = [f"{value:,.0f}" for value in 5e4 + 1e4 * signal]
    [remark] = left_as_text(cells)
    assert remark.startswith(f"'a' is not read as numbers: '{cells[0]}' in row 1 may be")


@pytest.mark.parametrize(("other", "scale"), [("1,5", 1e-3), ("1.5", 1)])
def test_the_other_columns_tell_what_could_mean_two_things(other, scale):
    values = np.round(5e4 + 1e4 * signal)
    cells = text(*(f"{value:,.0f}" for value in values))
    table = converted({"a": cells, "b": text(*[other, "$2"] * (ROWS // 2))})
    assert table.columns["a"] == pytest.approx(values * scale)


def test_units_are_not_mixed():
    mixed = [f"{'$' if k % 2 else '%'}{k}"[:: 1 if k % 2 else -1] for k in range(10, ROWS)]
    assert "mixes the units $ and %" in left_as_text(mixed)[0]
    shares = [f"{value:.3f}{'%' if k % 2 else ''}" for k, value in enumerate(signal)]
    assert "mixes the units % and none" in left_as_text(shares)[0]


@pytest.mark.parametrize(
    "cells",
    [["red", "green", "blue"], ["1", "2", "3+"], ["2024-01-31", "2024-02-01"], ["12:30", "13:00"]],
)
def test_other_texts_stay_texts_without_a_word(cells):
    assert left_as_text(cells * 40) == ()


def test_symbols_and_the_classes_of_a_target_stay_texts():
    table = converted({"symbol": text("$1", "$2"), "y": text("$1", "$2")}, labels=["y"])
    assert all(isinstance(column, TextColumn) for column in table.columns.values())
    named = converted({"symbol": text("$1", "$2")}, inputs=["symbol"])
    assert named.columns["symbol"].tolist() == [1, 2]


def test_points_beside_decimal_commas_are_pointed_out():
    table = converted({"a": text("1,5", "2,25"), "b": np.array([1.234, 5.6])})
    assert table.remarks == (
        "'b' is read with decimal points, though other columns have decimal commas",
    )


def test_the_odd_cell_of_a_target_is_named(load):
    records = [{"a": float(v), "y": f"{v:.4f}"} for v in signal]
    records[30]["y"] = "halted"
    with pytest.raises(InvalidDataset, match=r"others are numbers, but not 'halted' in row 31"):
        load(records, target="y")
    assert odd_cell(text("red", "blue")) is None


def test_records_are_read_like_the_training_data(load, write_csv):
    rows = [[f"{v:.4f}".replace(".", ","), f"{1000 + 9 * v:,.2f}", int(v > 0)] for v in signal]
    write_csv("a.csv", ["a", "b", "label"], rows)
    data = load("a.csv")
    assert data.description.columns == ["a", "b"]
    given = adapt(data.schema, {"a": "0,5", "b": "1,002.25"}).x
    assert given.tolist() == adapt(data.schema, {"a": 0.5, "b": 1002.25}).x.tolist()
    again = type(data.schema).from_json(data.schema.to_json())
    assert (again, again.columns[0].decimal) == (data.schema, ",")


def test_a_schema_of_plain_numbers_is_written_as_before(load, labelled):
    columns = load(labelled).schema.to_json()["columns"]
    assert all("decimal" not in column for column in columns)
