"""Who may enter a state directory: nobody but its user, and one server at a time."""

import os
import stat
import subprocess
import sys

import anyio
import pytest

from flow_nexus_neural.engine.storage import state_dir
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import StateDirLocked, StoreUnavailable
from tests.doubles.limits import HANG_S

HOLDER = """
import sys
from pathlib import Path
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import StateDirLocked
try:
    store = Store.open(Path(sys.argv[1]))
except StateDirLocked as refusal:
    print(refusal.message, flush=True)
    sys.exit(1)
print("open", flush=True)
sys.stdin.read()
"""


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def holder(place):
    """Another process that opens the directory and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process):
    process.communicate(timeout=HANG_S)
    return process.returncode


def test_a_directory_that_others_may_enter_is_closed_to_them(tmp_path):
    place = tmp_path / "state"
    for folder in (place, place / "blobs", place / "tmp"):
        folder.mkdir()
        folder.chmod(0o755)
    for name in ("state.db", "LOCK", "COMMITS"):
        (place / name).touch()
        (place / name).chmod(0o644)
    Store.open(place).close()
    assert {mode(folder) for folder in (place, place / "blobs", place / "tmp")} == {0o700}
    assert {mode(place / name) for name in ("state.db", "LOCK", "COMMITS")} == {0o600}


def test_every_file_of_an_open_directory_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        store = Store.open(tmp_path / "state")
        anyio.run(store.put, ClusterRow("c1", "n", "now", None, {}, {}))
        files = {file.name: mode(file) for file in (tmp_path / "state").iterdir() if file.is_file()}
        store.close()
    finally:
        os.umask(before)
    assert files == dict.fromkeys(
        ("COMMITS", "LOCK", "state.db", "state.db-shm", "state.db-wal"), 0o600
    )


def test_a_directory_that_cannot_be_closed_to_others_is_refused(tmp_path, monkeypatch):
    """As on a file system that keeps no modes."""
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(0o755)
    monkeypatch.setattr(state_dir.Path, "chmod", lambda *_: None)
    with pytest.raises(StoreUnavailable, match="other users may enter state: its mode stays 0755"):
        state_dir.prepare(place)


def test_removing_the_lock_file_lets_no_second_server_in(tmp_path):
    first = holder(tmp_path)
    assert first.stdout.readline() == "open\n"
    for _ in range(2):  # the second try finds the file that the first one made
        (tmp_path / "LOCK").unlink(missing_ok=True)
        second = holder(tmp_path)
        assert "in use by another server" in second.stdout.readline()
        assert ended(second) == 1
        with pytest.raises(StateDirLocked):
            Store.open(tmp_path)
    assert ended(first) == 0
    Store.open(tmp_path).close()


def test_a_lock_file_that_was_replaced_while_it_was_locked_is_not_taken_for_the_lock(
    tmp_path, monkeypatch
):
    """The lock counts on the file that has the name once it is held, not on one that had it before."""
    lock = state_dir.StateDirLock(tmp_path)
    real, taken = state_dir._lock, []

    def replaced_meanwhile(descriptor):
        real(descriptor)
        taken.append(descriptor)
        if len(taken) == 2:  # the first is the directory
            (tmp_path / "LOCK").unlink()
            (tmp_path / "LOCK").touch()

    monkeypatch.setattr(state_dir, "_lock", replaced_meanwhile)
    lock.acquire()
    assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
    assert os.path.samestat(os.fstat(taken[-1]), (tmp_path / "LOCK").stat())
    lock.release()


def test_a_server_that_locks_only_the_file_is_met_too(tmp_path):
    """As an older version does."""
    state_dir.prepare(tmp_path)
    descriptor = os.open(tmp_path / "LOCK", os.O_RDWR | os.O_CREAT)
    state_dir._lock(descriptor)
    with pytest.raises(StateDirLocked):
        Store.open(tmp_path)
    os.close(descriptor)
    Store.open(tmp_path).close()


def test_a_refused_opening_keeps_neither_lock(tmp_path):
    first = Store.open(tmp_path)
    with pytest.raises(StateDirLocked):
        Store.open(tmp_path)
    first.close()
    Store.open(tmp_path).close()
