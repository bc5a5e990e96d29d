"""A copy of a state directory: whole, of one moment, and harmless to the original."""

import errno
import os
import sqlite3
import tempfile

import anyio
import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.storage.snapshot import copy_state_dir, scratch_for
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import honest, world


async def test_a_copy_of_a_directory_in_use_can_be_opened_and_thrown_away(tmp_path):
    state, copy = tmp_path / "state", tmp_path / "copy"
    async with world(state) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        told = await w.predict(cluster)
        assert copy_state_dir(state, copy) == frozenset()
        nodes = InprocRuntime(honest)
        async with nodes, Engine.open(Settings(state_dir=copy), runtime=nodes) as other:
            (line,) = (await other.clusters()).clusters
            assert (line.cluster_id, line.model_version) == (cluster, 3)
            for file in other.cluster(cluster).committed.blobs:
                (copy / "blobs" / file[:2] / f"{file}.safetensors").unlink()
        answer = await w.predict(cluster)
        assert answer.predictions == pytest.approx(told.predictions)
    async with world(state) as w:
        assert (await w.predict(cluster)).predictions == pytest.approx(told.predictions)


async def test_a_training_that_runs_is_told_of_and_goes_on(tmp_path):
    state = tmp_path / "state"
    async with world(state) as w:
        cluster = await w.cluster(1)
        training = await w.start(cluster, epochs=1000)
        await w.rounds(cluster, 1)
        running = await anyio.to_thread.run_sync(copy_state_dir, state, tmp_path / "copy")
        assert running == {training.training_id}
        assert (await w.status(cluster)).training_status == "running"
        await w.terminate(cluster, training_id=training.training_id)


async def test_files_of_a_copy_on_another_file_system_outlive_those_of_the_server(
    tmp_path, monkeypatch
):
    def elsewhere(_place, _file):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr("pathlib.Path.hardlink_to", elsewhere)
    state, copy = tmp_path / "state", tmp_path / "copy"
    async with world(state) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        copy_state_dir(state, copy)
        files = w.engine.cluster(cluster).committed.blobs
        for file in files:
            (state / "blobs" / file[:2] / f"{file}.safetensors").unlink()
    kept = [copy / "blobs" / file[:2] / f"{file}.safetensors" for file in files]
    assert files
    assert all(place.stat().st_size for place in kept)
    assert not [*copy.rglob("*.partial")]


async def test_checkpoints_are_linked_also_where_temporary_files_are_on_another_file_system(
    tmp_path, monkeypatch
):
    state = tmp_path / "state"
    async with world(state) as w:
        await w.train(await w.cluster(1))
    elsewhere = next(
        (d for d in ("/dev/shm", "/var/tmp") if _device(d) not in (None, _device(state))), None
    )
    if elsewhere is None:
        pytest.skip("this machine has one file system")
    monkeypatch.setattr(tempfile, "tempdir", elsewhere)
    with scratch_for(state, "look-") as scratch:
        copy_state_dir(state, scratch)
        files = [*scratch.rglob("*.safetensors")]
        assert files
        assert {file.stat().st_nlink for file in files} == {2}, "linked, not copied"
    assert not scratch.exists()


async def test_a_server_that_starts_removes_what_a_killed_look_left(tmp_path):
    async with world(tmp_path) as w:
        await w.cluster(1)
    left = tmp_path / "tmp" / "look-1" / "blobs"
    left.mkdir(parents=True)
    (left / "a.safetensors").write_bytes(b"0")
    async with world(tmp_path) as w:
        assert len((await w.engine.clusters()).clusters) == 1
        assert [*(tmp_path / "tmp").iterdir()] == []


def _device(path):
    """The file system of a directory that can be written; None where there is no such directory."""
    return os.stat(path).st_dev if os.access(path, os.W_OK) else None


@pytest.mark.parametrize("makes", [lambda state: None, lambda state: state.mkdir()])
def test_what_is_not_there_is_copied_as_nothing(tmp_path, makes):
    state = tmp_path / "state"
    makes(state)
    assert copy_state_dir(state, tmp_path / "copy") == frozenset()
    assert not (state / "state.db").exists()


def test_a_damaged_journal_is_an_error_and_stays_as_it_is(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "state.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreCorrupt):
        copy_state_dir(state, tmp_path / "copy")
    assert (state / "state.db").read_bytes() == b"no database" * 1000


def test_a_journal_without_tables_is_copied(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    sqlite3.connect(state / "state.db").close()
    (state / "state.db").touch()
    assert copy_state_dir(state, tmp_path / "copy") == frozenset()


async def test_who_holds_a_directory_is_told_without_taking_it(tmp_path):
    state = tmp_path / "state"
    assert holder(state) is None
    async with world(state):
        assert holder(state) is not None
        content = (state / "LOCK").read_text()
        assert holder(state) == content.strip()
    assert holder(state) is None
    assert (state / "LOCK").read_text() == content
