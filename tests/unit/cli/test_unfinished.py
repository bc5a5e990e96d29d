"""A server opens its engine uncalled only where a training waits and nobody else has the directory."""

import sqlite3
from contextlib import asynccontextmanager, closing

import anyio
import pytest

from flow_nexus_neural.cli.unfinished import has_unfinished, open_for_unfinished
from flow_nexus_neural.engine.storage.journal import Journal
from flow_nexus_neural.engine.storage.state_dir import StateDirLock, prepare
from flow_nexus_neural.errors import StateDirLocked
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings


def journal(state_dir, status="running", terminated_at=None):
    prepare(state_dir)
    Journal(state_dir / "state.db").close()
    with closing(sqlite3.connect(state_dir / "state.db")) as own, own:
        own.execute(
            "INSERT INTO clusters VALUES ('c', 'n', 'then', ?, '{}', '{}')", (terminated_at,)
        )
        own.execute(
            "INSERT INTO trainings VALUES ('t', 'c', 0, ?, '{}', '{}', 'then', NULL, NULL)",
            (status,),
        )


def test_a_training_that_is_stored_as_running_waits(tmp_path):
    assert not has_unfinished(tmp_path / "none")
    journal(tmp_path)
    assert has_unfinished(tmp_path)


@pytest.mark.parametrize(("status", "end"), [("completed", None), ("running", "then")])
def test_one_that_has_ended_or_whose_cluster_has_does_not(tmp_path, status, end):
    journal(tmp_path, status, end)
    assert not has_unfinished(tmp_path)


def test_the_training_of_another_server_is_left_alone(tmp_path):
    journal(tmp_path)
    lock = StateDirLock(tmp_path)
    lock.acquire()
    assert not has_unfinished(tmp_path)
    lock.release()
    assert has_unfinished(tmp_path)


def test_a_journal_that_cannot_be_read_is_for_the_engine_to_tell_of(tmp_path):
    prepare(tmp_path)
    (tmp_path / "state.db").write_bytes(b"no journal at all" * 100)
    assert not has_unfinished(tmp_path)


async def opened(settings, *, fails=False):
    """Whether the engine was opened, on a host that nobody calls."""
    times = []

    @asynccontextmanager
    async def open_engine():
        times.append(1)
        if fails:
            raise StateDirLocked("taken meanwhile")
        yield "engine"

    host = EngineHost(open_engine)
    async with host.running():
        await open_for_unfinished(host, settings)
        await anyio.lowlevel.checkpoint()
    return bool(times)


async def test_the_engine_is_opened_for_it_and_for_nothing_else(tmp_path):
    assert not await opened(Settings(state_dir=tmp_path))
    journal(tmp_path)
    assert await opened(Settings(state_dir=tmp_path))
    assert not await opened(Settings(state_dir=tmp_path, read_only=True))


async def test_an_engine_that_cannot_be_opened_does_not_end_the_server(tmp_path, caplog):
    journal(tmp_path)
    assert await opened(Settings(state_dir=tmp_path), fails=True)
    assert "taken meanwhile" in caplog.text
