"""Builds the columns of a table from blocks of raw values, counting what they take before it is taken."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import SYMBOL_NAMES
from flow_nexus_neural.data.memory import GrowingArray, Limits, MemoryBudget
from flow_nexus_neural.data.table import (
    MAX_COLUMNS,
    MAX_VECTOR,
    PIECE,
    ROLE_COLUMNS,
    Column,
    Numbers,
    TextColumn,
    check_rows,
    check_size,
    has_words,
    is_missing,
    numbers_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

RawBlock = Mapping[str, Sequence[object] | Numbers]
"""Raw values of some rows by column; what is an array of numbers already is taken as it is."""
BLOCK_RECORDS = 5_000
BLOCK_CELLS = 500_000
BLOCK_CHARS = 2_000_000
MAX_KEPT_LEVELS = 100_000
_NUMBER_LIKE = re.compile(r"[^\w]{0,3}\d")
_TIME_WORDS = re.compile(
    r"time|date|stamp|epoch|unix|(^|_)(ts|ns|us)$|^window_(start|end)$", re.IGNORECASE
)
"""Names of columns of nanoseconds, which are numbers although float64 rounds the last digits."""


def may_be_time(name: str) -> bool:
    """Whether the name of a column of large whole numbers says that they are times."""
    return _TIME_WORDS.search(name) is not None


class ColumnBuilder:
    """Builds one column block by block; the first block decides whether it holds numbers or text.

    Where text follows numbers, `conflict` is set: the original spelling of the numbers is gone, so the caller
    must read the source again with `text=True`.
    """

    def __init__(self, name: str, budget: MemoryBudget, *, text: bool = False) -> None:
        self.name = name
        self.conflict = False
        self._words = False
        self._text = text
        self._exact = not may_be_time(name)
        self._budget = budget
        self._numbers = GrowingArray(budget)
        self._all_missing = True
        self._codes: list[NDArray[np.int32]] = []
        self._levels: dict[str, int] = {}

    def add(self, values: Sequence[object] | Numbers, subject: str) -> None:
        """Append a block.

        Raises:
            InvalidDataset: If lists of different lengths, or objects, occur.
            LimitExceeded: If lists are too long, or the memory for the table is exhausted.
        """
        if self.conflict:
            return
        if isinstance(values, np.ndarray):
            self._text = False
            self._append(values, subject)
            return
        first = next((value for value in values if value is not None), None)
        if first is None and self._numbers.row_shape:
            self._append_missing(len(values), self._numbers.row_shape, subject)
            return
        if isinstance(first, dict):
            raise InvalidDataset(
                f"{subject}: column '{self.name}' holds objects",
                hint="columns hold numbers, texts, booleans or lists of numbers",
            )
        if isinstance(first, list):
            for block in _vectors(self.name, values, subject):
                self._append(block, subject)
            return
        numbers = None if self._text else numbers_from(values, exact=self._exact)
        if numbers is not None:
            self._append(numbers, subject)
            self._words = self._words or (self._all_missing and has_words(values))
        elif self._numbers.rows:
            self.conflict = True
            self._numbers.clear()
        else:
            self._text = True
            self._codes.append(self._encode(values))

    @property
    def is_to_be_text(self) -> bool:
        """Whether the source must be read again as text: for its spelling, or as it holds only `none`s."""
        return self.conflict or (self._words and self._all_missing)

    @property
    def _is_full(self) -> bool:
        """Whether further texts are not worth keeping: so many can only be read as times or numbers."""
        levels = self._levels
        if len(levels) < MAX_KEPT_LEVELS:
            return False
        return not _NUMBER_LIKE.match(next(level for level in levels if not is_missing(level)))

    def _append(self, block: Numbers, subject: str) -> None:
        known = self._numbers.row_shape
        if known == () and block.ndim > 1 and self._all_missing:
            # What was missing so far turns out to be vectors.
            rows = self._numbers.rows
            self._numbers.clear()
            self._append_missing(rows, block.shape[1:], subject)
        elif known is not None and known != block.shape[1:]:
            raise InvalidDataset(
                f"{subject}: column '{self.name}' holds lists of different lengths",
                hint="give every row a list of the same length",
            )
        self._all_missing = self._all_missing and bool(np.isnan(block).all())
        self._numbers.append(block)

    def _append_missing(self, rows: int, row_shape: tuple[int, ...], subject: str) -> None:
        """Append rows of a vector column that have none."""
        step = max(1, PIECE // row_shape[0])
        for start in range(0, rows, step):
            self._append(np.full((min(step, rows - start), *row_shape), np.nan), subject)

    def _encode(self, values: Sequence[object]) -> NDArray[np.int32]:
        codes = np.empty(len(values), dtype=np.int32)
        self._budget.take(codes.nbytes)
        levels = self._levels
        full = self._is_full
        for row, value in enumerate(values):
            text = "" if value is None else str(value).strip()
            code = levels.get(text, -1)
            if code < 0 and text and not full:
                self._budget.take_text(text)
                code = levels[text] = len(levels)
                full = code + 1 >= MAX_KEPT_LEVELS and self._is_full
            codes[row] = code
        return codes

    def column(self) -> Column:
        """The finished column."""
        if self._text:
            return TextColumn(np.concatenate(self._codes), tuple(self._levels))
        return self._numbers.finished()


def _vectors(name: str, values: Sequence[object], subject: str) -> Iterator[Numbers]:
    """Equally long lists of numbers as blocks [rows, length], made piece by piece."""
    lengths = {
        len(value) if isinstance(value, list) else -1 for value in values if value is not None
    }
    length = lengths.pop()
    if lengths or length < 1:
        raise InvalidDataset(
            f"{subject}: column '{name}' holds lists of different lengths",
            hint="give every row a list of the same length",
        )
    if length > MAX_VECTOR:
        raise LimitExceeded(
            f"{subject}: column '{name}' holds lists of {length} values; the limit is {MAX_VECTOR}",
            hint="shorten the lists",
        )
    missing = [None] * length
    step = max(1, PIECE // length)
    for start in range(0, len(values), step):
        filled = [missing if value is None else value for value in values[start : start + step]]
        try:
            vectors = np.asarray(filled, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            vectors = np.empty(0)
        if vectors.ndim != 2:
            raise InvalidDataset(
                f"{subject}: column '{name}' holds lists with something else than numbers",
                hint="a list column holds equally long lists of numbers; null is a missing value",
            )
        yield vectors


def columns_from_blocks(
    open_blocks: Callable[[], Iterable[RawBlock]],
    subject: str,
    limits: Limits,
    texts: Iterable[str] = (),
) -> dict[str, Column]:
    """Build columns from a source that can be read twice, holding one block of raw values at a time.

    Args:
        open_blocks: Starts reading. A column that first occurs in a later block is missing in earlier rows.
        subject: Names the source in errors.
        limits: What the columns may have together.
        texts: Columns of which the spelling is wanted, even if it is that of numbers.

    Raises:
        InvalidDataset: If the data do not form columns.
        LimitExceeded: If there are more rows than allowed, or the columns would take too much memory.
    """
    forced = frozenset(texts)
    for _ in range(2):
        builders = _read_once(open_blocks(), forced, subject, limits)
        conflicts = {name for name, builder in builders.items() if builder.is_to_be_text}
        if not conflicts:
            return {name: builder.column() for name, builder in builders.items()}
        forced |= conflicts
        builders.clear()  # before the next pass fills its own
    raise InvalidDataset(f"{subject} changed while it was read", hint="call again")


def _read_once(
    blocks: Iterable[RawBlock], forced: frozenset[str], subject: str, limits: Limits
) -> dict[str, ColumnBuilder]:
    builders: dict[str, ColumnBuilder] = {}
    budget = MemoryBudget(subject, limits.table_bytes)
    rows = 0
    for block in blocks:
        height = len(next(iter(block.values()))) if block else 0
        check_rows(rows + height, limits.max_rows, subject)
        for name in block:
            if name not in builders:
                if len(builders) >= MAX_COLUMNS + ROLE_COLUMNS:
                    check_size(1, MAX_COLUMNS + 1, subject)
                # Symbols keep every digit of theirs, which numbers do not.
                is_text = name in forced or name.lower() in SYMBOL_NAMES
                builders[name] = ColumnBuilder(name, budget, text=is_text)
                if rows:
                    builders[name].add([None] * rows, subject)
        for name, builder in builders.items():
            builder.add(block.get(name, [None] * height), subject)
        rows += height
    return builders


def blocks_of_records(
    records: Iterable[tuple[Mapping[str, object], int]],
) -> Iterator[RawBlock]:
    """Turn records into blocks of columns; where a record lacks a key, the value is missing.

    Args:
        records: Each with the length of its text, so that a block holds a bounded amount of it.
    """
    pending: list[Mapping[str, object]] = []
    names: dict[str, None] = {}
    chars = 0
    for record, size in records:
        pending.append(record)
        names.update(dict.fromkeys(record))
        chars += size
        cells = len(pending) * len(names)
        if len(pending) >= BLOCK_RECORDS or cells >= BLOCK_CELLS or chars >= BLOCK_CHARS:
            yield _columns_of(pending, names)
            pending, names, chars = [], {}, 0
    if pending:
        yield _columns_of(pending, names)


def _columns_of(records: Sequence[Mapping[str, object]], names: Iterable[str]) -> RawBlock:
    return {name: [record.get(name) for record in records] for name in names}
