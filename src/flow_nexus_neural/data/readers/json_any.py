"""JSON of either kind: a document, or a record on every line. What a file holds decides, not its suffix."""

import json
from typing import Final

from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.readers.json_file import BLANK, read_json
from flow_nexus_neural.data.readers.json_lines_file import read_json_lines
from flow_nexus_neural.data.readers.text import unpacked
from flow_nexus_neural.data.table import Read

_LOOKED_AT_BYTES: Final = 1024 * 1024


def read_any_json(file: DataFile, max_rows: int) -> Read:
    """Read a document or JSON Lines.

    Several tools write records line by line into `.json` (Hugging Face, Spark), others a list into `.jsonl`.
    """
    beginning = unpacked(file).read(_LOOKED_AT_BYTES).lstrip(BLANK)
    document = file.suffix.removesuffix(".gz") == ".json"
    lines = is_json_lines(beginning) or not (document or _begins_a_document(beginning))
    return read_json_lines(file, max_rows) if lines else read_json(file, max_rows)


def _begins_a_document(beginning: bytes) -> bool:
    """Whether the first line is a list, a text or the first mark of an indented object."""
    return beginning[:1] in (b"[", b'"') or beginning.partition(b"\n")[0].strip() == b"{"


def is_json_lines(beginning: bytes) -> bool:
    """Whether the first line of a text is an object by itself and another line follows."""
    first, _, rest = beginning.partition(b"\n")
    if beginning[:1] != b"{" or not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
