"""The loop: it looks after every change, acts once at a time, and no decision goes unrecorded."""

from types import SimpleNamespace

import anyio
import pytest

from flow_nexus_neural.coordination.autonomy.audit import verify_audit
from flow_nexus_neural.engine.autonomy import attend as module
from flow_nexus_neural.engine.autonomy.attend import (
    EVENTS_SHOWN,
    attend,
    audit_report,
    report,
)
from flow_nexus_neural.engine.autonomy.execute import Done
from flow_nexus_neural.engine.state.autonomy_log import EVENTS_KEPT, AutonomyLog
from flow_nexus_neural.engine.storage.rows import StoredAudit
from tests.unit.engine.autonomy.attended import cluster, looked
from tests.unit.engine.building import point, training

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def performed(monkeypatch):
    """Actions that were carried out; each succeeds and changes nothing."""
    done = []

    async def execute(of, decision):
        assert of.state.autonomy.busy == ((decision.kind, decision.target),)
        written = of.context.store.entries[-1]
        assert (written["decision"], written["target"]) == ("intended", decision.target)
        done.append((decision.kind, decision.target))
        of.state.clock.now_s += 0.25
        return Done(ok=True, outcome="as if", before={"x": 1}, after={"x": 2})

    monkeypatch.setattr(module, "execute", execute)
    return done


async def test_nothing_is_decided_about_a_cluster_that_is_well(performed):
    made = cluster()
    assert await looked(made) is None
    found = report(made, events=True)
    assert (found.executed, found.recommended, found.suppressed, found.events) == (0, 0, 0, [])
    assert found.level_effective == pytest.approx(0.8)
    assert performed == []


async def test_below_the_level_of_a_slot_its_restart_is_recommended_once(performed):
    made = cluster(autonomy=0.1)
    made.slots["worker-1"].move("failed")
    for _ in range(3):
        await looked(made)
    found = report(made, events=True)
    assert (found.executed, found.recommended) == (0, 1)
    (event,) = found.events
    assert (event["rule"], event["target"], event["decision"]) == (
        "restart_node",
        "worker-1",
        "recommended",
    )
    assert (event["level_required"], event["level_effective"], event["ts"]) == (0.2, 0.1, "then")
    assert (event["outcome"], event["duration_ms"]) == (None, None)
    assert report(made, events=False).events == []
    assert performed == []
    assert not made.slots["worker-1"].coming_back


async def test_a_restart_is_awaited_until_its_pause_is_over_and_then_recorded(performed):
    made = cluster()
    slot = made.slots["worker-1"]
    slot.move("failed")
    assert await looked(made) == 51.0
    assert (performed, slot.coming_back, slot.lost) == ([], True, False)
    made.state.clock.now_s = 51.0
    await looked(made)
    assert performed == [("restart_node", "worker-1")]
    intent, entry = made.context.store.entries
    assert (intent["decision"], intent["ok"], entry["intent"]) == ("intended", None, 0)
    assert intent["before"] == {"state": "failed", "incarnation": 1, "node_id": "node_worker-1"}
    assert (entry["decision"], entry["ok"], entry["outcome"]) == ("executed", True, "as if")
    assert (entry["before"], entry["after"], entry["duration_ms"]) == ({"x": 1}, {"x": 2}, 250.0)
    assert entry["evidence"] == {"failed_for_s": 1.0, "restarts": 0}


async def test_autonomy_that_is_off_has_level_0_and_still_tells(performed):
    made = cluster(autonomy=1.0, daa_enabled=False)
    made.slots["worker-0"].move("failed")
    made.state.clock.now_s = 1000.0
    await looked(made)
    found = report(made, events=True)
    assert (found.enabled, found.level_effective, found.recommended) == (False, 0.0, 1)
    assert (found.executed, performed) == (0, [])


async def test_nothing_is_done_while_a_decision_cannot_be_recorded(performed):
    made = cluster()
    made.slots["worker-0"].move("failed")
    made.slots["worker-1"].move("failed")
    await looked(made)
    made.state.clock.now_s = 60.0
    made.context.store.full = True
    for _ in range(3):
        assert await looked(made) == pytest.approx(61.0)
        assert performed == []
    made.context.store.full = False
    await looked(made)
    assert len(performed) == 2
    entries = made.context.store.entries
    assert verify_audit(entries).ok
    told = [(entry["decision"], entry.get("intent")) for entry in entries]
    assert told[:2] == [("intended", None), ("suppressed", 0)]
    assert told[2:] == [("intended", None), ("executed", 2), ("intended", None), ("executed", 4)]
    assert entries[1]["reason"] == "its intention could not be recorded"


async def test_a_training_is_looked_at_while_a_slow_action_is_carried_out(monkeypatch):
    made, done, go_on, running = cluster(), [], anyio.Event(), training()

    async def execute(_, decision):
        if decision.kind == "restart_node":
            await go_on.wait()
        else:
            running.steer(adapted_at=len(running.history))
        done.append(decision.kind)
        return Done(ok=True, outcome="as if")

    monkeypatch.setattr(module, "execute", execute)
    made.slots["worker-1"].move("failed")
    await looked(made)
    made.state.clock.now_s = 60.0
    async with anyio.create_task_group() as group:
        group.start_soon(attend, made)
        await anyio.wait_all_tasks_blocked()
        assert made.state.autonomy.busy == (("restart_node", "worker-1"),)
        running.history += [point(1, val_loss=1.0), point(2, val_loss=9.0)]
        run = SimpleNamespace(
            training=running, shards={}, least_workers=1, delivered=[], is_steered=True
        )
        made.begin_run(run)
        made.changed()
        await anyio.wait_all_tasks_blocked()
        assert done[0] == "adapt_learning_rate"
        made.end_run()
        made.state.end("later")
        made.changed()
        go_on.set()
    entries = made.context.store.entries
    assert [e["rule"] for e in entries if e["decision"] == "executed"][-1] == "restart_node"
    assert verify_audit(entries).ok


async def test_what_a_former_server_had_begun_is_told_once(performed):
    made = cluster(autonomy=0.1)
    left = {"rule": "restart_node", "target": "worker-1", "before": {"incarnation": 1}}
    former = AutonomyLog()
    former.intend(left)
    made.state.autonomy.restore(former.unwritten, None)
    for _ in range(2):
        async with anyio.create_task_group() as group:
            group.start_soon(attend, made)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    (entry,) = made.context.store.entries
    assert (entry["decision"], entry["intent"], entry["ok"]) == ("executed", 0, None)
    assert "the server ended" in entry["outcome"]
    assert performed == []


async def test_how_long_a_slot_has_failed_counts_from_when_it_was_seen_to():
    made = cluster(daa_enabled=False)
    made.slots["worker-0"].move("failed")
    await looked(made)
    made.state.clock.now_s = 70.0
    await looked(made)
    assert made.state.autonomy.failed_since_s == {"worker-0": 50.0}
    made.slots["worker-0"].move("recovering")
    await looked(made)
    assert made.state.autonomy.failed_since_s == {}


def test_old_events_make_room_and_stay_counted():
    made = cluster(1)
    for _ in range(EVENTS_KEPT + 5):
        made.state.autonomy.record("recommended", {})
    found = report(made, events=True)
    assert found.recommended == EVENTS_KEPT + 5
    assert len(found.events) == EVENTS_SHOWN
    assert found.events[-1]["seq"] == EVENTS_KEPT + 4


async def test_the_audit_report_is_what_is_stored_and_says_what_is_wrong_with_it():
    made = cluster(1)

    async def audit(cluster_id):
        assert cluster_id == "dnc_1"
        return StoredAudit(({"seq": 1},), "audit entry 1 is not as it was written")

    made.context.store.audit = audit
    told = await audit_report(made)
    assert (told.entries, told.intact) == ([{"seq": 1}], False)
    assert "entry 1" in told.damage


async def test_a_cluster_is_looked_at_after_every_change_until_it_ends():
    made = cluster(daa_enabled=False)
    async with anyio.create_task_group() as group:
        group.start_soon(attend, made)
        await anyio.wait_all_tasks_blocked()
        made.slots["worker-1"].move("failed")
        assert made.state.autonomy.totals["recommended"] == 0  # nobody said that anything changed
        made.changed()
        await anyio.wait_all_tasks_blocked()
        assert made.state.autonomy.totals["recommended"] == 1
        assert made.state.autonomy.seen == made.changes.count
        made.state.end("later")
        made.changed()
    assert made.state.autonomy.seen is None
