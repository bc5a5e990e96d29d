"""What a file holds decides between a document and JSON Lines, not its suffix."""

import gzip
import json

import pytest

from flow_nexus_neural.data.readers import json_any
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.reading import read_path

RECORDS = [{"a": index, "s": "xy"[index % 2]} for index in range(40)]
LINES = "\n".join(map(json.dumps, RECORDS)) + "\n"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.json.gz", "a.jsonl.gz"])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "\ufeff\n" + LINES.replace("\n", "\r\n"),
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=1),
        json.dumps({"data": RECORDS}, indent=1) + "\n",
        json.dumps(json.dumps(RECORDS)),
    ],
    ids=["lines", "windows", "list", "indented", "object", "text"],
)
def test_records_are_read_from_any_form_under_any_suffix(root, name, text):
    content = text.encode()
    (root / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    table, _ = read_path(root / name)
    assert table.columns["a"].tolist() == list(range(40))


def test_a_single_record_is_a_document(root):
    (root / "a.json").write_text('{"a": [1, 2], "b": [3, 4]}\n')
    assert read_path(root / "a.json")[0].rows == 2


def test_lines_are_told_from_a_document_by_the_beginning_of_the_file(root, monkeypatch):
    monkeypatch.setattr(json_any, "_LOOKED_AT_BYTES", 8)
    (root / "a.json").write_text(LINES)
    with pytest.raises(InvalidDataset, match="not valid JSON"):
        read_path(root / "a.json")
