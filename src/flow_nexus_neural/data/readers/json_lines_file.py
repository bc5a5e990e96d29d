"""JSON Lines: `.jsonl` and `.ndjson`, plain or gzipped."""

from collections.abc import Iterator, Mapping

from flow_nexus_neural.data.column_builder import RawBlock, blocks_of_records, columns_from_blocks
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.json_memory import check_decoded_size
from flow_nexus_neural.data.json_text import parse_text
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.readers.text import text_lines
from flow_nexus_neural.data.table import Read, table_from
from flow_nexus_neural.errors import InvalidDataset

LONG_LINE_CHARS = 250_000
MAX_DECODED_LINE_BYTES = 64 * 1024 * 1024


def read_json_lines(file: DataFile, max_rows: int) -> Read:
    """Read one record per line."""

    def blocks() -> Iterator[RawBlock]:
        return blocks_of_records(_records(file))

    return table_from(
        columns_from_blocks(blocks, file.subject, Limits(max_rows)), file.subject
    ), None


def _records(file: DataFile) -> Iterator[tuple[Mapping[str, object], int]]:
    """Records with the length of their text."""
    for number, line in enumerate(text_lines(file), start=1):
        if line.isspace():
            continue
        subject = f"{file.subject}, line {number}"
        if len(line) > LONG_LINE_CHARS:
            check_decoded_size(line.encode(), subject, MAX_DECODED_LINE_BYTES)
        record = parse_text(line, subject)
        if not isinstance(record, dict):
            raise InvalidDataset(f"{subject} is not a record", hint="one JSON object per line")
        yield record, len(line)
