"""Arrow streams and files, whole and damaged."""

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from flow_nexus_neural.data.readers import arrow_file, arrow_messages
from flow_nexus_neural.data.readers.arrow_messages import messages
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_path

ROWS = 2_500


def table(**more):
    return pa.table(
        {
            "a": np.arange(ROWS) / 2,
            "text": pa.array(["xyz"[i % 3] if i % 7 else None for i in range(ROWS)]),
            "v": pa.array([[float(i), 1.0] for i in range(ROWS)], pa.list_(pa.float32())),
            "label": pa.array([i % 2 for i in range(ROWS)]),
            **more,
        }
    )


def write(path, content=None, writer=pa.ipc.new_stream, rows=1_000, **options):
    content = table() if content is None else content
    with pa.OSFile(str(path), "wb") as sink, writer(sink, content.schema, **options) as out:
        out.write_table(content, max_chunksize=rows)
    return path


@pytest.mark.parametrize("writer", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
@pytest.mark.parametrize("rows", [300, 10_000])
def test_streams_and_files_are_read_in_batches_of_any_size(root, writer, rows):
    read, target = read_path(write(root / "a.arrow", writer=writer, rows=rows))
    assert (list(read.columns), target, read.rows) == (["a", "text", "v", "label"], None, ROWS)
    assert read.columns["a"].tolist() == [i / 2 for i in range(ROWS)]
    assert read.columns["v"][-1].tolist() == [ROWS - 1, 1]
    assert set(read.columns["text"].levels) == {"x", "y", "z"}
    assert read.columns["text"].codes[::7].max() == -1


def test_dictionaries_ids_and_far_dates_are_read_in_one_go(root):
    ids = pa.array([2**53 + i for i in range(ROWS)])
    far = pa.array([9_000_000] * ROWS, pa.int32()).cast(pa.date32())
    classes = pa.array(["up", "down"] * (ROWS // 2)).dictionary_encode()
    path = write(root / "a.arrow", table(id=ids, day=far, class_=classes))
    read = read_path(path)[0].columns
    assert read["id"].levels[:2] == (str(2**53), str(2**53 + 1))
    assert read["day"][0] == 9_000_000
    assert read["class_"].levels == ("up", "down")


def test_what_is_compressed_is_refused(root):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    path = write(root / "a.arrow", options=options)
    with pytest.raises(InvalidDataset, match="is compressed") as caught:
        read_path(path)
    assert "uncompressed" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("MAX_MESSAGES", 2, "more than 2 messages"),
        ("MAX_BODY_BYTES", 100, "the limit is 100"),
        ("MAX_DESCRIPTION_BYTES", 100, "describes a batch in"),
    ],
)
def test_what_a_stream_says_of_itself_is_bounded(root, monkeypatch, name, limit, words):
    path = write(root / "a.arrow")
    monkeypatch.setattr(arrow_messages, name, limit)
    with pytest.raises(LimitExceeded, match=words):
        read_path(path)


def test_rows_are_counted_before_they_are_read(root, monkeypatch):
    path = write(root / "a.arrow")
    monkeypatch.setattr(arrow_file, "_read", None)
    with pytest.raises(LimitExceeded, match="more than 2000 rows"):
        read_path(path, 2_000)


def test_columns_that_can_be_none_are_refused(root):
    with pytest.raises(InvalidDataset, match="column 'o' holds objects"):
        read_path(write(root / "a.arrow", pa.table({"o": [{"x": 1}]})))


def test_the_walk_counts_rows_and_bodies(root):
    path = write(root / "a.arrow")
    with path.open("rb") as stream:
        walked = list(messages(stream, path.stat().st_size, "data"))
    assert [message.rows for message in walked] == [0, 1_000, 1_000, 500]
    assert sum(message.body_bytes for message in walked) < path.stat().st_size


def test_damage_anywhere_is_an_error_or_harmless(root):
    content = write(root / "whole.arrow", table().slice(0, 40)).read_bytes()
    path = root / "a.arrow"
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with suppress(InvalidDataset, LimitExceeded):
            read_path(path)
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with suppress(InvalidDataset, LimitExceeded):
            read_path(path)


def test_a_body_that_is_not_there_is_refused_before_memory_is_taken_for_it(root):
    content = write(root / "whole.arrow").read_bytes()
    (root / "a.arrow").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidDataset, match="bytes that are not there"):
        read_path(root / "a.arrow")


def test_offsets_out_of_the_batch_are_an_error(root):
    content = write(root / "whole.arrow", pa.table({"s": ["abc"] * 40})).read_bytes()
    offsets = np.arange(0, 123, 3, dtype=np.int32).tobytes()
    assert content.count(offsets) == 1
    wrong = content.replace(offsets, offsets[:-4] + (2**30).to_bytes(4, "little"))
    (root / "a.arrow").write_bytes(wrong)
    with pytest.raises(InvalidDataset, match="not a readable Arrow file"):
        read_path(root / "a.arrow")
