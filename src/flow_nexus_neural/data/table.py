"""The table in memory that every reader returns: named columns of equal length."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from flow_nexus_neural.vocabulary import MIN_ROWS

MAX_COLUMNS = 4_096
ROLE_COLUMNS = 3  # target, time and symbol are not among the features that are counted
MAX_CELLS = 64 * 1024 * 1024
MAX_VECTOR = 4_096
MAX_COLUMN_NAME = 200
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})

Numbers = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]
RawBlock = Mapping[str, Sequence[object]]


@dataclass(frozen=True)
class TextColumn:
    """A text column, stored as indices into its distinct texts.

    Attributes:
        codes: [rows] int32 index into `levels`, -1 where missing.
        levels: The distinct texts in order of first appearance.
    """

    codes: NDArray[np.int32]
    levels: tuple[str, ...]


Column = Numbers | TextColumn
"""Numbers are [rows] (scalar) or [rows, steps] (vector, or channel of a sequence); NaN is missing."""


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and how the source divides the rows by client and into train and test.

    Attributes:
        columns: Column by name, in the source's order.
        rows: Number of rows.
        clients: Names of clients when the source is divided by client, sorted.
        client_of: [rows] int32 index into `clients`; None without clients.
        in_test: [rows] bool, rows that the source reserves for testing; None when it does not say.
        channels: Every [rows, steps] column is one channel of a sequence, not a vector of its own.
    """

    columns: dict[str, Column]
    rows: int
    clients: tuple[str, ...] = ()
    client_of: NDArray[np.int32] | None = None
    in_test: NDArray[np.bool_] | None = None
    channels: bool = False


def rows_of(column: Column) -> int:
    """Number of rows of a column."""
    return len(column.codes) if isinstance(column, TextColumn) else len(column)


def table_from(columns: dict[str, Column], subject: str, *, channels: bool = False) -> Table:
    """Check that columns form a table.

    Args:
        columns: Columns by name.
        subject: Names the source in errors.
        channels: See `Table.channels`.

    Raises:
        InvalidDataset: If there are no columns or rows, lengths differ, or a name cannot be shown.
        LimitExceeded: If there are too many columns or cells.
    """
    lengths = {name: rows_of(column) for name, column in columns.items()}
    if not lengths or not max(lengths.values()):
        raise InvalidDataset(
            f"{subject} has no rows", hint=f"give at least {MIN_ROWS} rows of data"
        )
    rows = next(iter(lengths.values()))
    odd = next((name for name, length in lengths.items() if length != rows), None)
    if odd is not None:
        raise InvalidDataset(
            f"{subject}: column '{odd}' has {lengths[odd]} rows, '{next(iter(lengths))}' has {rows}",
            hint="every column needs one value per row",
        )
    _check_texts(columns, subject)
    width = sum(width_of(column) for column in columns.values())
    check_size(rows, max(1, width - ROLE_COLUMNS), subject)
    return Table(columns, rows, channels=channels)


def is_plain_text(text: str) -> bool:
    """Whether a text can be written as UTF-8; JSON text may contain lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_texts(columns: dict[str, Column], subject: str) -> None:
    for name, column in columns.items():
        if not 0 < len(name) <= MAX_COLUMN_NAME or not is_plain_text(name):
            raise InvalidDataset(
                f"{subject} has a column with an empty, overlong or broken name",
                hint=f"name columns with 1 to {MAX_COLUMN_NAME} characters",
            )
        levels = column.levels if isinstance(column, TextColumn) else ()
        if not is_plain_text("".join(levels)):
            raise InvalidDataset(
                f"{subject}: column '{name}' holds text that is no valid Unicode",
                hint="remove lone surrogates",
            )


def width_of(column: Column) -> int:
    """Numbers per row of a column; text counts as one."""
    return 1 if isinstance(column, TextColumn) else int(np.prod(column.shape[1:], dtype=np.int64))


def check_size(rows: int, width: int, subject: str) -> None:
    """Refuse a table that is too wide or has too many cells.

    Raises:
        LimitExceeded: If it has more than 4,096 columns or 64 Mi cells.
    """
    if width > MAX_COLUMNS:
        raise LimitExceeded(
            f"{subject} has {width} columns after expansion; the limit is {MAX_COLUMNS}",
            hint="name the columns to use in features",
        )
    if rows * width > MAX_CELLS:
        raise LimitExceeded(
            f"{subject} has {rows} x {width} cells; the limit is {MAX_CELLS}",
            hint="use fewer rows, fewer features or a shorter window",
        )


def check_rows(rows: int, max_rows: int, subject: str) -> None:
    """Refuse more rows than the server allows.

    Raises:
        LimitExceeded: If there are more than `max_rows`.
    """
    if rows > max_rows:
        raise LimitExceeded(
            f"{subject} has more than {max_rows} rows", hint="use a part of it or raise --max-rows"
        )


def take(column: Column, rows: Indices) -> Column:
    """The column at the given row indices."""
    if isinstance(column, TextColumn):
        return TextColumn(column.codes[rows], column.levels)
    return column[rows]


def digest_of(table: Table) -> str:
    """sha256 over names, shapes and little-endian bytes of all columns."""
    digest = hashlib.sha256()
    for name, column in table.columns.items():
        values = column.codes if isinstance(column, TextColumn) else column
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        if isinstance(column, TextColumn):
            digest.update("\0".join(column.levels).encode())
        digest.update(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
    return digest.hexdigest()


def numbers_from(values: Sequence[object]) -> NDArray[np.float64] | None:
    """Numbers, number-like text, booleans and missing values as [n] float64; None if others occur."""
    try:
        plain = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        plain = None
    if plain is not None and plain.ndim == 1:
        return plain
    cleaned = [
        None if isinstance(value, str) and value.strip().lower() in MISSING_WORDS else value
        for value in values
    ]
    try:
        numbers = np.asarray(cleaned, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 else None


class ColumnBuilder:
    """Builds one column block by block; the first block decides whether it holds numbers or text.

    Where text follows numbers, `conflict` is set: the original spelling of the numbers is gone, so the caller
    must read the source again with `text=True`.
    """

    def __init__(self, name: str, *, text: bool = False) -> None:
        self.name = name
        self.conflict = False
        self._text = text
        self._numbers: list[Numbers] = []
        self._codes: list[NDArray[np.int32]] = []
        self._levels: dict[str, int] = {}

    def add(self, values: Sequence[object], subject: str) -> None:
        """Append a block.

        Raises:
            InvalidDataset: If lists of different lengths, or objects, occur.
        """
        if self.conflict:
            return
        first = next((value for value in values if value is not None), None)
        if isinstance(first, dict):
            raise InvalidDataset(
                f"{subject}: column '{self.name}' holds objects",
                hint="columns hold numbers, texts, booleans or lists of numbers",
            )
        if isinstance(first, list):
            self._numbers.append(_vectors(self.name, values, subject))
            return
        numbers = None if self._text else numbers_from(values)
        if numbers is not None:
            self._numbers.append(numbers)
        elif self._numbers:
            self.conflict = True
        else:
            self._text = True
            self._codes.append(self._encode(values))

    def _encode(self, values: Sequence[object]) -> NDArray[np.int32]:
        codes = np.empty(len(values), dtype=np.int32)
        levels = self._levels
        for row, value in enumerate(values):
            text = "" if value is None else str(value).strip()
            if text.lower() in MISSING_WORDS:
                codes[row] = -1
            else:
                codes[row] = levels.setdefault(text, len(levels))
        return codes

    def column(self, subject: str) -> Column:
        """The finished column.

        Raises:
            InvalidDataset: If blocks hold vectors of different lengths.
        """
        if self._text:
            return TextColumn(np.concatenate(self._codes), tuple(self._levels))
        shapes = {block.shape[1:] for block in self._numbers}
        if len(shapes) > 1:
            raise InvalidDataset(
                f"{subject}: column '{self.name}' holds lists of different lengths",
                hint="give every row a list of the same length",
            )
        column = np.concatenate(self._numbers)
        self._numbers.clear()
        return column


def _vectors(name: str, values: Sequence[object], subject: str) -> Numbers:
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
    try:
        filled = [missing if value is None else value for value in values]
        vectors = np.asarray(filled, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        vectors = np.empty(0)
    if vectors.ndim != 2:
        raise InvalidDataset(
            f"{subject}: column '{name}' holds lists with something else than numbers",
            hint="a list column holds equally long lists of numbers; null is a missing value",
        )
    return vectors


def columns_from_blocks(
    open_blocks: Callable[[], Iterable[RawBlock]], subject: str, max_rows: int
) -> dict[str, Column]:
    """Build columns from a source that can be read twice, holding one block of raw values at a time.

    Args:
        open_blocks: Starts reading. A column that first occurs in a later block is missing in earlier rows.
        subject: Names the source in errors.
        max_rows: Rows beyond which reading stops.

    Raises:
        InvalidDataset: If the data do not form columns.
        LimitExceeded: If there are more rows than allowed.
    """
    forced: frozenset[str] = frozenset()
    for _ in range(2):
        builders = _read_once(open_blocks(), forced, subject, max_rows)
        conflicts = {name for name, builder in builders.items() if builder.conflict}
        if not conflicts:
            return {name: builder.column(subject) for name, builder in builders.items()}
        forced |= conflicts
    raise InvalidDataset(f"{subject} changed while it was read", hint="call again")


def _read_once(
    blocks: Iterable[RawBlock], forced: frozenset[str], subject: str, max_rows: int
) -> dict[str, ColumnBuilder]:
    builders: dict[str, ColumnBuilder] = {}
    rows = 0
    for block in blocks:
        height = len(next(iter(block.values()))) if block else 0
        for name in block:
            if name not in builders:
                if len(builders) >= MAX_COLUMNS + ROLE_COLUMNS:
                    check_size(1, MAX_COLUMNS + 1, subject)
                builders[name] = ColumnBuilder(name, text=name in forced)
                if rows:
                    builders[name].add([None] * rows, subject)
        for name, builder in builders.items():
            builder.add(block.get(name, [None] * height), subject)
        rows += height
        check_rows(rows, max_rows, subject)
    return builders


def blocks_of_records(
    records: Iterable[Mapping[str, object]], size: int = 5_000
) -> Iterator[RawBlock]:
    """Turn records into blocks of columns; where a record lacks a key, the value is missing."""
    pending: list[Mapping[str, object]] = []
    for record in records:
        pending.append(record)
        if len(pending) == size:
            yield _columns_of(pending)
            pending = []
    if pending:
        yield _columns_of(pending)


def _columns_of(records: Sequence[Mapping[str, object]]) -> RawBlock:
    names = dict.fromkeys(name for record in records for name in record)
    check_size(1, max(1, len(names) - ROLE_COLUMNS), "a list of records")
    return {name: [record.get(name) for record in records] for name in names}


def matrix_columns(matrix: Numbers, names: Sequence[str]) -> dict[str, Column]:
    """Columns of a [rows, width] matrix, as views."""
    return {name: matrix[:, index] for index, name in enumerate(names)}
