"""Finds the columns that say when a row was, by name and by what they hold."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import TIME_NAMES, first_named, plain, time_like
from flow_nexus_neural.data.dates import DAY_MS, is_date, milliseconds_of, time_of_day
from flow_nexus_neural.data.moments import calendar_days, epoch_units, moments
from flow_nexus_neural.data.table import Column, Numbers, TextColumn

FEW_VALUES = 16
_TRIED = 50
_OF_THE_SUBJECT = re.compile(
    r"birth|dob|expir|matur|due|hire|join|sign_?up|registration|registered", re.IGNORECASE
)
"""Dates that describe what a row is about, not when it was."""
_LATER = re.compile(r"end|close|closing|until|finish|update|modif|exit", re.IGNORECASE)
_TIME_PARTS = ("time", "timeofday", "tradetime", "timeutc", "hhmmss", "hhmm", "hour", "hr")
_HOURS = ("hour", "hr")


@dataclass(frozen=True)
class TimeRole:
    """When the rows were.

    Attributes:
        names: Columns of moments, which are no features.
        times: [rows] float64 moments.
        dated: Whether they are milliseconds since 1970 (UTC).
    """

    names: tuple[str, ...]
    times: NDArray[np.float64]
    dated: bool = False


def find_time(
    columns: Mapping[str, Column], named: str | None, taken: Iterable[str], warnings: list[str]
) -> TimeRole | None:
    """Find the time of the rows.

    Args:
        columns: All columns.
        named: The time column that the caller named.
        taken: Columns that the caller gave another role.
        warnings: Says what was taken as time under an unusual name.

    Raises:
        InvalidDataset: If the time column has values that are no times.
    """
    others = {name: column for name, column in columns.items() if name not in set(taken)}
    if named is not None:
        return _of_column(columns, named, others, warnings)
    whole = first_named(others, ("timestamp", "datetime"))
    if whole is None:
        joined = _date_and_time(others, warnings)
        if joined is not None:
            return joined
    name = _usual_name(others) or _by_values(others, warnings, beside_one=len(columns) <= 2)
    if name is None:
        return _years_and_months(others, warnings)
    return _of_column(others, name, others, warnings)


def _of_column(
    columns: Mapping[str, Column], name: str, others: Mapping[str, Column], warnings: list[str]
) -> TimeRole:
    times = moments(columns[name], name, warnings)
    # Texts are dates or times of one day, which are all below the second day of 1970.
    dated = isinstance(columns[name], TextColumn) and bool((np.abs(times) >= DAY_MS).any())
    return TimeRole((name, *_further(others, name)), times, dated)


def holds_moments(name: str, column: Column) -> bool:
    """Whether every value of a column is a point in time, and not just by accident."""
    if isinstance(column, TextColumn):
        few = 1 if time_like(name) else FEW_VALUES
        if len(column.levels) <= few or (column.codes < 0).any():
            return False
        tried = all(map(is_date, column.levels[:_TRIED]))
        return tried and not np.isnan(milliseconds_of(column.levels)).any()
    if column.ndim != 1 or not len(column) or not np.isfinite(column).all():
        return False
    values = np.asarray(column, dtype=np.float64)
    # Most columns are told by their first value.
    counted = all(bool((epoch_units(part) >= 0).all()) for part in (values[:1], values))
    written = counted or all(not np.isnan(calendar_days(v)).any() for v in (values[:1], values))
    if time_like(name):
        return written or _counts_up(values)
    return written and _is_regular(values)


def _counts_up(values: NDArray[np.float64]) -> bool:
    """Whether whole numbers rise in every row, as steps and days are counted."""
    whole = bool((values == np.round(values)).all())
    return whole and len(values) > FEW_VALUES and bool((np.diff(values) > 0).all())


def _is_regular(values: NDArray[np.float64]) -> bool:
    """Whether many numbers only rise along the rows, or lie at equal distances."""
    distances = np.diff(np.unique(values))
    if len(distances) <= FEW_VALUES:
        return False
    counts = np.unique(distances, return_counts=True)[1]
    return bool((np.diff(values) >= 0).all() or 2 * counts.max() >= len(distances))


def _usual_name(columns: Mapping[str, Column]) -> str | None:
    name = first_named(columns, TIME_NAMES)
    date = first_named(columns, ("date",))
    if name is not None and date is not None and name.lower() == "time":
        return name if holds_moments(name, columns[name]) else date
    return name


def _by_values(
    columns: Mapping[str, Column], warnings: list[str], *, beside_one: bool
) -> str | None:
    # Beside a single other column, a count such as `t` may be all that there is to learn from.
    found = [
        name
        for name, column in columns.items()
        if not _OF_THE_SUBJECT.search(name) and holds_moments("" if beside_one else name, column)
    ]
    if not found:
        return None
    name = min(found, key=lambda name: (bool(_LATER.search(name)), not time_like(name)))
    warnings.append(
        f"'{name}' is taken as the time of the rows; name another time_column, or name it in features to use"
        " it as an input"
    )
    return name


def _further(columns: Mapping[str, Column], name: str) -> list[str]:
    """Other columns of moments, which are no features either; a second time only says when again."""
    return [
        other
        for other, column in columns.items()
        if other != name
        and (other.lower() in TIME_NAMES or not _OF_THE_SUBJECT.search(other))
        and (other.lower() not in TIME_NAMES or not isinstance(column, TextColumn))
        and holds_moments(other, column)
    ]


def _date_and_time(columns: Mapping[str, Column], warnings: list[str]) -> TimeRole | None:
    """Join a column of days and one of times of day."""
    dates = [name for name in columns if _is_date_name(name)]
    clocks = [name for name in columns if plain(name) in _TIME_PARTS]
    for clock in sorted(clocks, key=lambda name: _TIME_PARTS.index(plain(name))):
        of_day = _times_of_day(columns[clock])
        if of_day is None:
            continue
        for date in dates:
            days = _days(columns[date])
            if days is None:
                continue
            warnings.append(f"'{date}' and '{clock}' are joined into the time of the rows")
            # The hour of the day may well be something to learn from.
            names = (date,) if plain(clock) in _HOURS else (date, clock)
            return TimeRole((*names, *_further(columns, date)), days + of_day, dated=True)
    return None


def _is_date_name(name: str) -> bool:
    word = plain(name)
    return word in ("day", "dteday", "dt", "yyyymmdd") or ("date" in word and "time" not in word)


def _days(column: Column) -> NDArray[np.float64] | None:
    """[rows] milliseconds of the days of a column; None if it holds anything else, or times within days."""
    if isinstance(column, TextColumn):
        if not column.levels or (column.codes < 0).any():
            return None
        days = milliseconds_of(column.levels)
        return None if np.isnan(days).any() or (days % DAY_MS).any() else days[column.codes]
    if column.ndim != 1 or not len(column):
        return None
    days = calendar_days(np.asarray(column, dtype=np.float64))
    return None if np.isnan(days).any() else days


def _times_of_day(column: Column) -> NDArray[np.float64] | None:
    """[rows] milliseconds since midnight; None if a column holds anything else."""
    if isinstance(column, TextColumn):
        if not column.levels or (column.codes < 0).any():
            return None
        times = np.array([time_of_day(text) for text in column.levels])
        return None if np.isnan(times).any() else times[column.codes]
    if column.ndim != 1 or not len(column) or not np.isfinite(column).all():
        return None
    return _clock_numbers(column)


def _clock_numbers(column: Numbers) -> NDArray[np.float64] | None:
    """Milliseconds since midnight of numbers such as 9 (hours), 930 or 93000; of others as seconds."""
    values = np.asarray(column, dtype=np.float64)
    if (values < 0).any() or (values != np.round(values)).any():
        return None
    if values.max() <= 24:
        return values * 3_600_000
    for hour, minute in ((100, 1), (10_000, 100)):
        hours, minutes, seconds = values // hour, values % hour // minute, values % minute
        if (hours <= 24).all() and (minutes < 60).all() and (seconds < 60).all():
            return 1_000 * (3_600 * hours + 60 * minutes + seconds)
    return values * 1_000 if values.max() < DAY_MS / 1_000 else None


def _years_and_months(columns: Mapping[str, Column], warnings: list[str]) -> TimeRole | None:
    """Join year, month, day and hour in columns of their own; they remain features."""
    found = {part: first_named(columns, (part,)) for part in ("year", "month", "day", "hour")}
    parts = {part: columns[name] for part, name in found.items() if name is not None}
    if any(isinstance(column, TextColumn) or column.ndim != 1 for column in parts.values()):
        return None
    numbers = {part: np.asarray(column, dtype=np.float64) for part, column in parts.items()}
    if "year" not in numbers or not _within(numbers["year"], 1_000, 2_999):
        return None
    if not ("month" in numbers and _within(numbers["month"], 1, 12)):
        year = numbers["year"]
        annual = len(np.unique(year)) > FEW_VALUES and bool((np.diff(year) >= 0).all())
        return TimeRole((str(found["year"]),), year) if annual else None
    months = (numbers["year"] - 1970) * 12 + numbers["month"] - 1
    times = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.float64)
    joined = ["year", "month"]
    for part, low, high, unit in (("day", 1, 31, 1.0), ("hour", 0, 24, 1 / 24)):
        if part in numbers and _within(numbers[part], low, high):
            times = times + (numbers[part] - low) * unit
            joined.append(part)
    warnings.append(f"{', '.join(joined)} are joined into the time of the rows")
    return TimeRole((), times * DAY_MS, dated=True)


def _within(values: NDArray[np.float64], low: float, high: float) -> bool:
    return bool(
        np.isfinite(values).all()
        and (values == np.round(values)).all()
        and (values >= low).all()
        and (values <= high).all()
    )
