"""The bytes that are parsed are those that were digested, or nothing is."""

import hashlib
import io
import json
import os
import time

import numpy as np
import pytest

from flow_nexus_neural.data import data_file
from flow_nexus_neural.data.data_file import DataFile, data_suffix
from flow_nexus_neural.data.opening import DataRoots
from flow_nexus_neural.data.readers.by_suffix import read_file
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

LATER = time.monotonic() + 3_600


def packed(save, *args, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": np.arange(400) / 7, "y": np.arange(400) % 2}), buffer)
    return buffer.getvalue()


SOUND = {
    ".csv": b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (i, i * 7, i % 2) for i in range(400)),
    ".jsonl": b"".join(b'{"a": %d, "y": %d}\n' % (i, i % 2) for i in range(400)),
    ".json": json.dumps({"X": [[i, i * 7] for i in range(400)], "y": [0, 1] * 200}).encode(),
    ".npy": packed(np.save, np.arange(1_200.0).reshape(400, 3)),
    ".npz": packed(np.savez, X=np.arange(800.0).reshape(400, 2), y=np.arange(400)),
    ".parquet": parquet(),
}


@pytest.fixture(params=sorted(SOUND))
def path(request, root, monkeypatch):
    monkeypatch.setattr(data_file, "BLOCK_BYTES", 256)
    path = root / f"a{request.param}"
    path.write_bytes(SOUND[request.param])
    return path


def test_the_digest_is_that_of_the_bytes_read(path, root):
    with DataRoots([root]).open(path) as file:
        table, _ = read_file(file, 1_000)
        assert table.rows == 400
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert file.stream().read() == path.read_bytes()


@pytest.mark.parametrize("harm", ["truncated", "emptied", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(path, root, monkeypatch, harm):
    """With a mapping, truncating would end the process; with two readings, other bytes would be digested."""
    size = path.stat().st_size
    true_block = DataFile.block
    harmed = []

    def harm_then_read(self: DataFile, index: int) -> bytes:
        if not harmed:
            harmed.append(index)
            before = os.stat(path)
            with path.open("r+b") as file:
                if harm == "rewritten":
                    file.write(bytes(255 - byte for byte in SOUND[path.suffix]))
                else:
                    file.truncate(size // 2 if harm == "truncated" else 0)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return true_block(self, index)

    with DataRoots([root]).open(path) as file:
        monkeypatch.setattr(DataFile, "block", harm_then_read)
        with pytest.raises(InvalidDataset, match="changed while it was read"):
            read_file(file, 1_000)
    assert harmed


def test_a_file_that_grows_is_read_as_it_was(path, root):
    with DataRoots([root]).open(path) as file:
        with path.open("ab") as more:
            more.write(b"1,2,3\n" * 100)
        assert read_file(file, 1_000)[0].rows == 400


def opened(path, deadline=LATER):
    return DataFile(os.open(path, os.O_RDONLY), path.name, deadline)


def test_a_file_that_shrinks_while_it_is_digested_is_refused(root, monkeypatch):
    path = root / "a.csv"
    path.write_bytes(b"x" * 1_000)
    true_lseek = os.lseek

    def shrink(descriptor, *place):
        os.truncate(path, 500)
        return true_lseek(descriptor, *place)

    monkeypatch.setattr(data_file.os, "lseek", shrink)
    with pytest.raises(InvalidDataset, match="changed while it was read"):
        opened(path)


def test_nothing_is_read_after_the_deadline(root):
    path = root / "a.csv"
    path.write_bytes(b"a,y\n")
    with pytest.raises(LimitExceeded, match="took too long"):
        opened(path, deadline=time.monotonic() - 1)


def test_a_file_that_is_too_large_is_refused_unread(root, monkeypatch):
    monkeypatch.setattr(data_file, "MAX_FILE_BYTES", 3)
    path = root / "a.csv"
    path.write_bytes(b"a,y\n")
    with pytest.raises(LimitExceeded, match="4 bytes; the limit is 3"):
        opened(path)


def test_every_stream_has_its_own_place(root, monkeypatch):
    monkeypatch.setattr(data_file, "BLOCK_BYTES", 4)
    path = root / "a.csv"
    path.write_bytes(b"0123456789")
    file = opened(path)
    one, other = file.stream(), file.stream()
    assert one.seek(-3, os.SEEK_END) == 7
    assert (one.read(), other.read(5), one.read()) == (b"789", b"01234", b"")
    assert other.seek(1, os.SEEK_CUR) == 6
    assert other.read(2) == b"67"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.CSV", ".csv"), ("b.csv.gz", ".csv.gz"), ("c.v1.json", ".json"), ("d", "")],
)
def test_the_suffix_is_what_decides_the_format(name, suffix):
    assert data_suffix(name) == suffix
