"""Arrays in numpy's own format, read piece by piece into columns, without ever holding them twice.

The header says what follows. It is believed only after it was compared with the limits and with the bytes
that are there, and nothing is mapped.
"""

import io
import math
import tokenize
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from flow_nexus_neural.data.labelled_arrays import labels_column
from flow_nexus_neural.data.memory import MemoryBudget
from flow_nexus_neural.data.table import (
    EXACT_BELOW,
    MAX_CELLS,
    Column,
    TextColumn,
    check_rows,
    check_size,
    number_text,
)
from flow_nexus_neural.errors import InvalidDataset

ARRAY_DEFECTS = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What numpy and zipfile raise on damaged headers and members."""
MAX_HEADER_BYTES = 10_000
"""As numpy itself allows for untrusted files."""
PIECE_BYTES = 1024 * 1024
_MAGIC_BYTES = 8
_NUMBERS = "fiub"


@dataclass(frozen=True)
class ArrayHeader:
    """What an array's header says, checked against the limits.

    Attributes:
        shape: Empty for a lone value.
        column_major: Whether the first index varies fastest.
    """

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that follow the header."""
        return self.count * self.dtype.itemsize


def read_header(stream: IO[bytes], subject: str, max_rows: int) -> ArrayHeader:
    """Read an array's header, and hold it against the limits.

    Raises:
        InvalidDataset: If it is none, or announces objects.
        LimitExceeded: If it announces too many rows or cells.
    """
    header = announced(stream, subject)
    if header.dtype.hasobject or header.dtype.itemsize == 0:
        raise no_array(subject, f"its values are of type {header.dtype}")
    check_rows(header.shape[0] if header.shape else 1, max_rows, subject)
    check_size(header.count * _cells_per_value(header.dtype), 1, subject)
    return header


def announced(stream: IO[bytes], subject: str) -> ArrayHeader:
    """What an array's header says, whether or not it can be read.

    Raises:
        InvalidDataset: If it is none.
    """
    try:
        head = stream.read(_MAGIC_BYTES)
        version = npy.read_magic(io.BytesIO(head))
        width = 2 if version == (1, 0) else 4
        length = stream.read(width)
        size = int.from_bytes(length, "little")
        if len(length) < width or size > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        text = io.BytesIO(length + stream.read(size))
        read = npy.read_array_header_1_0 if width == 2 else npy.read_array_header_2_0
        shape, column_major, dtype = read(text, max_header_size=MAX_HEADER_BYTES)
    except ARRAY_DEFECTS as failure:
        raise no_array(subject, failure) from None
    return ArrayHeader(shape, column_major, dtype)


def read_columns(
    stream: IO[bytes], header: ArrayHeader, subject: str, budget: MemoryBudget
) -> dict[str, Column]:
    """Read the values that follow a header: a column per field, or one called `""` without fields.

    Raises:
        InvalidDataset: If the values are of another kind than numbers, times and texts, or end too early.
        LimitExceeded: If they would take too much memory.
    """
    if header.dtype.names is None:
        return {"": _read_column(stream, header, subject, budget)}
    if len(header.shape) != 1:
        raise InvalidDataset(
            f"{subject} has fields in the shape {list(header.shape)}", hint="use one dimension"
        )
    fields = {name: _Field(header, name, subject, budget) for name in header.dtype.names}

    def add(start: int, piece: NDArray[Any]) -> None:
        for field in fields.values():
            field.add(start, piece)

    _in_pieces(stream, header, add)
    return {name: field.column() for name, field in fields.items()}


def no_array(subject: str, failure: object) -> InvalidDataset:
    """The refusal of what is no plain array."""
    return InvalidDataset(
        f"{subject} is not a plain array file: {failure}"[:200],
        hint="save numbers with numpy.save or numpy.savez, without objects",
    )


class _Field:
    """One field of a structured array, filled piece by piece."""

    def __init__(self, header: ArrayHeader, name: str, subject: str, budget: MemoryBudget) -> None:
        field = header.dtype[name]
        self._name = name
        self._sink = _Sink(field.base, (*header.shape, *field.shape), subject, budget)
        self._per_row = math.prod(field.shape)

    def add(self, start: int, piece: NDArray[np.void]) -> None:
        values = piece[self._name].reshape(-1)
        self._sink.add(start * self._per_row, values)

    def column(self) -> Column:
        return self._sink.column()


class _Sink:
    """Takes the values of an array in their order, and makes a column of them.

    Raises:
        InvalidDataset: If they can be no column.
        LimitExceeded: If the column would take too much memory.
    """

    def __init__(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], subject: str, budget: MemoryBudget
    ) -> None:
        self._subject = subject
        self._shape = shape
        self._texts: list[str] | None = None
        self._budget = budget
        if dtype.kind in "US" and len(shape) == 1:
            self._texts = []
        elif dtype.kind in _NUMBERS or dtype.kind == "M":
            kept = np.dtype(np.float32 if dtype == np.float32 else np.float64)
            budget.take(math.prod(shape) * kept.itemsize)
            self._values = np.empty(math.prod(shape), dtype=kept)
        else:
            raise InvalidDataset(
                f"{subject} holds an array of type {dtype}",
                hint="use numbers, booleans, texts or datetime64",
            )

    def add(self, start: int, piece: NDArray[np.generic]) -> None:
        if self._texts is not None:
            for text in (piece.astype(str) if piece.dtype.kind == "S" else piece).tolist():
                self._add_text(str(text))
        elif piece.dtype.kind == "M":
            self._values[start : start + len(piece)] = _milliseconds(piece)
        elif len(self._shape) == 1 and _loses_digits(piece):
            self._texts = []
            for number in self._values[:start].tolist():
                self._add_text(str(int(number)))
            self.add(start, piece)
        else:
            self._values[start : start + len(piece)] = piece

    def _add_text(self, text: str) -> None:
        assert self._texts is not None  # noqa: S101 - for the type checker
        self._budget.take_text(text)
        self._texts.append(text)

    def column(self, *, column_major: bool = False) -> Column:
        if self._texts is not None:
            return labels_column(self._texts, self._subject)
        if column_major:
            return self._values.reshape(self._shape[::-1]).T
        return self._values.reshape(self._shape)


def _read_column(
    stream: IO[bytes], header: ArrayHeader, subject: str, budget: MemoryBudget
) -> Column:
    sink = _Sink(header.dtype, header.shape, subject, budget)
    _in_pieces(stream, header, sink.add)
    return sink.column(column_major=header.column_major)


def _in_pieces(
    stream: IO[bytes], header: ArrayHeader, add: Callable[[int, NDArray[Any]], None]
) -> None:
    """Hand on the values in their order, a bounded number at a time."""
    itemsize = header.dtype.itemsize
    if itemsize > PIECE_BYTES:
        raise ValueError(f"values of {itemsize} bytes each")
    step = PIECE_BYTES // itemsize
    for start in range(0, header.count, step):
        wanted = min(step, header.count - start) * itemsize
        piece = stream.read(wanted)
        if len(piece) < wanted:
            raise ValueError("the values end too early")
        add(start, np.frombuffer(piece, dtype=header.dtype))


def _cells_per_value(dtype: np.dtype[Any]) -> int:
    """Columns that one value makes; more than one in a structured array."""
    if dtype.names is None:
        return 1
    return sum(min(math.prod(dtype[name].shape), MAX_CELLS) for name in dtype.names)


def _loses_digits(piece: NDArray[np.generic]) -> bool:
    """Whether float64 changes one of the whole numbers: two of them, such as ids, could become one."""
    if piece.dtype.kind not in "iu" or piece.dtype.itemsize < 8:
        return False
    limit = int(EXACT_BELOW)
    large = piece[(piece > limit) | (piece < -limit)]  # type: ignore[operator]
    return any(int(float(number)) != number for number in large.tolist())


def _milliseconds(array: NDArray[np.generic]) -> NDArray[np.float64]:
    stamps = array.astype("datetime64[ms]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64).astype(np.float64))


def texts_of(column: Column) -> list[str]:
    """The values of a column of names."""
    if isinstance(column, TextColumn):
        return [column.levels[code] for code in column.codes]
    return [number_text(value) for value in column.ravel()]


def one_column(columns: Mapping[str, Column], subject: str) -> Column:
    """The column of an array without fields.

    Raises:
        InvalidDataset: If it has fields.
    """
    if "" not in columns:
        raise InvalidDataset(f"{subject} holds an array with fields", hint="use plain arrays")
    return columns[""]
