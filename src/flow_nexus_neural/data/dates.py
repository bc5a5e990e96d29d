"""Reads dates and times of day as people and exchanges write them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

_MONTHS = {
    name: index + 1
    for index, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
    )
}
_WEEKDAY = re.compile(r"^(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+", re.IGNORECASE)
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?!\d)",
        r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?!\d)",
        r"(?P<y>\d{4})[-/.m](?P<m>\d{1,2})(?![-/.\d])",
        r"(?P<y>\d{4})[- ]?q(?P<q>[1-4])(?!\d)",
        r"q(?P<q>[1-4])[- ]?(?P<y>\d{4})(?!\d)",
        r"(?P<d>\d{1,2})[-/. ](?P<mon>[a-z]{3,9})\.?[-/., ]+(?P<y>\d{4}|\d{2})(?!\d)",
        r"(?P<mon>[a-z]{3,9})\.? (?P<d>\d{1,2}),? (?P<y>\d{4})(?!\d)",
        r"(?P<mon>[a-z]{3,9})[- ](?P<y>\d{4})(?!\d)",
        r"(?P<a>\d{1,2})(?P<mark>[-/.])(?P<b>\d{1,2})(?P=mark)(?P<y>\d{4}|\d{2})(?!\d)",
    )
)
_CLOCK = re.compile(
    r"(?P<h>\d{1,2}):(?P<min>\d{2})(?::(?P<s>\d{2})(?:[.,:](?P<f>\d{1,9}))?)?\s*(?P<half>[ap]\.?m\.?)?",
    re.IGNORECASE,
)
_SHORT_CLOCK = re.compile(
    r"(?P<h>\d{2})(?P<min>\d{2})(?P<s>\d{2})?(?P<f>)(?P<half>)"
    r"|(?P<h2>\d{1,2})-?(?P<half2>[ap]m)",
    re.IGNORECASE,
)
_ZONE = re.compile(
    r"\s*(?:z|utc|gmt)?\s*(?P<sign>[+-])?(?P<zh>\d{2})?:?(?P<zm>\d{2})?$", re.IGNORECASE
)
DAY_MS = 86_400_000.0


def milliseconds_of(texts: Sequence[str]) -> NDArray[np.float64]:
    """[n] float64 milliseconds since 1970 (UTC where no zone is given), NaN for what is no date.

    Dates of two numbers before the year are read by the one order, day or month first, in which all of them
    are dates; where both are, by the one in which they rise. Where that does not decide, none is read.
    """
    day_first = [_read(text, day_first=True) for text in texts]
    # ISO dates, which are the most, begin with four digits.
    if not any(_in_two_orders(text) for text in texts if not text[:4].isdigit()):
        return np.array(day_first, dtype=np.float64)
    found = [
        np.array(times, dtype=np.float64)
        for times in (day_first, [_read(text, day_first=False) for text in texts])
    ]
    unread = [int(np.isnan(times).sum()) for times in found]
    if unread[0] != unread[1]:
        return found[int(unread[1] < unread[0])]
    if (found[0] == found[1]).all():
        return found[0]
    rising = [bool((np.diff(times) >= 0).all()) for times in found]
    if rising[0] != rising[1]:
        return found[int(rising[1])]
    return np.full(len(texts), np.nan)


def is_date(text: str) -> bool:
    """Whether a text alone is a date, in whatever order."""
    return not np.isnan(_read(text, day_first=True)) or not np.isnan(_read(text, day_first=False))


def time_of_day(text: str) -> float:
    """Milliseconds since midnight of a time such as 13:05 or 1:05:30 PM; NaN for anything else."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return np.nan
    return _clock_ms(match["h"], match["min"], match["s"], match["f"], match["half"])


def _in_two_orders(text: str) -> bool:
    match = _DATES[-1].match(_WEEKDAY.sub("", text.strip()))
    return match is not None and match["mark"] != "."


def _read(text: str, *, day_first: bool) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _read_freely(text, day_first=day_first)
    return _since_1970(moment)


def _since_1970(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() * 1_000


def _read_freely(text: str, *, day_first: bool) -> float:
    text = _WEEKDAY.sub("", text.strip())
    match = next(filter(None, (pattern.match(text) for pattern in _DATES)), None)
    if match is None:
        return np.nan
    rest = text[match.end() :].lstrip("Tt ,;")
    clock_ms, rest = _leading_clock(rest)
    zone = _ZONE.fullmatch(rest)
    if zone is None or (rest.strip() and np.isnan(clock_ms)):
        return np.nan
    offset = timedelta()
    if zone["sign"]:
        minutes = 60 * int(zone["zh"] or 0) + int(zone["zm"] or 0)
        offset = timedelta(minutes=minutes if zone["sign"] == "+" else -minutes)
    try:
        day = _day(match.groupdict(), day_first=day_first).replace(tzinfo=timezone(offset))
    except (ValueError, KeyError):
        return np.nan
    return day.timestamp() * 1_000 + (0.0 if np.isnan(clock_ms) else clock_ms)


def _leading_clock(text: str) -> tuple[float, str]:
    """Milliseconds since midnight of the time with which a text begins, NaN without one, and what follows."""
    match = _CLOCK.match(text)
    if match is not None:
        ms = _clock_ms(match["h"], match["min"], match["s"], match["f"], match["half"])
        return ms, text[match.end() :]
    match = _SHORT_CLOCK.match(text)
    if match is None:
        return np.nan, text
    hour, half = match["h"] or match["h2"], match["half"] or match["half2"]
    return _clock_ms(hour, match["min"] or "0", match["s"], None, half), text[match.end() :]


def _clock_ms(
    hour: str, minute: str, second: str | None, fraction: str | None, half: str | None
) -> float:
    hours = int(hour)
    if half:
        if not 1 <= hours <= 12:
            return np.nan
        hours = hours % 12 + (12 if half.lower().startswith("p") else 0)
    if hours > 24 or int(minute) > 59 or int(second or 0) > 60:
        return np.nan
    parts = 3_600 * hours + 60 * int(minute) + int(second or 0)
    return 1_000.0 * parts + (1_000 * int(fraction) / 10 ** len(fraction) if fraction else 0.0)


def _day(parts: dict[str, str | None], *, day_first: bool) -> datetime:
    year = int(parts["y"] or 0)
    if len(parts["y"] or "") == 2:
        year += 2_000 if year < 70 else 1_900
    if parts.get("q"):
        return datetime(year, 3 * int(parts["q"] or 1) - 2, 1)  # noqa: DTZ001 - the caller sets the zone
    month, day = parts.get("m"), parts.get("d")
    if parts.get("a"):
        first, second = parts["a"], parts["b"]
        # With dots the day comes first everywhere.
        day, month = (first, second) if day_first or parts["mark"] == "." else (second, first)
    number = _MONTHS[(parts["mon"] or "")[:3].lower()] if parts.get("mon") else int(month or 1)
    return datetime(year, number, int(day or 1))  # noqa: DTZ001 - the caller sets the zone
