"""The table in memory that every reader returns: named columns of equal length."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.memory import LEVEL_BYTES
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from flow_nexus_neural.vocabulary import MIN_ROWS

MAX_COLUMNS = 4_096
ROLE_COLUMNS = 3  # target, time and symbol are not among the features that are counted
MAX_CELLS = 64 * 1024 * 1024
MAX_VECTOR = 4_096
MAX_COLUMN_NAME = 200
PIECE = 20_000
EXACT_BELOW = 2.0**53
"""Up to here float64 holds every whole number."""
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})
_LONGEST_MISSING = max(map(len, MISSING_WORDS))

Numbers = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class TextColumn:
    """A text column, stored as indices into its distinct texts.

    Attributes:
        codes: [rows] int32 index into `levels`, -1 where missing.
        levels: The distinct texts in order of first appearance.
    """

    codes: NDArray[np.int32]
    levels: tuple[str, ...]


Decimal = Literal[".", ","]
"""The mark before the decimals of numbers that are written as text."""
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
        decimals: Mark before decimals of columns whose numbers were read from texts in another spelling.
        remarks: What the caller should know of how the source was read.
        channels: Every [rows, steps] column is one channel of a sequence, not a vector of its own.
    """

    columns: dict[str, Column]
    rows: int
    clients: tuple[str, ...] = ()
    client_of: NDArray[np.int32] | None = None
    in_test: NDArray[np.bool_] | None = None
    channels: bool = False
    decimals: Mapping[str, Decimal] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


Read = tuple[Table, str | None]
"""What a reader returns: the table, and the name of its label column when the file's form has one."""


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
    if text.isascii():
        return True
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
        if not all(map(is_plain_text, levels)):
            raise InvalidDataset(
                f"{subject}: column '{name}' holds text that is no valid Unicode",
                hint="remove lone surrogates",
            )


def width_of(column: Column) -> int:
    """Numbers per row of a column; text counts as one."""
    return 1 if isinstance(column, TextColumn) else int(np.prod(column.shape[1:], dtype=np.int64))


def bytes_of(column: Column) -> int:
    """Memory that a column takes."""
    if not isinstance(column, TextColumn):
        return column.nbytes
    return column.codes.nbytes + sum(LEVEL_BYTES + len(level) for level in column.levels)


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


def is_missing(text: str) -> bool:
    """Whether a text without blanks around it stands for a missing value."""
    return len(text) <= _LONGEST_MISSING and text.lower() in MISSING_WORDS


def has_words(values: Sequence[object]) -> bool:
    """Whether a text occurs among values that are all missing: `none` or the like."""
    return any(isinstance(value, str) and value.strip() for value in values)


def number_text(value: "float | np.floating[Any]") -> str:
    """A number as text with every digit, so that no two numbers have one text."""
    number = float(value)
    return str(int(number)) if number.is_integer() else repr(number)


def numbers_from(values: Sequence[object], *, exact: bool = True) -> NDArray[np.float64] | None:
    """Numbers, number-like text, booleans and missing values as [n] float64; None if others occur.

    Args:
        values: Of one column.
        exact: Whether whole numbers that float64 cannot hold count as others: two of them, such as ids, could
            become one.
    """
    # In pieces, since each conversion holds the interpreter lock.
    numbers = np.empty(len(values))
    for start in range(0, len(values), PIECE):
        piece = values[start : start + PIECE]
        converted = _numbers_from_piece(piece)
        if converted is None or (exact and _loses_digits(piece, converted)):
            return None
        numbers[start : start + len(converted)] = converted
    return numbers


def _loses_digits(values: Sequence[object], numbers: NDArray[np.float64]) -> bool:
    """Whether one of the whole numbers is not what it was."""
    for place in np.flatnonzero(np.abs(numbers) >= EXACT_BELOW).tolist():
        value = values[place]
        if isinstance(value, str):
            value = value.strip()
            if not value.lstrip("+-").isdecimal():
                continue
        if isinstance(value, int | str) and (
            not np.isfinite(numbers[place]) or int(value) != int(numbers[place])
        ):
            return True
    return False


def _numbers_from_piece(values: Sequence[object]) -> NDArray[np.float64] | None:
    try:
        plain = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        plain = None
    if plain is not None and plain.ndim == 1:
        return plain
    cleaned = [
        None if isinstance(value, str) and is_missing(value.strip()) else value for value in values
    ]
    try:
        numbers = np.asarray(cleaned, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 else None


def matrix_columns(matrix: Numbers, names: Sequence[str]) -> dict[str, Column]:
    """Columns of a [rows, width] matrix, as views."""
    return {name: matrix[:, index] for index, name in enumerate(names)}
