"""Parquet: `.parquet`, with the extra of that name.

The library takes memory as the file says, so what it says is checked first. Columns are read one after the
other, each in batches, so that only one column's pages are unpacked at a time; texts stay a dictionary.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.memory import MAX_TABLE_BYTES, Limits
from flow_nexus_neural.data.readers.arrow_values import (
    arrow_library,
    check_schema,
    columns_from_arrays,
)
from flow_nexus_neural.data.readers.pandas_index import index_columns, left_out_note, renamed
from flow_nexus_neural.data.readers.parquet_pages import read_page
from flow_nexus_neural.data.table import (
    Column,
    Read,
    bytes_of,
    check_rows,
    check_size,
    table_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_FOOTER_BYTES = 8 * 1024 * 1024
MAX_FOOTER_ITEMS = 100_000
MAX_PAGES = 100_000
MAX_PAGE_BYTES = 64 * 1024 * 1024
MAX_CHUNK_BYTES = 256 * 1024 * 1024
MAX_CHUNK_VALUES = 16 * 1024 * 1024
"""Of one column in one row group."""
BATCH_ROWS = 20_000
BATCH_VALUES = 500_000
BUFFER_BYTES = 1024 * 1024
_TAIL_BYTES = 8


def read_parquet(file: DataFile, max_rows: int) -> Read:
    """Read a table of numbers, texts, times and lists of numbers."""
    with arrow_library(file.subject, "Parquet"):
        return _read(file, max_rows), None


def _read(file: DataFile, max_rows: int) -> Any:
    import pyarrow.parquet as pq
    import pyarrow.types as kinds

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
    check_schema(schema, subject)
    if metadata.num_columns != len(schema):
        raise InvalidDataset(
            f"{subject} has columns within columns", hint="write one column per quantity"
        )
    _check_pages(file, metadata)
    texts = [
        metadata.schema.column(index).path
        for index in range(metadata.num_columns)
        if metadata.schema.column(index).physical_type == "BYTE_ARRAY"
    ]
    index = index_columns(schema)
    times = {name for name in index if kinds.is_temporal(schema.field(name).type)}
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
        for position, name in enumerate(schema.names):
            if name in index and name not in times:
                continue
            batch_rows = _batch_rows(metadata, position)

            title = renamed(name, schema.names) if name in times else name

            def batches(
                name: str = name, title: str = title, batch_rows: int = batch_rows
            ) -> Iterator[Mapping[str, Any]]:
                read = opened.iter_batches(batch_size=batch_rows, columns=[name], use_threads=False)
                return ({title: batch.column(0)} for batch in read)

            left = Limits(max_rows, MAX_TABLE_BYTES - taken)
            columns |= columns_from_arrays(batches, subject, left)
            taken += bytes_of(columns[title]) if title in columns else 0
    return replace(table_from(columns, subject), remarks=left_out_note(index - times))


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
