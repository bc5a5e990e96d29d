"""Parquet: `.parquet`, with the extra of that name.

The library takes memory as the file says, so what it says is checked first. Columns are read one after the
other, each in batches, so that only one column's pages are unpacked at a time; texts stay a dictionary.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flow_nexus_neural.data.column_builder import RawBlock, columns_from_blocks
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.memory import MAX_TABLE_BYTES, Limits
from flow_nexus_neural.data.readers.parquet_pages import read_page
from flow_nexus_neural.data.table import (
    MAX_VECTOR,
    Column,
    Numbers,
    Read,
    bytes_of,
    check_rows,
    check_size,
    table_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, NotAvailable

MAX_FOOTER_BYTES = 8 * 1024 * 1024
MAX_FOOTER_ITEMS = 100_000
MAX_PAGES = 100_000
MAX_PAGE_BYTES = 64 * 1024 * 1024
MAX_CHUNK_BYTES = 256 * 1024 * 1024
MAX_CHUNK_VALUES = 16 * 1024 * 1024
"""Of one column in one row group."""
MAX_TEXT_BYTES = 128 * 1024
BATCH_ROWS = 20_000
BATCH_VALUES = 500_000
BUFFER_BYTES = 1024 * 1024
_TAIL_BYTES = 8


def read_parquet(file: DataFile, max_rows: int) -> Read:
    """Read a table of numbers, texts, times and lists of numbers."""
    try:
        import pyarrow as pa
    except ImportError:
        raise NotAvailable(
            "reading Parquet needs pyarrow, which is not installed",
            hint="install flow-nexus-neural[parquet], or convert the file to CSV",
        ) from None
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # others keep what they were once given
    try:
        return _read(file, max_rows), None
    except (pa.ArrowException, ValueError, OverflowError) as failure:
        raise InvalidDataset(
            f"{file.subject} is not a readable Parquet file: {failure}"[:200],
            hint="write it anew or convert it to CSV",
        ) from None
    finally:
        pa.set_memory_pool(usual)


def _read(file: DataFile, max_rows: int) -> Any:
    import pyarrow.parquet as pq

    subject = file.subject
    _check_footer(file)
    limits = {
        "thrift_string_size_limit": MAX_FOOTER_BYTES,
        "thrift_container_size_limit": MAX_FOOTER_ITEMS,
    }
    with pq.ParquetFile(file.stream(), pre_buffer=False, **limits) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
    check_rows(metadata.num_rows, max_rows, subject)
    check_size(metadata.num_rows, len(schema), subject)
    _check_schema(schema, metadata, subject)
    _check_pages(file, metadata)
    texts = [
        metadata.schema.column(index).path
        for index in range(metadata.num_columns)
        if metadata.schema.column(index).physical_type == "BYTE_ARRAY"
    ]
    columns: dict[str, Column] = {}
    taken = 0
    with pq.ParquetFile(
        file.stream(),
        metadata=metadata,
        read_dictionary=texts,
        buffer_size=BUFFER_BYTES,
        pre_buffer=False,
        **limits,
    ) as opened:
        for index, name in enumerate(schema.names):
            batch_rows = _batch_rows(metadata, index)

            def blocks(name: str = name, batch_rows: int = batch_rows) -> Iterator[RawBlock]:
                batches = opened.iter_batches(
                    batch_size=batch_rows, columns=[name], use_threads=False
                )
                for batch in batches:
                    yield {name: _values(batch.column(0), name, subject)}

            left = Limits(max_rows, MAX_TABLE_BYTES - taken)
            columns |= columns_from_blocks(blocks, subject, left)
            taken += bytes_of(columns[name]) if name in columns else 0
    return table_from(columns, subject)


def _check_footer(file: DataFile) -> None:
    """Refuse a footer that is larger than any table needs: it is decoded into many times its size."""
    stream = file.stream()
    stream.seek(max(0, file.size - _TAIL_BYTES))
    size = int.from_bytes(stream.read(4), "little")
    if size > MAX_FOOTER_BYTES:
        raise LimitExceeded(
            f"{file.subject} has a footer of {size} bytes; the limit is {MAX_FOOTER_BYTES}",
            hint="write it with fewer columns or larger row groups",
        )


def _check_schema(schema: Any, metadata: Any, subject: str) -> None:
    """Refuse columns that can be no column of a table, before they are read."""
    import pyarrow.types as kinds

    twice = [name[:40] for name, count in Counter(schema.names).items() if count > 1][:8]
    if twice:
        raise InvalidDataset(
            f"{subject} names columns twice: {', '.join(twice)}", hint="name every column once"
        )
    for field in schema:
        kind = field.type
        is_list = kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind)
        if is_list and not _is_number(kind.value_type):
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
    if metadata.num_columns != len(schema):
        raise InvalidDataset(
            f"{subject} has columns within columns", hint="write one column per quantity"
        )


def _is_number(kind: Any) -> bool:
    import pyarrow.types as kinds

    return any(
        test(kind)
        for test in (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
    )


def _check_pages(file: DataFile, metadata: Any) -> None:
    """Walk all pages and refuse what would take much memory at once."""
    subject = file.subject
    pages = 0
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            stream = file.stream()
            place = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < place:
                place = chunk.dictionary_page_offset
            seen = nbytes = values = 0
            while seen < chunk.num_values:
                stream.seek(place)
                page = read_page(stream, subject)
                place = stream.tell() + page.packed_bytes
                pages += 1
                nbytes += page.unpacked_bytes
                values += page.values
                seen += page.values if page.holds_data else 0
                if (
                    pages > MAX_PAGES
                    or page.unpacked_bytes > MAX_PAGE_BYTES
                    or nbytes > MAX_CHUNK_BYTES
                    or values > MAX_CHUNK_VALUES
                ):
                    raise LimitExceeded(
                        f"{subject}, column '{chunk.path_in_schema[:40]}' unpacks to too much in one"
                        f" row group: {nbytes} bytes, {values} values, {pages} pages",
                        hint="write it with smaller row groups",
                    )


def _batch_rows(metadata: Any, index: int) -> int:
    """Rows per batch, so few that their values stay few where they are lists."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    per_row = [group.column(index).num_values // max(1, group.num_rows) for group in groups]
    return int(max(1, min(BATCH_ROWS, BATCH_VALUES // max([1, *per_row]))))


def _values(array: Any, name: str, subject: str) -> Sequence[object] | Numbers:
    """The values of a batch: numbers as an array, others one by one."""
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = array.type
    if kinds.is_dictionary(kind):
        return _texts(array, name, subject)
    if kinds.is_timestamp(kind) and kind.unit == "ns":
        array = array.cast(pa.int64())  # as Python's own times, they would lose their last digits
        kind = array.type
    if _is_number(kind) or kinds.is_null(kind):
        numbers: Numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    if kinds.is_nested(kind):
        return _vectors(array, name, subject)
    return [value.decode() if isinstance(value, bytes) else value for value in array.to_pylist()]


def _texts(array: Any, name: str, subject: str) -> Sequence[object] | Numbers:
    """The texts of a dictionary column; only those that occur are made."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(codes[codes >= 0], return_inverse=True)
    dictionary = array.dictionary.take(pa.array(used))
    if len(used) and not _is_number(dictionary.type):
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
