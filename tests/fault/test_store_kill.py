import signal
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from flow_nexus_neural.coordination.ledger import head
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import StoreCorrupt
from tests.doubles.limits import HANG_S

WRITER = Path(__file__).parent / "programs" / "store_writer.py"
FILE_POINTS = ["before_write", "written", "synced", "renamed", "durable"]


def start(state_dir, point="", after=0, order="blob_first"):
    command = [sys.executable, str(WRITER), str(state_dir), point, str(after), order]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(process):
    """The versions that it announced before it was killed, all of them."""
    text, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == -signal.SIGKILL
    return [int(line) for line in text.split()]


def found(state_dir):
    """What a new server finds: the versions, their blobs read and verified."""
    store = Store.open(state_dir)
    try:
        stored = anyio.run(store.load)
    finally:
        store.close()
    assert stored.refused == {}
    entries = stored.ledgers.get("c", ())
    files = CheckpointFiles(state_dir)
    for entry in entries:
        params = files.read(entry["blob"])["params"]
        assert np.array_equal(params, np.full(5000, entry["version"], dtype=np.float32))
    assert [row.round_number for row in stored.history] == [entry["version"] for entry in entries]
    if entries:
        assert stored.trainings[0].progress == {"round": entries[-1]["version"]}
        assert {blob.sha for blob in stored.blobs} == {entry["blob"] for entry in entries}
    return head(entries).version("a"), stored


@pytest.mark.parametrize("point", [*FILE_POINTS, "before_commit", "after_commit"])
def test_a_server_killed_at_this_point_leaves_every_named_blob_readable(tmp_path, point):
    announced = acknowledged(start(tmp_path, point, after=2))
    assert announced == [1, 2]
    version, stored = found(tmp_path)
    # The row that was committed just before the kill may be there although nobody was told.
    assert version == (3 if point == "after_commit" else 2)
    assert list((tmp_path / "tmp").iterdir()) == []
    files = CheckpointFiles(tmp_path)
    orphans = files.sweep({blob.sha for blob in stored.blobs}, now_s=4e9)
    assert len(orphans) == (point in {"renamed", "durable", "before_commit"})
    assert found(tmp_path)[0] == version


def test_servers_killed_from_outside_again_and_again_lose_nothing_they_announced(tmp_path):
    last = 0
    for announcements in (1, 4, 2, 7):
        process = start(tmp_path)
        for _ in range(announcements):
            process.stdout.readline()
        process.kill()
        rest = acknowledged(process)
        version, _ = found(tmp_path)
        assert version >= max([last + announcements, *rest])
        last = version


def test_a_row_written_before_its_blob_would_be_caught(tmp_path):
    """The control: with the order reversed, the newest row names a file that is not there."""
    acknowledged(start(tmp_path, "before_write", after=1, order="row_first"))
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        found(tmp_path)


def test_the_lock_of_a_killed_server_is_free_at_once(tmp_path):
    process = start(tmp_path)
    process.stdout.readline()
    process.kill()
    acknowledged(process)
    Store.open(tmp_path).close()
