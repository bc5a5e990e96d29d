"""A quarantined slot has no process, no edges and no part in anything, and the ledger says so."""

import pytest

from flow_nexus_neural.engine.nodes.quarantine import quarantine
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time

REASON = "proof of learning invalid: segment 3 gives another state"


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_its_process_ends_and_it_is_not_taken_for_a_failure(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("mesh")
        node, slot = w.node("worker-1"), w.slots["worker-1"]
        await quarantine(w.cluster, slot, REASON)
        assert (await node.wait_exit()).reason == "killed"
        assert (slot.state, slot.last_error, slot.handle) == ("quarantined", REASON, None)
        assert not slot.healthy
        assert slot.lost
        assert w.cluster.wiring.degree("worker-1") == 0
        status = await w.status()
        assert (status.active_nodes, status.failed_nodes) == (2, 1)
        assert any("worker-1 quarantined" in warning for warning in status.warnings)


async def test_the_ledger_names_it_with_the_reason(tmp_path):
    async with running(tmp_path, 2) as w:
        await quarantine(w.cluster, w.slots["worker-1"], REASON)
        entry = (await w.ledger("membership"))[-1]
        assert (entry["event"], entry["slot"]) == ("quarantined", "worker-1")
        assert entry["reason"] == REASON
        assert (await w.engine.context.store.load()).refused == {}


async def test_a_dead_slot_can_be_quarantined_too_and_twice_is_once(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.kill("worker-1")
        slot = w.slots["worker-1"]
        assert slot.state == "failed"
        await quarantine(w.cluster, slot, REASON)
        await quarantine(w.cluster, slot, REASON)
        assert slot.state == "quarantined"


async def test_only_a_deploy_brings_it_back(tmp_path):
    async with running(tmp_path, 2) as w:
        slot = w.slots["worker-1"]
        await quarantine(w.cluster, slot, REASON)
        training = await w.train()
        assert training.status == "completed"
        assert slot.state == "quarantined"
        report = await w.deploy(replace_node_id="worker-1", layers=None)
        assert (report.slot, slot.state, slot.incarnation) == ("worker-1", "healthy", 2)


async def test_a_store_that_fails_keeps_nobody_in(tmp_path):
    async with running(tmp_path, 2) as w:
        slot = w.slots["worker-1"]
        with w.disk.failing(JOURNAL, disk_is_full()):
            await quarantine(w.cluster, slot, REASON)
        assert (slot.state, slot.handle) == ("quarantined", None)
        assert not [e for e in await w.ledger("membership") if e["event"] == "quarantined"]
