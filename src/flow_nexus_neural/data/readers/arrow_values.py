"""Columns of a table from arrays of Arrow, as the readers of Parquet and of Arrow files get them.

Texts, bytes, and times within the years 1 to 9999 become texts, lists of numbers become vectors, everything
else becomes numbers. Nanoseconds, durations and dates beyond these years are counted: they are
whole numbers of their unit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np

from flow_nexus_neural.data.column_builder import RawBlock, columns_from_blocks, may_be_time
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.table import EXACT_BELOW, MAX_VECTOR, Column, Numbers, check_size
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, NotAvailable

MAX_TEXT_BYTES = 128 * 1024


class Reading(Enum):
    """How the values of a column are read; another way is tried where one cannot hold them."""

    PLAIN = "numbers as float64, times as ISO 8601 text"
    COUNTED = "times as whole numbers of their unit"
    DIGITS = "whole numbers as text, with every digit"


class _UnfitError(Exception):
    """A reading cannot hold the values of a column; another one may."""

    def __init__(self, name: str, instead: Reading) -> None:
        super().__init__(name)
        self.name = name
        self.instead = instead


@contextmanager
def arrow_library(subject: str, kind: str) -> Iterator[None]:
    """Let pyarrow read in the block: with memory that is given back, and its errors as those of the data.

    Raises:
        NotAvailable: If it is not installed.
        InvalidDataset: If it finds a defect.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise NotAvailable(
            f"reading {kind} needs pyarrow, which is not installed",
            hint="install flow-nexus-neural[parquet], or convert the file to CSV",
        ) from None
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # others keep what they were once given
    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError) as failure:
        raise InvalidDataset(
            f"{subject} is not a readable {kind} file: {failure}"[:200],
            hint="write it anew or convert it to CSV",
        ) from None
    finally:
        pa.set_memory_pool(usual)


def columns_from_arrays(
    batches: Callable[[], Iterable[Mapping[str, Any]]], subject: str, limits: Limits
) -> dict[str, Column]:
    """The columns that batches of arrays hold, one below the other.

    Args:
        batches: Starts reading; called again where values turn out to need another reading.
        subject: Names the source in errors.
        limits: What the columns may have together.

    Raises:
        InvalidDataset: If the values can be no column.
        LimitExceeded: If they are too many or too large.
    """
    readings: dict[str, Reading] = {}

    def blocks() -> Iterator[RawBlock]:
        for batch in batches():
            yield {
                name: _read(array, name, subject, readings.get(name, Reading.PLAIN))
                for name, array in batch.items()
            }

    while True:  # ends: each column changes its reading at most once
        try:
            return columns_from_blocks(blocks, subject, limits)
        except _UnfitError as unfit:
            readings[unfit.name] = unfit.instead


def _read(array: Any, name: str, subject: str, reading: Reading) -> Sequence[object] | Numbers:
    import pyarrow as pa
    import pyarrow.types as kinds

    try:
        return _values(array, name, subject, reading)
    except (pa.ArrowException, ValueError, OverflowError) as failure:
        unreadable = isinstance(failure, UnicodeDecodeError) or reading is not Reading.PLAIN
        if unreadable or not kinds.is_temporal(array.type):
            raise
    raise _UnfitError(name, Reading.COUNTED)


def check_schema(schema: Any, subject: str) -> None:
    """Refuse columns that can be no column of a table, before they are read.

    Raises:
        InvalidDataset: If two columns have one name, or one holds objects.
    """
    import pyarrow.types as kinds

    twice = [name[:40] for name, count in Counter(schema.names).items() if count > 1][:8]
    if twice:
        raise InvalidDataset(
            f"{subject} names columns twice: {', '.join(twice)}", hint="name every column once"
        )
    for field in schema:
        kind = field.type
        is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
        if is_list and not is_number(kind.value_type):
            raise InvalidDataset(
                f"{subject}: column '{field.name}' holds lists with something else than numbers",
                hint="a list column holds equally long lists of numbers; null is a missing value",
            )
        wide = kinds.is_fixed_size_binary(kind) and kind.byte_width > MAX_TEXT_BYTES
        if wide or (kinds.is_nested(kind) and not is_list):
            raise InvalidDataset(
                f"{subject}: column '{field.name}' holds objects",
                hint="columns hold numbers, texts, booleans or lists of numbers",
            )


def is_number(kind: Any) -> bool:
    """Whether values of an Arrow type are numbers."""
    import pyarrow.types as kinds

    return any(
        bool(test(kind))
        for test in (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
    )


def _values(array: Any, name: str, subject: str, reading: Reading) -> Sequence[object] | Numbers:
    """The values of a batch: numbers as an array, others one by one."""
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = array.type
    if kinds.is_dictionary(kind):
        return _texts(array, name, subject)
    nanoseconds = (kinds.is_timestamp(kind) or kinds.is_time64(kind)) and kind.unit == "ns"
    if (
        kinds.is_duration(kind)
        or nanoseconds
        or (reading is Reading.COUNTED and kinds.is_temporal(kind))
    ):
        # As Python's own times they would lose their last digits, or do not exist.
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
        kind = array.type
    elif reading is Reading.DIGITS and _is_whole(kind):
        return [None if value is None else str(value) for value in array.to_pylist()]
    elif not may_be_time(name) and _loses_digits(array):
        raise _UnfitError(name, Reading.DIGITS)
    if is_number(kind) or kinds.is_null(kind):
        numbers: Numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    if kinds.is_nested(kind):
        return _vectors(array, name, subject)
    return [value.decode() if isinstance(value, bytes) else value for value in array.to_pylist()]


def _is_whole(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind) or (kinds.is_decimal(kind) and kind.scale == 0))


def _loses_digits(array: Any) -> bool:
    """Whether float64 changes one of the whole numbers: two of them, such as ids, could become one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not _is_whole(array.type) or (array.type.bit_width or 0) < 64:
        return False
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(np.abs(numbers) >= EXACT_BELOW)
    large = pc.take(array, pa.array(places)).to_pylist()
    return any(
        int(number) != int(value) for number, value in zip(numbers[places], large, strict=True)
    )


def _texts(array: Any, name: str, subject: str) -> Sequence[object] | Numbers:
    """The texts of a dictionary column; only those that occur are made."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(codes[codes >= 0], return_inverse=True)
    dictionary = array.dictionary.take(pa.array(used))
    if len(used) and not is_number(dictionary.type):
        longest = pc.max(pc.binary_length(dictionary)).as_py() or 0
        if longest > MAX_TEXT_BYTES:
            raise LimitExceeded(
                f"{subject}: column '{name[:40]}' holds a text of {longest} bytes; the limit is"
                f" {MAX_TEXT_BYTES}",
                hint="leave out long texts",
            )
    found = [
        value.decode() if isinstance(value, bytes) else value for value in dictionary.to_pylist()
    ]
    cells: list[object] = [None] * len(codes)
    for row, place in zip(np.flatnonzero(codes >= 0).tolist(), places.tolist(), strict=True):
        cells[row] = found[place]
    return cells


def _vectors(array: Any, name: str, subject: str) -> Sequence[object] | Numbers:
    """Lists of numbers as [rows, length], NaN where a row has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = array.is_valid().to_numpy(zero_copy_only=False)
    lengths = np.unique(pc.list_value_length(array).drop_null().to_numpy(zero_copy_only=False))
    if len(lengths) > 1 or 0 in lengths:
        raise InvalidDataset(
            f"{subject}: column '{name}' holds lists of different lengths",
            hint="give every row a list of the same length",
        )
    if not len(lengths):
        return [None] * len(array)
    if lengths[0] > MAX_VECTOR:
        raise LimitExceeded(
            f"{subject}: column '{name}' holds lists of {lengths[0]} values; the limit is"
            f" {MAX_VECTOR}",
            hint="shorten the lists",
        )
    check_size(len(array), int(lengths[0]), subject)
    numbers = array.drop_null().flatten().cast(pa.float64(), safe=False)
    vectors = np.full((len(array), int(lengths[0])), np.nan)
    vectors[known] = numbers.to_numpy(zero_copy_only=False).reshape(-1, int(lengths[0]))
    return vectors
