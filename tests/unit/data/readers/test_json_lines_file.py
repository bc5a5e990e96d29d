import json

import numpy as np
import pytest

from flow_nexus_neural.data.readers import json_lines_file
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_json_lines_with_lists_and_absent_keys_become_columns(root):
    path = root / "a.jsonl"
    records = [{"v": [1, 2, None], "a": 1}, {"v": [4, 5, 6], "b": True}]
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    columns = read_path(path, ROWS)[0].columns
    assert columns["v"].shape == (2, 3)
    assert np.isnan(columns["v"][0, 2])
    assert np.isnan(columns["a"][1])
    assert columns["b"][1] == 1


def test_json_lines_name_the_line_that_is_broken(root):
    path = root / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": NaN}\n')
    with pytest.raises(InvalidDataset, match=r"line 2 .* NaN"):
        read_path(path, ROWS)


def test_a_long_line_is_refused_by_what_it_would_become(root, monkeypatch):
    monkeypatch.setattr(json_lines_file, "LONG_LINE_CHARS", 100)
    monkeypatch.setattr(json_lines_file, "MAX_DECODED_LINE_BYTES", 10_000)
    path = root / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": [' + ",".join(["[]"] * 200) + "]}\n")
    with pytest.raises(LimitExceeded, match=r"line 2 would take about \d+ bytes"):
        read_path(path, ROWS)
