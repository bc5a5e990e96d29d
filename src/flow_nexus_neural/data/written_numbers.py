"""Reads numbers in other spellings: with separators, units, decimal commas or typographic signs.

A column is read where its texts can mean one thing only. What cannot be read is told by column, row and cell.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import SYMBOL_NAMES
from flow_nexus_neural.data.table import Column, Decimal, Table, TextColumn, is_missing

FEW_LEVELS = 16
"""So few texts are categories unless all of them are numbers."""
MOSTLY = 0.9
"""The share of numbers from which on a column is one of numbers."""
_PARTLY = 0.5
_TRIED = 200
_MAX_CHARS = 40
_DASHES = "\u2014 \u2013"
_GAPS = frozenset(
    [
        *(
            "--",
            "---",
            ".",
            "..",
            *_DASHES.split(),
            "<na>",
            "#n/a",
            "#na",
            "n.a.",
            "n/d",
            "nat",
            "\\n",
        ),
        *("(null)", "nil", "missing", "#value!", "#div/0!", "#ref!", "#num!", "#null!", "#name?"),
    ]
)
"""What stands for a missing value in a column of numbers, besides what does so everywhere."""
_MINUS = str.maketrans(dict.fromkeys("\u2212\u2013\u2012\ufe63\uff0d", "-"))
_SPACES = " \u00a0\u2007\u2009\u202f'\u2019"
_NO_NUMBER = (math.nan, math.nan, None)
_FACTORS = {"": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "B": 1e9, "bn": 1e9}
_CODES = (
    "USD",
    "EUR",
    "GBP",
    "JPY",
    "CHF",
    "CNY",
    "INR",
    "CAD",
    "AUD",
    "SEK",
    "NOK",
    "DKK",
    "PLN",
    "BRL",
)
_CODE = "|".join(_CODES)
_BRACKETS = re.compile(r"([^\w\s()]?)\s*\((.*)\)\s*([^\w\s()]?)")
_FRAME = re.compile(
    rf"(?P<first>[+-])?\s*(?P<before>{_CODE}|[^\w\s.,()'+-])?\s*(?P<sign>[+-])?\s*(?P<body>\d.*?|[.,]\d.*?)"
    rf"\s?(?P<factor>K|k|M|B|bn)?\s*(?P<after>{_CODE}|[^\w\s.,()'+-])?(?P<late>-)?"
)


def _body(point: str, comma: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?:\d+|[1-9]\d{{0,2}}(?P<mark>[{comma}{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*"
        rf"|[1-9]\d?(?:{comma}\d{{2}})+{comma}\d{{3}})?(?:{point}\d*)?(?:[eE][+-]?\d{{1,3}})?"
    )


_BODIES: dict[Decimal, re.Pattern[str]] = {".": _body(r"\.", ","), ",": _body(",", r"\.")}
_REMOVED: dict[Decimal, dict[int, str | None]] = {
    ".": dict.fromkeys(map(ord, "," + _SPACES)),
    ",": {**dict.fromkeys(map(ord, "." + _SPACES)), ord(","): "."},
}


@dataclass(frozen=True)
class _Readings:
    """What the texts of a column mean.

    Attributes:
        points: [levels] float64 with decimal points, NaN where unreadable.
        commas: [levels] float64 with decimal commas.
        missing: [levels] bool, texts that stand for a missing value.
        weights: [levels] rows of each text.
        units: The units that occur; the empty one among them.
    """

    points: NDArray[np.float64]
    commas: NDArray[np.float64]
    missing: NDArray[np.bool_]
    weights: NDArray[np.int64]
    units: frozenset[str]

    def share(self, values: NDArray[np.float64]) -> float:
        """The share of rows with a value that a reading understands."""
        known = self.weights[~self.missing].sum()
        return float(self.weights[~np.isnan(values)].sum() / known) if known else 0.0


def read_number(text: str, decimal: Decimal | None = None) -> float:
    """The number that a text means, NaN if it is none.

    Args:
        text: One number, perhaps with separators, a unit or a sign of any kind.
        decimal: The mark before decimals; None where it is unknown: then it must not matter.
    """
    point, comma, _ = _read(text)
    if decimal is not None:
        return point if decimal == "." else comma
    if np.isnan(point) or np.isnan(comma):
        return comma if np.isnan(point) else point
    return point if point == comma else np.nan


def with_numbers(table: Table, labels: Collection[str], inputs: Collection[str]) -> Table:
    """Turn text columns of numbers in other spellings into numbers, and remark on what cannot be read.

    Args:
        table: As read from its source.
        labels: Columns that the caller or the source names as target: few texts are their classes.
        inputs: Columns that the caller names as features, which symbols are not.
    """
    texts = {
        name: column
        for name, column in table.columns.items()
        if isinstance(column, TextColumn)
        and (name in inputs or name.lower() not in SYMBOL_NAMES)
        and not (name in labels and len(column.levels) <= FEW_LEVELS)
    }
    readings = {name: _readings(column) for name, column in texts.items()}
    kept = {name: reading for name, reading in readings.items() if reading is not None}
    usual = _usual_decimals(table, kept)
    columns: dict[str, Column] = dict(table.columns)
    decimals: dict[str, Decimal] = {}
    remarks: list[str] = []
    for name, reading in kept.items():
        decimal = _decimal(reading, usual)
        problem = _problem(name, texts[name], reading, decimal)
        if problem is None and decimal is not None:
            values = reading.points if decimal == "." else reading.commas
            odd = np.flatnonzero(np.isnan(values) & ~reading.missing)
            if len(odd) and (name in labels or len(values) <= FEW_LEVELS):
                continue
            if len(odd):
                remarks.append(_odd_cells(name, texts[name], odd))
            columns[name] = np.r_[values, np.nan][texts[name].codes]
            decimals[name] = decimal
        elif problem is not None:
            remarks.append(problem)
    if "," in decimals.values():
        remarks.extend(
            f"'{name}' is read with decimal points, though other columns have decimal commas"
            for name in maybe_grouped(table.columns)
        )
    return replace(table, columns=columns, decimals=decimals, remarks=(*table.remarks, *remarks))


def maybe_grouped(columns: Mapping[str, Column]) -> list[str]:
    """Columns of numbers whose points may stand between thousands, as others have decimal commas."""
    suspects = [
        name
        for name, column in columns.items()
        if not isinstance(column, TextColumn)
        and bool(np.isfinite(column).all())  # thousands with points are finite
        and _has_fractions(column)
        and bool((np.abs(column * 1_000 - np.round(column * 1_000)) < 1e-6).all())
    ]
    texts = [column for column in columns.values() if isinstance(column, TextColumn)]
    return suspects if suspects and any(map(_has_commas, texts)) else []


def _has_commas(column: TextColumn) -> bool:
    reading = _readings(column)
    if reading is None:
        return False
    commas = reading.share(reading.commas)
    return commas >= MOSTLY and commas > reading.share(reading.points)


def odd_cell(column: TextColumn) -> str | None:
    """The first cell that keeps a column from being numbers, with its row; None if it holds few numbers."""
    reading = _readings(column)
    if reading is None:
        return None
    decimal = _decimal(reading, frozenset())
    values = reading.commas if decimal == "," else reading.points
    odd = np.flatnonzero(np.isnan(values) & ~reading.missing)
    return _cell(column, odd[0]) if len(odd) else None


def _readings(column: TextColumn) -> _Readings | None:
    """What a column's texts mean; None if they are hardly ever numbers."""
    levels = column.levels
    tried = [text for text in levels[:_TRIED] if not is_gap(text)]
    if not tried or sum(map(_is_number, tried)) < _PARTLY * len(tried):
        return None
    missing = np.array([is_gap(text) for text in levels])
    found = [_read(text) for text in levels]
    points = np.array([point for point, _, _ in found])
    commas = np.array([comma for _, comma, _ in found])
    points[missing] = commas[missing] = np.nan
    # A zero has no need of its unit.
    units = frozenset(unit for point, comma, unit in found if unit is not None and (point or comma))
    counted = column.codes[column.codes >= 0]
    reading = _Readings(points, commas, missing, np.bincount(counted, minlength=len(levels)), units)
    either = np.where(np.isnan(points), commas, points)
    return reading if reading.share(either) >= _PARTLY else None


def is_gap(text: str) -> bool:
    """Whether a text stands for a missing value in a column of numbers."""
    return text.lower() in _GAPS or is_missing(text)


def _is_number(text: str) -> bool:
    return _read(text)[2] is not None


def _read(text: str) -> tuple[float, float, str | None]:
    """A number with a decimal point and with a decimal comma, NaN if it is none; its unit, None likewise."""
    text = text.strip()
    if not text.isascii():
        text = text.translate(_MINUS)
    if len(text) > _MAX_CHARS or not text:
        return _NO_NUMBER
    brackets = _BRACKETS.fullmatch(text) if "(" in text else None
    if brackets is not None:
        text = "".join(brackets.groups())
    match = _FRAME.fullmatch(text)
    if match is None:
        return _plain(text)
    first, before, sign, body, factor, after, late = match.groups()
    signs = [mark for mark in (first, sign, late) if mark]
    if (before and after) or len(signs) + (brackets is not None) > 1:
        return _NO_NUMBER
    if not (_is_unit(before or "", first=True) and _is_unit(after or "", first=False)):
        return _NO_NUMBER
    scale = _FACTORS[factor or ""] * (-1 if brackets is not None or "-" in signs else 1)
    point, comma = scale * _value(body, "."), scale * _value(body, ",")
    read = point == point or comma == comma  # noqa: PLR0124 - NaN differs from itself
    return point, comma, (before or after or "") if read else None


def _value(body: str, decimal: Decimal) -> float:
    if not _BODIES[decimal].fullmatch(body):
        return math.nan
    try:
        return float(body if body.isdigit() else body.translate(_REMOVED[decimal]))
    except ValueError:
        return math.nan


def _plain(text: str) -> tuple[float, float, str | None]:
    """What every reader takes for a number, such as `inf`, without marks that could mean two things."""
    if "." in text or "," in text:
        return _NO_NUMBER
    try:
        number = float(text)
    except ValueError:
        return _NO_NUMBER
    return number, number, None if math.isnan(number) else ""


def _is_unit(text: str, *, first: bool) -> bool:
    if not text or text in _CODES or unicodedata.category(text) == "Sc":
        return True
    return text == "%" and not first


def _usual_decimals(table: Table, readings: dict[str, _Readings]) -> frozenset[Decimal]:
    """The decimal marks that other columns of the table certainly have."""
    found: set[Decimal] = set()
    for reading in readings.values():
        points, commas = reading.share(reading.points), reading.share(reading.commas)
        if max(points, commas) >= MOSTLY and points != commas:
            found.add("." if points > commas else ",")
    if any(_has_fractions(column) for column in table.columns.values()):
        found.add(".")
    return frozenset(found)


def _has_fractions(column: Column) -> bool:
    if isinstance(column, TextColumn) or column.ndim != 1:
        return False
    finite = column[np.isfinite(column)]
    return bool((finite != np.round(finite)).any())


def _decimal(reading: _Readings, usual: frozenset[Decimal]) -> Decimal | None:
    """The decimal mark of a column; None where a point and a comma are both possible and differ."""
    points, commas = reading.share(reading.points), reading.share(reading.commas)
    if points != commas:
        return "." if points > commas else ","
    if np.array_equal(reading.points, reading.commas, equal_nan=True):
        return "."
    return next(iter(usual)) if len(usual) == 1 else None


def _problem(
    name: str, column: TextColumn, reading: _Readings, decimal: Decimal | None
) -> str | None:
    """Why a column of texts that are numbers for the most part is not read as numbers."""
    if decimal is None:
        level = int(np.flatnonzero(reading.points != reading.commas)[0])
        return (
            f"'{name}' is not read as numbers: {_cell(column, level)} may be"
            f" {reading.points[level]:.15g} or {reading.commas[level]:.15g}; write numbers without separators"
        )
    marks = reading.units - {""}
    if len(marks) > 1 or ("%" in marks and "" in reading.units):
        listed = " and ".join(sorted(unit or "none" for unit in reading.units))
        return f"'{name}' is not read as numbers: it mixes the units {listed}"
    values = reading.points if decimal == "." else reading.commas
    if reading.share(values) >= MOSTLY or len(column.levels) <= FEW_LEVELS:
        return None
    odd = int(np.flatnonzero(np.isnan(values) & ~reading.missing)[0])
    return (
        f"'{name}' is not read as numbers: it also holds other texts, such as {_cell(column, odd)}"
    )


def _odd_cells(name: str, column: TextColumn, odd: Sequence[int] | NDArray[np.int64]) -> str:
    count = int(np.isin(column.codes, odd).sum())
    rest = f" and {count - 1} more cells" if count > 1 else ""
    return f"'{name}' holds numbers; what is none counts as unknown: {_cell(column, odd[0])}{rest}"


def _cell(column: TextColumn, level: int | np.int64) -> str:
    row = int(np.argmax(column.codes == level)) + 1
    return f"'{column.levels[level][:_MAX_CHARS]}' in row {row}"
