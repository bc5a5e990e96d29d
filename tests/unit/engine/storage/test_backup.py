"""A backup holds the files that rows name and no others, private to the user; a file that is gone is told."""

import stat

import numpy as np
import pytest

from flow_nexus_neural.engine.storage.backup import back_up
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.journal import Journal, name_blobs
from flow_nexus_neural.engine.storage.state_dir import empty_tmp, prepare
from flow_nexus_neural.errors import InvalidArguments, StoreCorrupt


@pytest.fixture
def source(tmp_path):
    """A directory with a file that a row names and one that none names; the name of the first."""
    place = tmp_path / "source"
    prepare(place)
    files = CheckpointFiles(place)
    sha, nbytes = files.write({"x": np.arange(4, dtype=np.float32)}, {})
    files.write({"x": np.arange(5, dtype=np.float32)}, {})
    journal = Journal(place / "state.db")
    journal.write(name_blobs([(sha, nbytes, "weights")]))
    journal.close()
    return place, sha


def test_it_holds_what_rows_name(source, tmp_path):
    place, sha = source
    made = back_up(place, tmp_path / "target")
    (file,) = (tmp_path / "target" / "blobs").rglob("*.safetensors")
    assert (file.stem, made.files) == (sha, 1)
    assert CheckpointFiles(tmp_path / "target").read(sha)["x"].tolist() == [0, 1, 2, 3]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o700


def test_a_file_that_is_gone_is_told_and_an_empty_target_stays_empty(source, tmp_path):
    place, sha = source
    CheckpointFiles(place).path(sha).unlink()
    (tmp_path / "target").mkdir()
    with pytest.raises(StoreCorrupt, match=f"blob {sha} is missing"):
        back_up(place, tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []
    assert list((place / "tmp").iterdir()) == []


def test_no_state_and_no_room_are_refused(source, tmp_path):
    place, _ = source
    with pytest.raises(InvalidArguments, match="holds no state"):
        back_up(tmp_path / "none", tmp_path / "target")
    with pytest.raises(InvalidArguments, match="is not empty"):
        back_up(place, place.parent)
    with pytest.raises(InvalidArguments, match="is inside"):
        back_up(place, place / "blobs" / "copy")


def test_what_a_killed_backup_leaves_is_removed_by_the_next_server(source):
    place, _ = source
    (place / "tmp" / "backup-1" / "blobs").mkdir(parents=True)
    (place / "tmp" / "backup-1" / "blobs" / "x").write_bytes(b"")
    assert empty_tmp(place) == 1
    assert list((place / "tmp").iterdir()) == []
