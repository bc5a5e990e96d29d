import numpy as np
import pytest

from flow_nexus_neural.data.time_columns import find_time, holds_moments
from flow_nexus_neural.errors import InvalidArguments
from tests.unit.data.column_values import numbers, text

ROWS = 300
START_S = 1_704_067_200
HOURS = START_S + 3_600.0 * np.arange(ROWS)
signal = np.random.Generator(np.random.PCG64(5)).standard_normal(ROWS)


def dates(*, step="h", count=ROWS):
    return [str(np.datetime64("2024-01-01T00", step) + k).replace("T", " ") for k in range(count)]


def found(columns, taken=()):
    warnings = []
    role = find_time(columns, None, taken, warnings)
    return (None if role is None else role.names), role, warnings


@pytest.mark.parametrize("scale", [1, 1e3, 1e6, 1e9], ids=["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "name",
    [
        "unix",
        "open_time",
        "ts",
        "ds",
        "epoch",
        "created_at",
        "date_time",
        "Local time",
        "window_start",
        "t",
        "k",
    ],
)
def test_counts_since_1970_are_the_time_under_any_name_and_in_any_unit(name, scale):
    names, role, warnings = found({"a": signal, name: HOURS * scale})
    assert names == (name,)
    assert role.times.tolist() == (HOURS * scale).tolist()
    [warning] = warnings
    assert warning.startswith(
        f"'{name}' is taken as the time of the rows; name another time_column"
    )


def test_times_that_are_out_of_order_are_known_by_their_name_or_their_distances():
    mixed = np.random.Generator(np.random.PCG64(5)).permutation(HOURS)
    assert holds_moments("k", mixed)
    assert holds_moments("event_time", mixed + np.round(1_000 * signal))
    assert not holds_moments("k", mixed + np.round(1_000 * signal))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("income", np.round(9e8 + 1e8 * signal)),
        ("k", np.arange(ROWS) + 0.0),
        ("week", np.arange(ROWS) % 52.0),
        ("city", text("Oslo", "Rome", *map(str, range(300)))),
        ("due", text(*dates()[:10])),
        ("time", numbers(1, np.nan, 3)),
    ],
)
def test_what_is_no_moment_is_not_taken_for_one(name, column):
    assert not holds_moments(name, column)


@pytest.mark.parametrize("name", ["t", "day", "week", "period"])
def test_steps_that_are_counted_under_a_name_of_time_are_the_time(name):
    steps = np.arange(ROWS) + 1.0
    assert found({name: steps, "a": signal, "b": signal})[0] == (name,)
    assert found({name: steps, "a": signal})[0] is None


@pytest.mark.parametrize(
    "form",
    [
        dates,
        lambda: [value.replace("-", "/") + ":00" for value in dates()],
        lambda: [str(np.datetime64("2000-01", "M") + k) for k in range(ROWS)],
        lambda: [f"{1 + k % 28:02d}.{1 + k // 28:02d}.2024" for k in range(ROWS)],
    ],
    ids=["ISO", "slashes", "months", "dots"],
)
def test_texts_of_dates_are_the_time_under_any_name(form):
    names, role, _ = found({"moment": text(*form()), "a": signal})
    assert names == ("moment",)
    assert (np.diff(role.times) > 0).all()


def test_the_usual_names_come_first_and_without_a_warning():
    names, _, warnings = found({"open_time": HOURS, "Timestamp": HOURS})
    assert (names, warnings) == (("Timestamp", "open_time"), [])


def test_the_beginning_of_a_bar_is_its_time_and_its_end_is_no_input():
    names, role, _ = found({"close_time": HOURS + 3_599, "open_time": HOURS, "a": signal})
    assert names == ("open_time", "close_time")
    assert role.times[0] == HOURS[0]


def test_dates_that_describe_the_subject_of_a_row_are_not_its_time():
    assert found({"birth_date": text(*dates()), "a": signal})[0] is None


def test_a_column_with_another_role_is_not_the_time():
    assert found({"unix": HOURS, "a": signal}, taken=["unix"])[0] is None


DAYS = np.repeat(20240101 + np.arange(10.0), 24)
CLOCK = np.tile(np.arange(24.0), 10)


@pytest.mark.parametrize(
    ("date", "clock", "names"),
    [
        (("Date", DAYS), ("Time", CLOCK * 10_000), ("Date", "Time")),
        (("Date", DAYS), ("Time", CLOCK * 100), ("Date", "Time")),
        (("day", DAYS), ("hour", CLOCK), ("day",)),
        (
            ("DATE", text(*(f"2024.01.{int(day) - 20240100:02d}" for day in DAYS))),
            ("TIME", text(*(f"{int(hour):02d}:00:00" for hour in CLOCK))),
            ("DATE", "TIME"),
        ),
        (
            ("trade_date", text(*(f"{int(day) - 20240100}/1/2024" for day in DAYS), "13/1/2024")),
            ("time", text(*(f"{int(hour):02d}:00" for hour in CLOCK), "00:00")),
            ("trade_date", "time"),
        ),
    ],
    ids=["HHMMSS", "HHMM", "hours", "MetaTrader", "day first"],
)
def test_a_date_and_a_time_apart_are_joined(date, clock, names):
    found_names, role, warnings = found(dict([date, clock]))
    assert found_names == names
    assert (np.diff(role.times[:240]) == 3_600_000).all()
    assert role.times[0] == START_S * 1_000
    assert warnings == [f"'{date[0]}' and '{clock[0]}' are joined into the time of the rows"]


def test_beside_a_date_a_time_that_is_neither_clock_nor_moment_is_not_the_time():
    names, _, _ = found({"Date": text(*dates()), "Time": signal})
    assert names == ("Date",)


def test_years_and_months_in_columns_of_their_own_are_joined_and_stay_features():
    month = np.arange(240)
    columns = {"year": 2000.0 + month // 12, "month": 1.0 + month % 12, "a": signal[:240]}
    names, role, warnings = found(columns)
    assert names == ()
    assert role.times[:2].tolist() == [946_684_800_000, 949_363_200_000]
    assert (np.diff(role.times) > 0).all()
    assert warnings == ["year, month are joined into the time of the rows"]
    assert found({"year": 1900.0 + np.arange(100), "a": signal[:100]})[0] == ("year",)
    assert found({"year": 1990.0 + np.arange(300) % 30, "a": signal})[0] is None


def test_rows_are_in_time_order_whatever_the_order_of_the_file(load, write_csv):
    order = np.random.Generator(np.random.PCG64(7)).permutation(ROWS)
    rows = [[int(HOURS[k]) * 1_000, k / 7, k % 2] for k in order]
    write_csv("a.csv", ["open_time", "a", "label"], rows)
    data = load("a.csv")
    assert data.schema.time_ordered
    assert data.description.columns == ["a"]
    assert (np.diff(data.parts["train"].x[:, 0]) > 0).all()
    assert data.parts["test"].x.min() > data.parts["train"].x.max()
    as_input = load("a.csv", features=("open_time", "a"))
    assert (as_input.schema.time_ordered, as_input.description.columns) == (
        False,
        ["open_time", "a"],
    )


def test_one_column_cannot_be_the_time_and_the_target(load, labelled):
    records = [{**record, "when": index} for index, record in enumerate(labelled)]
    with pytest.raises(InvalidArguments, match="'when' is the time_column and cannot be a target"):
        load(records, target="when", time_column="when")
