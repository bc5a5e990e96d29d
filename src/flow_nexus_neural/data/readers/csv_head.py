"""Looks at the first lines of delimited text: its separator, and the lines that name its columns."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import numpy as np

from flow_nexus_neural.data.column_names import SYMBOL_NAMES, plain
from flow_nexus_neural.data.dates import is_date, time_of_day
from flow_nexus_neural.data.table import Decimal, is_missing
from flow_nexus_neural.data.written_numbers import read_number

HEAD_LINES = 64
HEAD_CHARS = 400_000
HEAD_ROWS = 24
MAX_NAME_LINES = 4
MAX_LINES_ABOVE = 5
MIN_LINES_BELOW = 3
BLANKS = " "
"""As separator: any number of blanks."""
SEPARATORS = ("\t", ";", "|", ",")
_SYMBOL_WORDS = (*SYMBOL_NAMES, "tickers", "symbols", "assets")
_DECIMALS: tuple[Decimal, ...] = (".", ",")

Row = list[str]


class Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __iter__(self) -> Iterator[Row]: ...


@dataclass(frozen=True)
class Head:
    """What the first lines say.

    Attributes:
        names: Names of the columns.
        separator: Between the fields of a line.
        lines: Lines before the first row.
        symbols: [columns] symbol of every column of a table that has one column per quantity and symbol,
            empty where a column holds for all symbols; None for other tables.
        remarks: What the caller should know.
    """

    names: list[str]
    separator: str
    lines: int
    symbols: list[str] | None = None
    remarks: tuple[str, ...] = ()


def first_lines(lines: Iterable[str]) -> list[str]:
    """Enough lines to know a file's layout, with their ends."""
    head: list[str] = []
    size = 0
    for line in lines:
        head.append(line)
        size += len(line)
        if len(head) >= HEAD_LINES or size >= HEAD_CHARS:
            break
    return head


def rows_of_lines(lines: Iterable[str], separator: str) -> "Reader":
    """A reader of the fields of lines, which counts the lines that it has read."""
    if separator == BLANKS:
        return csv.reader((line.strip() for line in lines), delimiter=" ", skipinitialspace=True)
    return csv.reader(lines, delimiter=separator)


def read_head(lines: Sequence[str], separator: str | None) -> Head | None:
    """Find the separator, unless it is given, and the names; None where there is no line with content.

    Raises:
        csv.Error: If the quotes of the first line do not fit.
    """
    start = _first_content(lines)
    if start is None:
        return None
    if (
        separator is None
        and lines[start].lower().startswith("sep=")
        and len(lines[start].strip()) <= 5
    ):
        separator = lines[start].rstrip("\r\n")[4:5] or None
        start += 1
    comments = start
    while comments < len(lines) and lines[comments].startswith("#"):
        comments += 1
    return _read_from(lines, start, comments, separator)


def _read_from(
    lines: Sequence[str], start: int, comments: int, separator: str | None
) -> Head | None:
    """Read names from the last comment, if it has as many fields as the rows, or else from the first row."""
    first = comments if comments < len(lines) else start
    above = 0 if separator else _lines_above(lines[first:])
    separator = separator or _separator(lines[first + above :])
    if above:
        head = _read_from(lines, first + above, first + above, separator)
        shown = lines[first].strip()[:40]
        which = f"line {first + 1}" if above == 1 else f"lines {first + 1} to {first + above}"
        remark = f"left out, being no rows: {which} ('{shown}')"
        return head and replace(head, remarks=(remark, *head.remarks))
    rows, ends = _parsed(lines[first:], separator)
    if not rows:
        return None
    if start < comments < len(lines):
        [named], _ = _parsed([_uncommented(lines[comments - 1], separator)], separator)
        if len(named) == len(rows[0]) and len(named) > 1:
            return Head(_cleaned(named), separator, comments)
    head = _of_rows(rows, separator)
    skipped = 0 if head.lines == 0 else ends[head.lines - 1]
    return Head(head.names, separator, first + skipped, head.symbols, head.remarks)


def _uncommented(line: str, separator: str) -> str:
    text = line.lstrip("#").lstrip(" ")
    return line if text.startswith(separator) else text


def _first_content(lines: Sequence[str]) -> int | None:
    return next((index for index, line in enumerate(lines) if line.strip()), None)


def _parsed(lines: Sequence[str], separator: str) -> tuple[list[Row], list[int]]:
    """Rows that are not empty, and the number of lines after each."""
    reader = rows_of_lines(lines, separator)
    rows: list[Row] = []
    ends: list[int] = []
    try:
        for row in reader:
            if row:
                rows.append(row)
                ends.append(reader.line_num)
    except csv.Error:
        if not rows:
            raise
    return rows, ends


def _separator(lines: Sequence[str]) -> str:
    """The separator that divides all lines into equally many fields, as many as possible."""
    widths = {separator: _width(lines, separator) for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: widths[separator])
    if widths[best] > 1:
        return best
    if "," not in lines[0] and ";" not in lines[0] and _width(lines, BLANKS) > 1:
        return BLANKS
    counts = {separator: lines[0].count(separator) for separator in (",", ";")}
    return ";" if counts[";"] > counts[","] else ","


def _lines_above(lines: Sequence[str]) -> int:
    """Lines above the names that have fewer fields than all others, such as a title or an address."""
    if any(_width(lines, separator) > 1 for separator in (*SEPARATORS, BLANKS)):
        return 0
    for above in range(1, min(MAX_LINES_ABOVE, len(lines) - MIN_LINES_BELOW) + 1):
        rest = lines[above:]
        if rest[0].strip() and any(_width(rest, separator) > 2 for separator in SEPARATORS):
            return above
    return 0


def _width(lines: Sequence[str], separator: str) -> int:
    """Fields per line, 0 where lines differ; the first may lack the name of the first column."""
    try:
        rows, _ = _parsed(lines, separator)
    except csv.Error:
        return 0
    if len(rows) > 2 and len(lines) >= HEAD_LINES:
        rows.pop()  # it may go on after the last line that is here
    widths = {len(row) for row in rows[1:]} or {len(rows[0])} if rows else {0}
    if len(widths) > 1:
        return 0
    width = widths.pop()
    return width if len(rows[0]) in (width, width - 1 if width > 2 else width) else 0


def _of_rows(rows: list[Row], separator: str) -> Head:
    """Names from the first rows; `lines` counts rows here."""
    named = rows[0]
    body = rows[1:HEAD_ROWS]
    width = len(body[0]) if body else len(named)
    body = [row for row in body if len(row) == width]
    if len(named) == width - 1 and width > 1:
        # R leaves the names of its rows without a name; other programs end every row with a separator.
        ending = all(not row[-1].strip() for row in body)
        named = [*named, ""] if ending else ["", *named]
        return Head(_cleaned(named), separator, 1)
    if len(named) != width:
        return Head(_cleaned(named), separator, 1)
    if not _has_names(named, body):
        names = [f"f{index}" for index in range(width)]
        shown = f"{names[0]} to {names[-1]}" if width > 1 else names[0]
        remark = f"the first line holds data and no names: the columns are called {shown}"
        return Head(names, separator, 0, remarks=(remark,))
    levels = _name_lines(named, body)
    if len(levels) == 1:
        return Head(_cleaned(named), separator, 1)
    return _of_levels(levels, separator)


def _cleaned(names: Sequence[str]) -> list[str]:
    """Names without blanks and angle brackets around them, and a name for those that have none."""
    found = [name.strip() for name in names]
    bare = [name[1:-1] if name[:1] == "<" and name[-1:] == ">" else name for name in found]
    return [name or f"unnamed_{index}" for index, name in enumerate(bare)]


def _is_value(cell: str) -> bool:
    """Whether a cell is a number, a date or a time, and hence no name."""
    if any(not np.isnan(read_number(cell, decimal)) for decimal in _DECIMALS):
        return True
    return is_date(cell) or not np.isnan(time_of_day(cell)) or cell.lstrip().startswith("[")


def _has_names(first: Row, body: Sequence[Row]) -> bool:
    """Whether the first row holds names: texts above values, or texts that do not occur below."""
    if not body:
        return not all(map(_is_value, first))
    if _counts_columns(first, body):
        return True
    values_below = texts_above = repeated = known = 0
    for index, cell in enumerate(first):
        below = [row[index].strip() for row in body if index < len(row)]
        below = [other for other in below if not is_missing(other)]
        text = cell.strip()
        if is_missing(text) or not below:
            continue
        known += 1
        if all(map(_is_value, below)):
            values_below += _is_value(text)
            texts_above += not _is_value(text)
        else:
            repeated += text in below
    if texts_above:
        return True
    return not values_below and not (known and repeated == known and len(body) > 1)


def _counts_columns(first: Row, body: Sequence[Row]) -> bool:
    """Whether the numbers of the first row only count, such as 0, 1, 2 or 2019, 2020, unlike those below."""
    numbers = [cell.strip() for cell in first if _is_value(cell)]
    if len(numbers) < 2 or not all(cell.isascii() and cell.isdigit() for cell in numbers):
        return False
    counted = [int(cell[:18]) for cell in numbers]
    if any(later - earlier != 1 for earlier, later in pairwise(counted)):
        return False
    cells = [cell.strip() for cell in first]
    if any([cell.strip() for cell in row] == cells for row in body):
        return False
    whole = len(counted) == len(first)
    return (whole and counted[0] == 0) or any("." in cell for row in body for cell in row)


def _name_lines(first: Row, body: Sequence[Row]) -> list[Row]:
    """The rows that hold names, as pandas writes several levels of them: texts above columns of numbers."""
    levels = [first]
    sample = body[MAX_NAME_LINES:] or body[-1:]
    numeric = [
        index
        for index in range(len(first))
        if all(is_missing(row[index].strip()) or _is_value(row[index]) for row in sample)
        and any(not is_missing(row[index].strip()) for row in sample)
    ]
    for row in body[: MAX_NAME_LINES - 1]:
        cells = [row[index].strip() for index in numeric if index > 0]
        empty = not any(cells)
        names_of_index = empty and len(levels) > 1 and bool(row[0].strip())
        texts = [cell for cell in cells if cell and not is_missing(cell)]
        if not names_of_index and not (texts and not any(map(_is_value, texts))):
            break
        levels.append(row)
        if names_of_index:
            break
    return levels if len(body) > len(levels) else [first]


def _of_levels(levels: list[Row], separator: str) -> Head:
    lines = len(levels)
    name_of_index = None
    if not any(cell.strip() for cell in levels[-1][1:]):
        name_of_index = levels[-1][0]
        levels = levels[:-1]
    of_symbols = next((row for row in levels if plain(row[0]) in _SYMBOL_WORDS), None)
    numbered = f"lines 1 to {lines} hold names"
    if of_symbols is not None and len(levels) == 2:
        [of_fields] = [row for row in levels if row is not of_symbols]
        fields = _cleaned([name_of_index or "", *of_fields[1:]])
        symbols = ["", *(cell.strip() for cell in of_symbols[1:])]
        shown = ", ".join(list(dict.fromkeys(symbols[1:]))[:8])
        remark = f"{numbered}: columns are named by one of them, and one names the symbols {shown}"
        return Head(fields, separator, lines, symbols, (remark,))
    first = levels[0] if name_of_index is None else [name_of_index, *levels[0][1:]]
    bare = [name.strip() for name in first[1:]]
    if all(bare) and len(set(bare)) == len(bare):
        remark = f"{numbered}: those of line 1 are taken"
        return Head(_cleaned(first), separator, lines, remarks=(remark,))
    joined = [" ".join(filter(None, (row[k].strip() for row in levels))) for k in range(len(first))]
    names = _cleaned([first[0], *joined[1:]])
    return Head(names, separator, lines, remarks=(f"{numbered}, which are joined",))


def twice(names: Sequence[str], symbols: Sequence[str] | None) -> Iterator[str]:
    """Names that more than one column has."""
    keys = zip(names, symbols or [""] * len(names), strict=True)
    counts = Counter(keys)
    return (name[:40] for (name, _), count in counts.items() if count > 1)
