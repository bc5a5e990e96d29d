"""Points in time, from numbers and dates."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.dates import DAY_MS, milliseconds_of, time_of_day
from flow_nexus_neural.data.table import Column, TextColumn
from flow_nexus_neural.errors import InvalidDataset

EPOCH_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_FIRST_S, _LAST_S = 6e8, 4.2e9
"""Seconds since 1970 of 1989 and 2103. Times in one unit never look like times in another between these."""
_MOSTLY = 0.9
_FAR = 10.0


def moments(column: Column, name: str, warnings: list[str]) -> NDArray[np.float64]:
    """[rows] float64 points in time: numbers as they are, dates as milliseconds since 1970 (UTC).

    Numbers that count from 1970 in several units are brought to milliseconds, with a warning.

    Raises:
        InvalidDataset: If a value is missing, is no date, or lies far from all others.
    """
    if isinstance(column, TextColumn):
        times = _of_texts(column, name)
    else:
        times = np.asarray(column, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise InvalidDataset(
            f"time column '{name}' has missing or infinite values",
            hint="give every row a time, or remove the column",
        )
    return times if isinstance(column, TextColumn) else _in_one_unit(times, name, warnings)


def epoch_units(times: NDArray[np.float64]) -> NDArray[np.int8]:
    """[n] index into `EPOCH_UNITS` of the unit in which a number counts from 1970, -1 for other numbers."""
    units = np.full(len(times), -1, dtype=np.int8)
    for index in range(len(EPOCH_UNITS)):
        scale = 1_000.0**index
        units[(times >= _FIRST_S * scale) & (times <= _LAST_S * scale)] = index
    return units


def as_milliseconds(times: NDArray[np.float64], *, dated: bool) -> NDArray[np.float64] | None:
    """[n] milliseconds since 1970 of times; None for numbers that count something else.

    Args:
        times: All times of a column.
        dated: Whether they are milliseconds since 1970 already.
    """
    if dated or not len(times):
        return times
    unit = np.unique(epoch_units(times))
    if len(unit) == 1 and unit[0] >= 0:
        found: NDArray[np.float64] = times * 1_000.0 ** (1 - float(unit[0]))
        return found
    days = calendar_days(times)
    return None if np.isnan(days).any() else days


def iso_text(milliseconds: float) -> str:
    """A moment in milliseconds since 1970 as ISO 8601 text in UTC."""
    return f"{np.datetime64(round(milliseconds), 'ms')!s}".removesuffix(".000") + "Z"


def calendar_days(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] milliseconds since 1970 of days written as numbers like 20240131, NaN for other numbers."""
    whole = (numbers == np.round(numbers)) & (numbers >= 19_000_101) & (numbers <= 21_001_231)
    days = np.where(whole, numbers, 19_000_101).astype(np.int64)
    year, month, day = days // 10_000, days // 100 % 100, days % 100
    sound = whole & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = np.where(sound, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    dates = months.astype("datetime64[D]") + np.where(sound, day - 1, 0)
    sound &= dates.astype("datetime64[M]") == months
    found: NDArray[np.float64] = np.where(sound, dates.astype(np.int64) * DAY_MS, np.nan)
    return found


def _of_texts(column: TextColumn, name: str) -> NDArray[np.float64]:
    levels = milliseconds_of(column.levels)
    unread = np.flatnonzero(np.isnan(levels))
    if len(levels) and len(unread) == len(levels):
        clocks = np.array([time_of_day(text) for text in column.levels])
        if not np.isnan(clocks).any() and (np.diff(clocks[column.codes]) >= 0).all():
            levels, unread = clocks, unread[:0]
    if len(unread):
        text = column.levels[unread[0]]
        row = int(np.argmax(column.codes == unread[0])) + 1
        raise InvalidDataset(
            f"time column '{name}' holds '{text[:40]}' in row {row}, which is neither a number nor a date"
            " that can be read in one way only",
            hint="write dates like 2024-01-31T12:00:00Z, or name another time_column",
        )
    return np.where(column.codes < 0, np.nan, np.r_[levels, np.nan][column.codes])


def _in_one_unit(times: NDArray[np.float64], name: str, warnings: list[str]) -> NDArray[np.float64]:
    units = epoch_units(times)
    known = units >= 0
    if known.mean() < _MOSTLY:
        return times
    found = np.unique(units[known])
    scaled = times if len(found) == 1 else times * 1_000.0 ** (1 - units.astype(np.float64))
    if not known.all():
        _require_near(times, scaled, known, name)
        return times
    if len(found) > 1:
        listed = " and ".join(EPOCH_UNITS[index] for index in found)
        warnings.append(f"time column '{name}' mixes {listed}: all are brought to milliseconds")
    return scaled


def _require_near(
    times: NDArray[np.float64],
    scaled: NDArray[np.float64],
    known: NDArray[np.bool_],
    name: str,
) -> None:
    """Refuse numbers that lie far from the others, which count from 1970, such as a 0 for an unknown time."""
    low, high = scaled[known].min(), scaled[known].max()
    others = times[~known]
    far = np.maximum(low - others, others - high) > _FAR * (high - low)
    if far.any() or scaled is not times:
        row = int(np.flatnonzero(~known)[np.argmax(far)])
        raise InvalidDataset(
            f"time column '{name}' holds {times[row]:.15g} in row {row + 1}, which is no time like the"
            " others",
            hint="give all times in one unit since 1970, or remove these rows",
        )
