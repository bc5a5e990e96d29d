"""Picks the writer of a file's suffix."""

from collections.abc import Callable

from flow_nexus_neural.data.writers.parquet_rows import ParquetRows
from flow_nexus_neural.data.writers.row_writer import ByteSink, OutputColumn, RowWriter
from flow_nexus_neural.data.writers.text_rows import CsvRows, JsonLinesRows
from flow_nexus_neural.errors import InvalidArguments

WRITERS: dict[str, Callable[[ByteSink, tuple[OutputColumn, ...]], RowWriter]] = {
    ".csv": CsvRows,
    ".jsonl": JsonLinesRows,
    ".parquet": ParquetRows,
}


def check_suffix(suffix: str, name: str) -> None:
    """Refuse a format that is not written.

    Raises:
        InvalidArguments: There is no writer for it.
        NotAvailable: Its library is not installed.
    """
    if suffix not in WRITERS:
        raise InvalidArguments(
            f"'{name}' has no format that is written", hint=f"formats: {', '.join(WRITERS)}"
        )
    if suffix == ".parquet":
        ParquetRows.require()


def row_writer(suffix: str, sink: ByteSink, columns: tuple[OutputColumn, ...]) -> RowWriter:
    """A writer of this format into a sink."""
    return WRITERS[suffix](sink, columns)
