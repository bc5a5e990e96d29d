"""Damaged files give an error of the tree or a table, never anything else."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_nexus_neural.errors import NeuralError
from tests.unit.data.reading import read_path

few = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
LINES = [{"a": index, "v": [1.5, 2], "s": "xy"[index % 2]} for index in range(4)]


def packed(save: object, *args: object, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


CSV = b'a,b,"c d"\n1,2.5,x\n3,,"y, z"\n-4e2,nan,x\n'
SOUND = {
    ".csv": CSV,
    ".csv.gz": gzip.compress(CSV, mtime=0),
    ".tsv": CSV.replace(b",", b"\t"),
    ".json": json.dumps({"X": [[1, 2], [3, None]], "y": ["p", "q"]}).encode(),
    ".jsonl": "\n".join(json.dumps(line) for line in LINES).encode(),
    ".npy": packed(np.save, np.arange(12.0).reshape(4, 3)),
    ".npz": packed(np.savez_compressed, X=np.arange(8.0).reshape(4, 2), y=np.arange(4)),
}


@pytest.mark.parametrize("suffix", SOUND)
def test_the_undamaged_file_is_read(tmp_path, suffix):
    path = tmp_path / f"sound{suffix}"
    path.write_bytes(SOUND[suffix])
    assert read_path(path, 1_000)[0].rows in (2, 3, 4)


@few
@given(st.sampled_from(sorted(SOUND)), st.data())
def test_a_damaged_file_is_a_table_or_an_error_of_the_tree(tmp_path: Path, suffix, data):
    content = bytearray(SOUND[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(bytes(content[:cut]))
    try:
        table, _ = read_path(path, 1_000)
    except NeuralError as failure:
        str(failure).encode()
        return
    assert table.rows > 0
