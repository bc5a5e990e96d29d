"""Files made to take all memory: each is refused within half a gibibyte, and nothing of it is kept.

One process reads them one after the other. It may have 512 MiB of address space more than it had at rest, and
measures what it held at most and what it keeps.
"""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

MIB = 1024 * 1024
LIMIT_MIB = 512
KEPT_MIB = 64
READER = """
import json, resource, sys
from pathlib import Path
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.settings import Settings

root = Path(sys.argv[1])
settings = Settings(state_dir=root / "state", data_dir=root)
def refusal(name):
    try:
        prepare(DataRequest(name), settings)
    except NeuralError as error:
        return error

def memory():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {name: int(lines[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM", "VmSize")}

import pyarrow.parquet
for name in sys.argv[2:3]:
    prepare(DataRequest(name), settings)
rest = memory()
resource.setrlimit(resource.RLIMIT_AS, ((rest["VmSize"] + 512) << 20,) * 2)
kept = []  # as a log would keep the errors
for name in sys.argv[3:]:
    open("/proc/self/clear_refs", "w").write("5")
    before = memory()
    kept.append(refusal(name))
    after = memory()
    print(json.dumps({
        "name": name, "error": str(kept[-1]),
        "peak": after["VmHWM"] - rest["VmRSS"], "kept": after["VmRSS"] - before["VmRSS"],
    }), flush=True)
"""


def gzipped(parts: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*map(packer.compress, parts), packer.flush()])


def repeated(head: bytes, part: bytes, times: int, tail: bytes = b"") -> bytes:
    return gzipped(iter([head, *[part] * times, tail]))


def header(descr: object, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(180) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(*members: tuple[str, bytes, int], directory: int = 0) -> bytes:
    """An archive of arrays: name, header, and so many mebibytes that follow."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name, head, size in members:
            with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(size):
                    member.write(bytes(MIB))
        for index in range(directory):
            packed.writestr(f"{'a' * 200}{index}.npy", b"")
    return buffer.getvalue()


def parquet(**columns: object) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def long_list() -> bytes:
    import pyarrow as pa

    values = pa.array(np.zeros(17 * MIB, np.int8))
    return parquet(v=pa.ListArray.from_arrays(pa.array([0, 17 * MIB], pa.int32()), values), y=[1])


def repeated_text() -> bytes:
    import pyarrow as pa

    codes = pa.array(np.zeros(20_000, np.int32))
    return parquet(s=pa.DictionaryArray.from_arrays(codes, ["x" * 8 * MIB]), y=np.zeros(20_000))


SMALL = {
    "line.csv.gz": lambda: repeated(b"a,y\n", b"1" * MIB, 100),
    "fields.csv.gz": lambda: repeated(b"a\n", b"," * (MIB - 1) + b"\n", 100),
    "quoted.csv.gz": lambda: repeated(b'a,y\n"', b'\n","' * 100_000, 20),
    "line.jsonl.gz": lambda: repeated(b'{"a": "', b"1" * MIB, 100),
    "lists.jsonl.gz": lambda: repeated(b"", b'{"a": [' + b"[]," * 1_600_000 + b"[]]}\n", 20),
    "lists.json.gz": lambda: repeated(b"[", b"[]," * 1_000_000, 18, b"[]]"),
    "lists_below.json.gz": lambda: repeated(b'{"X": [', b"[]," * 1_000_000, 18, b'[]], "y": [1]}'),
    "deep.json.gz": lambda: repeated(b"", b"[" * MIB, 50),
    "clients.json.gz": lambda: repeated(
        b'{"clients": {', b'"c": {"X": [[1]], "y": [0]},' * 100_000, 15, b'"d": 1}}'
    ),
    "columns.json.gz": lambda: gzipped(
        iter(
            [
                json.dumps({"columns": [f"c{i}" for i in range(4_000)]}).encode()[:-1],
                b', "rows": [' + b"[" + b"0," * 3_999 + b"0]",
                *[b",[" + b"0," * 3_999 + b"0]"] * 5_000,
                b"]}",
            ]
        )
    ),
    "wide_text.json.gz": lambda: repeated('["\U0001f600'.encode(), b"a" * MIB, 60, b'"]'),
    "bytes.npz": lambda: archive(("X", header("|u1", (MIB // 2, 800)), 400), ("y", b"", 0)),
    "header.npz": lambda: archive(
        ("X", b"\x93NUMPY\x02\x00" + struct.pack("<I", 400 * MIB), 400), ("y", b"", 0)
    ),
    "many.npz": lambda: archive(*[(f"a{i}", header("<f8", (MIB // 2, 16)), 64) for i in range(6)]),
    "directory.npz": lambda: archive(directory=12_000),
    "list.parquet": long_list,
    "text.parquet": repeated_text,
    "wide.parquet": lambda: parquet(**{f"c{i}": np.zeros(1_000_000) for i in range(50)}),
}
SPARSE = {
    "bytes.npy": header("|u1", (MIB // 2, 480)),
    "long_texts.npy": header("<U62914560", (1,)),
    "fields.npy": header([("a", "|u1", (400,)), ("b", "|u1")], (MIB // 2,)),
    "header.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 240 * MIB - 12),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    root = tmp_path_factory.mktemp("hostile")
    (root / "sound.parquet").write_bytes(
        parquet(a=np.arange(100) / 7, s=[f"t{i % 3}" for i in range(100)], y=np.arange(100) % 2)
    )
    for name, make in SMALL.items():
        (root / name).write_bytes(make())
    for name, head in SPARSE.items():
        (root / name).write_bytes(head)
        os.truncate(root / name, 240 * MIB)
    names = ["sound.parquet", *SMALL, *SPARSE]
    command = [sys.executable, "-c", READER, str(root), *names]
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {reading["name"]: reading for reading in found}


ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("name", [*SMALL, *SPARSE])
def test_a_hostile_file_is_refused_in_bounded_memory_and_nothing_is_kept(readings, name):
    reading = readings[name]
    assert reading["error"].startswith(("limit_exceeded: ", "invalid_dataset: ")), reading
    assert "does not fit the memory" not in reading["error"], (
        "memory was taken before it was counted"
    )
    assert reading["peak"] < LIMIT_MIB, reading
    assert reading["kept"] < KEPT_MIB, reading


def test_the_files_are_small_or_take_no_room_on_disk():
    for name in ("line.csv.gz", "lists.json.gz", "bytes.npz"):
        content = SMALL[name]()
        assert len(content) < 4 * MIB
    assert gzip.decompress(SMALL["deep.json.gz"]()).count(b"[") == 50 * MIB
