import numpy as np
import pytest

from flow_nexus_neural.data.row_numbers import ROW_NUMBER, groups_of_rows, names_rows, numbers_rows
from tests.unit.data.column_values import text

ROWS = 300
drawn = np.random.Generator(np.random.PCG64(5))
ORDER = drawn.permutation(ROWS).astype(np.float64)


def excluded(data):
    return {item["name"]: item["reason"] for item in data.description.excluded_columns}


@pytest.mark.parametrize(
    "values",
    [
        np.arange(ROWS) + 1.0,
        np.arange(ROWS)[::-1] + 0.0,
        ORDER,
        ORDER[ORDER % 7 > 1],
        np.sort(drawn.choice(3_000, ROWS, replace=False)) + 0.0,
        np.cumsum(drawn.integers(1, 10_000_000, ROWS)) + 0.0,
        np.repeat(np.arange(ROWS / 2), 2),
    ],
    ids=["1..n", "falling", "shuffled", "filtered", "sampled", "far apart", "twice each"],
)
def test_whole_numbers_that_only_number_the_rows_are_known_by_their_values(values):
    assert numbers_rows("any", values, None)


@pytest.mark.parametrize(
    "values",
    [
        drawn.integers(0, 50, ROWS) + 0.0,
        drawn.integers(0, 2_000_000_000, ROWS) + 0.0,
        ORDER + 0.5,
        np.tile(np.arange(24.0), 13)[:ROWS],
        np.repeat([0.0, 1.0, 2.0], 100),
        np.where(ORDER == 7, np.nan, ORDER),
        np.arange(20.0),
    ],
    ids=["ages", "amounts", "no whole numbers", "hours", "three blocks", "a gap", "few rows"],
)
def test_measured_numbers_are_no_row_numbers(values):
    assert not numbers_rows("any", values, None)


def test_prices_and_volumes_may_rise_in_every_row():
    for name in ("Close", "Adj Close", "volume"):
        assert not numbers_rows(name, np.arange(100.0), None)


def test_numbers_that_begin_anew_with_every_client_and_symbol_are_row_numbers():
    client_of = np.repeat(np.arange(3, dtype=np.int32), 100)
    values = np.tile(np.arange(100.0), 3)
    assert not numbers_rows("any", values, None)
    assert numbers_rows("any", values, groups_of_rows(client_of, None))
    assert groups_of_rows(None, None) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("unnamed_0", True),
        ("Unnamed: 0", True),
        ("index", True),
        ("row.names", True),
        ("...1", True),
        ("customer_id", True),
        ("customerId", True),
        ("ID", True),
        ("humid", False),
        ("paid", False),
        ("rows_sold", False),
        ("unnamedness", False),
    ],
)
def test_an_index_and_an_id_are_known_by_their_names(name, found):
    repeated = drawn.integers(0, 100, ROWS) + 0.0
    assert names_rows(name, repeated) is found
    assert not names_rows(name, repeated % 10)
    assert not names_rows(name, repeated + 0.25)


def test_a_number_that_hardly_repeats_is_an_id_under_such_a_name():
    numbers = drawn.integers(5_550_000_000, 5_560_000_000, ROWS) + 0.0
    assert names_rows("phone", numbers)
    assert names_rows("Sample code number", numbers)
    assert not names_rows("number", numbers % 100)
    assert not names_rows("income", numbers)


def test_the_index_that_pandas_adds_to_parquet_is_known_whatever_it_holds():
    assert names_rows("__index_level_0__", text("a", "b"))


FORMS = {
    "R's row names": (["", "noise", "label"], lambda i: i + 1),
    "a shuffled frame": (["", "noise", "label"], lambda i: int(ORDER[i])),
    "a restored index": (["Unnamed: 0", "noise", "label"], lambda i: int(ORDER[i])),
    "an id": (["id", "noise", "label"], lambda i: 10_000_000 + 7_919 * int(ORDER[i])),
    "any name": (["case", "noise", "label"], lambda i: 5 * i),
    "in the middle": (["noise", "case", "label"], lambda i: int(ORDER[i])),
}


@pytest.mark.parametrize("form", FORMS)
def test_row_numbers_are_left_out_with_the_reason_wherever_they_stand(load, write_csv, form):
    header, number = FORMS[form]
    rows = [
        [f"{drawn.standard_normal():.4f}" if name == "noise" else number(i) for name in header[:-1]]
        + [int(i >= ROWS // 2)]
        for i in range(ROWS)
    ]
    write_csv("a.csv", header, rows)
    data = load("a.csv")
    assert data.description.columns == ["noise"]
    [(name, reason)] = excluded(data).items()
    assert (name.lower().startswith("unnamed") or name in header, reason) == (True, ROW_NUMBER)
    assert any(f"numbering or naming the rows: '{name}'" in warning for warning in data.warnings)
    chosen = load("a.csv", features=("noise", name))
    assert sorted(chosen.description.columns) == sorted(["noise", name])


def test_row_numbers_of_train_and_test_files_and_of_clients_are_left_out(load, write_csv):
    def rows(first):
        return [[first + i, f"{drawn.standard_normal():.3f}", i % 2] for i in range(60)]

    for name, first in (("b/train", 0), ("b/test", 60), ("c/ann", 0), ("c/bob", 0)):
        write_csv(f"{name}.csv", ["", "noise", "label"], rows(first))
    for folder in ("b", "c"):
        data = load(folder)
        assert (data.description.columns, excluded(data)) == (
            ["noise"],
            {"unnamed_0": ROW_NUMBER},
        )


def test_a_lone_input_that_rises_is_used_with_a_warning(load):
    data = load([{"x": i, "f": i * i / 7} for i in range(60)], target="f")
    assert data.description.columns == ["x"]
    assert "'x' may number the rows; nothing else is left to learn from" in data.warnings
