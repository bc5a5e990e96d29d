"""The ledger of a cluster is one chain: entries and rows come together or not at all, however many write."""

import anyio
import anyio.lowlevel
import pytest

from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row, slot_row
from flow_nexus_neural.engine.storage.ledger_writer import LedgerWriter
from flow_nexus_neural.engine.storage.row_digests import ROWS, digests_of
from flow_nexus_neural.errors import StoreUnavailable, UpdateRejected
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def note(number):
    return {"kind": "control", "event": f"note {number}"}


def version(number, parent, network="c0"):
    return {"kind": "version", "cohort": network, "version": number, "parent": parent}


async def recorded(w, *entries, rows=()):
    await w.cluster.ledger.record(entries, rows)


async def noted(w):
    """What was written after the entry of the cluster's creation."""
    created, *entries = await w.ledger()
    assert created["event"] == "created"
    return entries


async def test_each_entry_names_the_one_before_it(tmp_path):
    async with running(tmp_path, 0) as w:
        await recorded(w, note(1), note(2))
        await recorded(w, note(3))
        entries = await w.ledger()
        assert [entry["seq"] for entry in entries] == [0, 1, 2, 3]
        shas = [GENESIS, *(entry["entry_sha"] for entry in entries)]
        assert [entry["prev_sha"] for entry in entries] == shas[:-1]
        assert {entry["cluster_id"] for entry in entries} == {w.cluster_id}
        assert w.cluster.state.ledger_head.prev_sha == shas[-1]


async def test_many_writers_make_one_chain(tmp_path):
    async with running(tmp_path, 0) as w:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(recorded, w, note(number))
        entries = await noted(w)  # verified as they are read
        assert [entry["seq"] for entry in entries] == list(range(1, 13))
        assert {entry["event"] for entry in entries} == {f"note {n}" for n in range(12)}


async def test_what_could_not_be_written_leaves_the_head_where_it_was(tmp_path):
    async with running(tmp_path, 0) as w:
        await recorded(w, note(1))
        head = w.cluster.state.ledger_head
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await recorded(w, note(2))
        assert w.cluster.state.ledger_head == head
        await recorded(w, note(3))
        assert [entry["event"] for entry in await noted(w)] == ["note 1", "note 3"]


async def test_entries_and_rows_are_written_together_or_not_at_all(tmp_path):
    async with running(tmp_path, 0) as w:
        w.cluster.state.end("noon")
        row = present_cluster_row(w.cluster.state)
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await recorded(w, note(1), rows=[row])
        (stored,) = (await w.engine.context.store.load()).clusters
        assert (stored.terminated_at, await noted(w)) == (None, [])
        await recorded(w, note(1), rows=[row])
        (stored,) = (await w.engine.context.store.load()).clusters
        assert (stored.terminated_at, len(await noted(w))) == ("noon", 1)


async def test_a_row_is_made_when_its_turn_has_come(tmp_path):
    made_at = []

    async with running(tmp_path, 0) as w:
        state = w.cluster.state

        def late():
            made_at.append(state.ledger_head.next_seq)
            return present_cluster_row(state)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(recorded, w, note(number))
            await anyio.lowlevel.checkpoint()
            await w.cluster.ledger.record([note(9)], [late])
        (head,) = made_at
        entry = (await w.ledger())[head]
        assert entry["event"] == "note 9"  # nothing was written between the making and the writing


async def test_a_version_continues_its_own_network_and_no_other(tmp_path):
    async with running(tmp_path, 0) as w:
        await recorded(w, version(1, 0), version(1, 0, "c1"), version(2, 1))
        assert w.cluster.state.ledger_head.versions == {"c0": 2, "c1": 1}
        await recorded(w, version(2, 1, "c1"))
        with pytest.raises(UpdateRejected):
            await recorded(w, version(2, 1))  # a second successor of version 1: a fork
        assert w.cluster.state.ledger_head.versions == {"c0": 2, "c1": 2}
        assert len(await noted(w)) == 4


async def test_nothing_is_stored_of_a_batch_of_which_one_entry_is_refused(tmp_path):
    async with running(tmp_path, 0) as w:
        with pytest.raises(UpdateRejected):
            await recorded(w, note(1), version(1, 0), version(5, 4))
        assert await noted(w) == []
        assert w.cluster.state.ledger_head.versions == {}


async def test_the_last_entry_names_every_row_as_it_was_written(tmp_path):
    async with running(tmp_path, 1) as w:
        slot = w.slots["worker-0"]
        slot.move("suspect")
        rows = [slot_row(w.cluster_id, slot), present_cluster_row(w.cluster.state)]
        await recorded(w, note(1), note(2), rows=rows)
        first, last = (await w.ledger())[-2:]
        assert ROWS not in first
        assert last[ROWS] == digests_of(rows)
        assert set(last[ROWS]) == {"slots worker-0", "clusters"}


async def test_rows_without_an_entry_that_names_them_are_not_written(tmp_path):
    """Else the cluster would be refused when it is next read."""
    async with running(tmp_path, 0) as w:
        w.cluster.state.end("noon")
        with pytest.raises(ValueError, match="a row needs an entry"):
            await recorded(w, rows=[present_cluster_row(w.cluster.state)])
        stored = await w.engine.context.store.load()
        assert (stored.clusters[0].terminated_at, stored.refused) == (None, {})


async def test_rows_that_no_entry_names_can_be_named_as_they_are(tmp_path):
    async with running(tmp_path, 1) as w:
        digests = (await w.engine.context.store.load()).digests[w.cluster_id]
        await w.cluster.ledger.name_rows(digests)
        last = (await w.ledger())[-1]
        assert (last["kind"], last["event"], last[ROWS]) == ("control", "rows_named", digests)
        assert set(digests) == {"clusters", "slots worker-0"}


async def test_a_membership_says_who_and_why_and_stores_the_slot(tmp_path):
    async with running(tmp_path, 1) as w:
        slot = w.slots["worker-0"]
        slot.fail("killed by SIGKILL")
        await w.cluster.ledger.record_membership(slot, "failed")
        entry = (await w.ledger("membership"))[-1]
        found = {key: entry[key] for key in ("event", "slot", "node_id", "incarnation", "reason")}
        assert found == {
            "event": "failed",
            "slot": "worker-0",
            "node_id": slot.node_id,
            "incarnation": 1,
            "reason": "killed by SIGKILL",
        }
        (row,) = (await w.engine.context.store.load()).slots
        assert row.state == "failed"


async def test_the_clusters_own_row_follows_a_slot_that_serves(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        slot = w.slots["worker-1"]
        slot.move("retired")
        w.cluster.state.remove_slot(slot)
        await w.cluster.ledger.record_membership(slot, "failed")
        (row,) = (await w.engine.context.store.load()).clusters
        assert "worker-0" in str(row.state["committed"])
        assert "worker-1" not in str(row.state["committed"]["bundle"])


async def test_without_links_a_topology_has_no_edges(tmp_path):
    async with running(tmp_path, 2, init={"topology": "ring"}) as w:
        writer = LedgerWriter(w.engine.context.store, w.cluster.state, lambda: "noon")
        await writer.record_topology()
        (entry,) = await w.ledger("topology")
        assert (entry["topology"], entry["edges"], entry["at"]) == ("ring", [], "noon")
