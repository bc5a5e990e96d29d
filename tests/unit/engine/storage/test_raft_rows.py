"""Records of raft voters: written as they change, read back as they were, and refused when altered."""

import sqlite3

import pytest

from flow_nexus_neural.engine.storage.raft_rows import read_voters, write_voter
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.protocol.raft_records import (
    HardState,
    LogChange,
    LogEntry,
    Records,
    Snapshot,
)

DIGEST = "d" * 64
CLUSTER = ClusterRow("dnc_1", "n", "2026", None, {}, {})
EMPTY = Records(snapshot=Snapshot(voters=("a", "b", "c")))


@pytest.fixture
def anyio_backend():
    return "asyncio"


def entries(*terms, first=1):
    return tuple(
        LogEntry(index, term, "record", f"body {index}", (DIGEST,))
        for index, term in enumerate(terms, first)
    )


class Disk:
    """A voter's records in a store, brought forward step by step."""

    def __init__(self, store):
        self.store, self.records = store, EMPTY

    async def write(self, hard=None, snapshot=None, log=None):
        self.records = self.records.after(hard, snapshot, log)
        await self.store.write_voters("dnc_1", {"a": (self.records, log)})


@pytest.fixture
async def store(tmp_path):
    opened = Store.open(tmp_path)
    await opened.put(CLUSTER)
    yield opened
    opened.close()


async def test_records_are_read_back_as_they_were_written(store, tmp_path):
    disk = Disk(store)
    await disk.write()
    await disk.write(HardState(3, "b"), None, LogChange(0, entries(1, 2, 2)))
    await disk.write(None, None, LogChange(1, entries(3, 3, first=2)))
    await disk.write(None, Snapshot(2, 3, ("a", "b"), "state"), LogChange(3, entries(4, first=4)))
    await disk.write(HardState(4, None))
    assert await store.voters("dnc_1") == {"a": disk.records}
    assert disk.records.entries == (*entries(3, first=3), *entries(4, first=4))
    assert await store.voters("dnc_2") == {}
    store.close()
    again = Store.open(tmp_path)
    assert await again.voters("dnc_1") == {"a": disk.records}
    again.close()


async def test_all_voters_of_a_round_are_written_or_none(store):
    other = EMPTY.after(HardState(1, "a"), None, None)
    with pytest.raises(StoreCorrupt):  # the second names a cluster that is not stored
        store._journal.write(
            write_voter("dnc_1", "a", other, None), write_voter("dnc_9", "b", other, None)
        )
    assert await store.voters("dnc_1") == {}


ALTERATIONS = (
    "UPDATE raft_voters SET term=term+1",
    "UPDATE raft_voters SET vote='c'",
    "UPDATE raft_voters SET snapshot=replace(snapshot, '\"a\"', '\"x\"')",
    "UPDATE raft_voters SET voter='b'",
    "DELETE FROM raft_voters",
    "UPDATE raft_log SET entry=replace(entry, 'body 2', 'body 7')",
    "UPDATE raft_log SET entry='[' WHERE place=1",
    "UPDATE raft_log SET place=9 WHERE place=2",
    "DELETE FROM raft_log WHERE place=1",
)


@pytest.mark.parametrize("statement", ALTERATIONS)
async def test_a_voter_whose_rows_were_altered_is_refused(store, tmp_path, statement):
    await Disk(store).write(HardState(3, "b"), None, LogChange(0, entries(1, 2)))
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(StoreCorrupt, match="raft log of"):
        await store.voters("dnc_1")


async def test_a_row_with_a_right_digest_and_an_unknown_form_is_refused(store):
    store._journal.write(write_voter("dnc_1", "a", EMPTY, LogChange(0, entries(1, first=2))))
    with pytest.raises(StoreCorrupt, match="gap"):
        await store.voters("dnc_1")
    assert store._journal.read(lambda connection: read_voters(connection, "other")) == {}
