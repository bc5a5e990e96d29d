"""What the names of columns say: which words mean a time, a symbol, a price or an outcome."""

import re
from collections.abc import Iterable, Sequence

TIME_NAMES = ("timestamp", "time", "date", "datetime")
_FURTHER_TIMES = frozenset(
    {
        "asof",
        "bar",
        "begin",
        "day",
        "ds",
        "dt",
        "epoch",
        "gmt",
        "month",
        "period",
        "quarter",
        "start",
        "t",
        "tradingday",
        "ts",
        "unix",
        "utc",
        "week",
        "windowstart",
        "windowend",
        "timeperiodstart",
        "timeperiodend",
        "yearmonth",
        "yyyymm",
        "yyyymmdd",
    }
)
_TIME_ENDING = re.compile(
    r"(?i:(^|[ ._-])(time|timestamp|date|datetime|ts|epoch|unix|at)([ ._-]?(s|ms|us|ns|utc|gmt))?$)"
    r"|(?i:^(date|time|datetime|timestamp|unix|epoch)[ ._-])"
    r"|[a-z](Time|Date|Timestamp|At)$"
)
SYMBOL_NAMES = ("symbol", "ticker", "asset")
PRICE_NAMES = ("price", "close")
VOLUME_NAMES = ("volume", "vol")
TARGET_NAMES = ("target", "label", "y", "class", "direction", "outcome", "labels", "targets")
LABEL_LIKE = frozenset(
    {
        "trend",
        "label",
        "labels",
        "target",
        "targets",
        "y",
        "class",
        "outcome",
        "expectedoutcome",
        "expected_outcome",
        "direction",
    }
)
LABEL_LIKE_PREFIXES = ("future_", "next_")


def label_like(name: str) -> bool:
    """Whether a column's name says that it is an outcome, which is not known when predicting."""
    lowered = name.lower()
    return lowered in LABEL_LIKE or lowered.startswith(LABEL_LIKE_PREFIXES)


def are_coordinates(names: Iterable[str]) -> bool:
    """Whether x, y and z stand beside each other, so that y is no outcome."""
    return {"x", "y", "z"} <= {name.lower() for name in names}


def outcomes_among(names: Iterable[str]) -> list[str]:
    """The names that say that they are outcomes, seen beside each other."""
    listed = list(names)
    x_y_z = are_coordinates(listed)
    return [name for name in listed if label_like(name) and not (x_y_z and name.lower() == "y")]


def plain(name: str) -> str:
    """A name in lower case, with letters and digits only."""
    return "".join(mark for mark in name.lower() if mark.isalnum())


def time_like(name: str) -> bool:
    """Whether a column's name says that it may hold times; its values must agree."""
    word = plain(name)
    return (
        word in TIME_NAMES
        or word in _FURTHER_TIMES
        or word.endswith(("time", "timestamp"))
        or _TIME_ENDING.search(name) is not None
    )


def first_named(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted names that occurs, in its own spelling."""
    lowered: dict[str, str] = {}
    for name in names:
        lowered.setdefault(name.lower(), name)
    return next((lowered[name] for name in wanted if name in lowered), None)
