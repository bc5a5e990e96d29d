"""Arrow streams and files: `.arrow`, as Hugging Face saves data sets, with the extra of Parquet."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.readers.arrow_messages import FILE_MARK, messages
from flow_nexus_neural.data.readers.arrow_values import (
    arrow_library,
    check_schema,
    columns_from_arrays,
)
from flow_nexus_neural.data.table import Read, check_rows, check_size, table_from

SLICE_ROWS: Final = 1_000


def read_arrow(file: DataFile, max_rows: int) -> Read:
    """Read a table of numbers, texts, times and lists of numbers."""
    subject = file.subject
    start = len(FILE_MARK) if file.stream().read(len(FILE_MARK)) == FILE_MARK else 0
    stream = file.stream()
    stream.seek(start)
    rows = 0
    for message in messages(stream, file.size, subject):
        rows += message.rows
        check_rows(rows, max_rows, subject)
    with arrow_library(subject, "Arrow"):
        return _read(file, start, rows, Limits(max_rows)), None


def _read(file: DataFile, start: int, rows: int, limits: Limits) -> Any:
    import pyarrow as pa

    def opened() -> Any:
        stream = file.stream()
        stream.seek(start)
        return pa.ipc.open_stream(stream)

    schema = opened().schema
    check_size(rows, len(schema), file.subject)
    check_schema(schema, file.subject)

    def batches() -> Iterator[Mapping[str, Any]]:
        for batch in opened():
            batch.validate(full=True)  # offsets that lead out of the batch would end the process
            for place in range(0, batch.num_rows, SLICE_ROWS):
                part = batch.slice(place, SLICE_ROWS)
                yield dict(zip(schema.names, part.columns, strict=True))

    return table_from(columns_from_arrays(batches, file.subject, limits), file.subject)
