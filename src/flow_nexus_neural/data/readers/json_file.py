"""JSON documents: `.json`, plain or gzipped."""

from collections.abc import Iterator, Mapping

from flow_nexus_neural.data.column_builder import RawBlock, blocks_of_records, columns_from_blocks
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.inline import table_of
from flow_nexus_neural.data.json_memory import (
    MAX_DECODED_BYTES,
    check_decoded_size,
    decoded_size,
    text_size,
)
from flow_nexus_neural.data.json_text import (
    FORMS,
    free_in_steps,
    json_kind,
    parse_text,
    records_in_steps,
    without_quotes,
)
from flow_nexus_neural.data.memory import (
    MAX_READING_BYTES,
    MAX_TABLE_BYTES,
    Limits,
    without_collections,
)
from flow_nexus_neural.data.readers.text import unpacked
from flow_nexus_neural.data.table import Read, table_from
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_TEXT_BYTES = 128 * 1024 * 1024
BLANK = b"\xef\xbb\xbf \t\r\n"


def read_json(file: DataFile, max_rows: int) -> Read:
    """Read any of the JSON forms of a table.

    What would take too much memory as a whole is read record by record if it is a list of them.
    """
    with without_collections():
        return _read(file, max_rows)


def _read(file: DataFile, max_rows: int) -> Read:
    subject = file.subject
    content = unpacked(file).read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise LimitExceeded(
            f"{subject} holds more than {MAX_JSON_BYTES} bytes, the limit for JSON",
            hint="use JSON Lines, CSV or NPZ for more",
        )
    taken = decoded_size(content)
    piecemeal = taken > MAX_DECODED_BYTES and content[:1_000].lstrip(BLANK)[:1] == b"["
    if piecemeal:
        taken = text_size(content)
    else:
        check_decoded_size(content, subject, MAX_DECODED_BYTES)
    if text_size(content) > MAX_TEXT_BYTES:
        raise LimitExceeded(
            f"{subject} takes {text_size(content)} bytes as text; the limit is {MAX_TEXT_BYTES}",
            hint="use JSON Lines, or split the file",
        )
    text = without_quotes(content.decode("utf-8-sig"))
    del content
    table_bytes = min(MAX_TABLE_BYTES, MAX_READING_BYTES - taken)
    limits = Limits(max_rows, table_bytes, file.labels_needed)
    if not piecemeal:
        value = parse_text(text, subject, MAX_JSON_BYTES)
        try:
            return table_of(value, subject, limits)
        finally:
            free_in_steps(value)

    def blocks() -> Iterator[RawBlock]:
        return blocks_of_records(_records(text, subject))

    return table_from(columns_from_blocks(blocks, subject, limits), subject), None


def _records(text: str, subject: str) -> Iterator[tuple[Mapping[str, object], int]]:
    try:
        for index, (record, length) in enumerate(records_in_steps(text)):
            if not isinstance(record, dict):
                raise InvalidDataset(
                    f"{subject}: item {index} is {json_kind(record)}, not a record", hint=FORMS
                )
            yield record, length
    except (ValueError, RecursionError) as failure:
        raise InvalidDataset(
            f"{subject} is not valid JSON: {failure}"[:300],
            hint="use JSON Lines, with one record per line",
        ) from None
