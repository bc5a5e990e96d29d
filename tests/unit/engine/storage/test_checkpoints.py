import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.errors import StoreCorrupt, StoreUnavailable

STATE = {
    "params": np.arange(6, dtype=np.float32),
    "buffers": np.zeros(0, dtype=np.float32),
    "m": np.linspace(0, 1, 6, dtype=np.float32),
}
META = {"cohort": "a", "round": "3", "opt_step": "40"}


@pytest.fixture
def files(tmp_path):
    return CheckpointFiles(tmp_path)


def stored(tmp_path):
    return sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())


def test_what_is_read_is_what_was_written(files):
    sha, nbytes = files.write(STATE, META)
    back = files.read(sha)
    assert set(back) == set(STATE)
    for name, tensor in STATE.items():
        assert back[name].dtype == tensor.dtype
        assert np.array_equal(back[name], tensor)
    assert files.path(sha).stat().st_size == nbytes


def test_a_file_is_named_by_the_hash_of_its_content(files, tmp_path):
    sha, _ = files.write(STATE, META)
    place = files.path(sha)
    assert place == tmp_path / "blobs" / sha[:2] / f"{sha}.safetensors"
    assert hashlib.sha256(place.read_bytes()).hexdigest() == sha


def test_equal_content_is_one_file_whatever_the_order_it_is_given_in(files, tmp_path):
    backwards = dict(reversed(list(STATE.items())))
    names = {
        files.write(STATE, META)[0],
        files.write(backwards, dict(reversed(list(META.items()))))[0],
    }
    assert len(names) == 1
    assert len(stored(tmp_path)) == 1


def test_metadata_is_part_of_the_content_and_readable_by_other_programs(files):
    sha, _ = files.write(STATE, META)
    assert sha != files.write(STATE, {**META, "round": "4"})[0]
    with safe_open(files.path(sha), framework="numpy") as opened:
        assert json.loads(opened.metadata()["flow_nexus_neural"]) == META


def test_arrays_of_any_layout_are_stored_by_value(files):
    tensors = {
        "strided": np.arange(10, dtype=np.float32)[::2],
        "scalar": np.float32(7) * np.ones(()),
    }
    tensors["fortran"] = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    back = files.read(files.write(tensors, {})[0])
    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        assert np.array_equal(back[name], tensor)


def test_what_is_read_is_private(files):
    sha, _ = files.write(STATE, META)
    files.read(sha)["params"][:] = 9
    assert np.array_equal(files.read(sha)["params"], STATE["params"])


def test_files_and_directories_are_private_to_the_user(files, tmp_path):
    sha, _ = files.write(STATE, META)
    for path in [files.path(sha), *stored(tmp_path)]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in [tmp_path / "blobs", tmp_path / "tmp", files.path(sha).parent]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_every_flipped_byte_is_noticed(files):
    sha, nbytes = files.write(STATE, META)
    content = files.path(sha).read_bytes()
    for position in range(0, nbytes, 7):
        flipped = bytearray(content)
        flipped[position] ^= 1
        files.path(sha).write_bytes(flipped)
        with pytest.raises(StoreCorrupt, match=sha):
            files.read(sha)
    files.path(sha).write_bytes(content)
    assert set(files.read(sha)) == set(STATE)


def test_a_truncated_or_missing_file_is_noticed(files):
    sha, _ = files.write(STATE, META)
    files.path(sha).write_bytes(files.path(sha).read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match="changed"):
        files.read(sha)
    files.path(sha).unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        files.read(sha)


def test_writing_again_repairs_a_damaged_file(files):
    sha, _ = files.write(STATE, META)
    files.path(sha).write_bytes(b"damaged")
    assert files.write(STATE, META)[0] == sha
    assert set(files.read(sha)) == set(STATE)


def test_a_file_that_hashes_right_but_holds_no_tensors_is_noticed(files):
    content = b"not tensors"
    sha = hashlib.sha256(content).hexdigest()
    files.path(sha).parent.mkdir(exist_ok=True)
    files.path(sha).write_bytes(content)
    with pytest.raises(StoreCorrupt, match="no tensors"):
        files.read(sha)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "a/" * 32]
)
def test_a_name_that_is_no_hash_reaches_no_file(files, name):
    with pytest.raises(StoreCorrupt, match="no name"):
        files.read(name)
    with pytest.raises(StoreCorrupt, match="no name"):
        files.path(name)


def test_a_sweep_removes_what_nobody_names_and_nothing_young(files, tmp_path):
    kept, _ = files.write(STATE, META)
    dropped, _ = files.write(STATE, {})
    now = files.path(kept).stat().st_mtime
    assert files.sweep({kept}, now + 59.0) == []
    assert files.sweep({kept}, now + 61.0) == [dropped]
    assert [path.stem for path in stored(tmp_path)] == [kept]


def test_writing_a_swept_content_again_makes_it_young_again(files):
    sha, _ = files.write(STATE, META)
    os.utime(files.path(sha), (1, 1))
    files.write(STATE, META)
    assert files.sweep(set(), files.path(sha).stat().st_mtime + 1.0) == []


def test_a_sweep_touches_no_file_of_another_name(files, tmp_path):
    files.write(STATE, META)
    stray = next((tmp_path / "blobs").iterdir()) / "notes.txt"
    stray.write_text("mine")
    files.sweep(set(), 4e9)
    assert stray.read_text() == "mine"


def test_nothing_unfinished_is_left_and_nothing_is_named_when_the_disk_refuses(tmp_path):
    for point in ("written", "synced"):

        def full(at, point=point):
            if at == point:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        failing = CheckpointFiles(tmp_path, at=full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            failing.write(STATE, META)
        assert stored(tmp_path) == []
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_inside_the_tensor_library_is_reported_as_such(files, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_tmp", tmp_path / "gone")
    with pytest.raises(StoreUnavailable):
        files.write(STATE, META)


def test_the_points_of_a_durable_write_come_in_order(tmp_path):
    points = []
    CheckpointFiles(tmp_path, at=points.append).write(STATE, META)
    assert points == ["before_write", "written", "synced", "renamed", "durable"]
