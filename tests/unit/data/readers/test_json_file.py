import json

import pytest

from flow_nexus_neural.data import json_text
from flow_nexus_neural.data.readers import json_file
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_path

RECORDS = [{"a": index, "s": "xy"[index % 2], "v": [index, 1]} for index in range(50)]


def test_a_document_is_read_in_any_of_its_forms(root):
    (root / "a.json").write_text(json.dumps({"X": [[1, 2], [3, 4]], "y": [0, 1]}))
    table, target = read_path(root / "a.json")
    assert (table.rows, target) == (2, "y")


def test_a_list_of_records_is_the_same_table_as_a_whole_and_piece_by_piece(root, monkeypatch):
    path = root / "a.json"
    path.write_text("\ufeff \n" + json.dumps(RECORDS))
    whole = read_path(path)[0]
    monkeypatch.setattr(json_file, "MAX_DECODED_BYTES", 0)
    pieces = read_path(path)[0]
    assert list(pieces.columns) == list(whole.columns) == ["a", "s", "v"]
    assert (pieces.columns["v"] == whole.columns["v"]).all()
    assert pieces.columns["s"].levels == whole.columns["s"].levels == ("x", "y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "not valid JSON"),
        ('[{"a": 1}, [2]]', "item 1 is a list"),
        ('[{"a": 1}', "not valid JSON"),
        ('[{"a": 1}] x', "not valid JSON"),
        ('[{"a": 1},]', "not valid JSON"),
        ("[]", "no rows"),
        ('[{"a": "' + "x" * 2_000 + '"}]', "too long"),
    ],
)
def test_piece_by_piece_a_defect_is_found_too(root, monkeypatch, text, words):
    monkeypatch.setattr(json_file, "MAX_DECODED_BYTES", 0)
    monkeypatch.setattr(json_text._Decoder.short_item, "__defaults__", ((100, 1_000),))
    (root / "a.json").write_text(text)
    with pytest.raises(InvalidDataset, match=words):
        read_path(root / "a.json")


def test_other_forms_are_refused_where_they_would_take_too_much(root, monkeypatch):
    monkeypatch.setattr(json_file, "MAX_DECODED_BYTES", 100)
    (root / "a.json").write_text(json.dumps({"X": [[1, 2], [3, 4]], "y": [0, 1]}))
    with pytest.raises(LimitExceeded, match="when decoded; the limit is 100"):
        read_path(root / "a.json")


def test_a_document_is_bounded_in_bytes_and_as_text(root, monkeypatch):
    (root / "a.json").write_text(json.dumps(RECORDS))
    monkeypatch.setattr(json_file, "MAX_TEXT_BYTES", 100)
    with pytest.raises(LimitExceeded, match="as text; the limit is 100"):
        read_path(root / "a.json")
    monkeypatch.setattr(json_file, "MAX_JSON_BYTES", 100)
    with pytest.raises(LimitExceeded, match="more than 100 bytes, the limit for JSON"):
        read_path(root / "a.json")


def test_columns_have_what_the_document_leaves_of_the_memory(root, monkeypatch):
    (root / "a.json").write_text(json.dumps(RECORDS))
    monkeypatch.setattr(json_file, "MAX_READING_BYTES", 30_000)
    with pytest.raises(LimitExceeded, match="more memory than one table may"):
        read_path(root / "a.json")
