"""Autonomy observes: it recommends, once per condition, and does nothing."""

import anyio
import pytest

from flow_nexus_neural.engine.autonomy.observe import EVENTS_SHOWN, attend, observe, report
from flow_nexus_neural.engine.state.autonomy_log import EVENTS_KEPT
from tests.unit.engine.building import cluster_state, live, slot


class Clock:
    now_s = 50.0

    def __call__(self):
        return self.now_s


def cluster(n=3, **more):
    made = live(cluster_state(Clock(), **more), at="then")
    for number in range(n):
        made.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    return made


def test_nothing_is_recommended_to_a_cluster_that_is_well():
    made = cluster()
    observe(made)
    found = report(made, events=True)
    assert (found.recommended, found.events) == (0, [])
    assert found.level_effective == pytest.approx(0.8)


def test_a_dead_node_is_recommended_for_restart_once_while_it_stays_dead():
    made = cluster()
    dead = made.slots["worker-1"]
    dead.move("failed")
    for _ in range(3):
        observe(made)
    found = report(made, events=True)
    assert found.recommended == 1
    (event,) = found.events
    assert (event["rule"], event["target"], event["decision"]) == (
        "restart_node",
        "worker-1",
        "recommended",
    )
    assert (event["level_required"], event["level_effective"], event["at"]) == (0.2, 0.8, "then")
    assert dead.state == "failed"
    assert report(made, events=False).events == []


def test_how_long_a_slot_has_failed_counts_from_when_it_was_seen_to():
    made = cluster()
    made.slots["worker-0"].move("failed")
    observe(made)
    assert made.state.autonomy.failed_since_s == {"worker-0": 50.0}
    made.state.clock.now_s = 70.0
    observe(made)
    assert made.state.autonomy.failed_since_s == {"worker-0": 50.0}
    made.slots["worker-0"].move("recovering")
    observe(made)
    assert made.state.autonomy.failed_since_s == {}


def test_autonomy_that_is_off_has_level_0_and_still_tells():
    made = cluster(daa_enabled=False)
    made.slots["worker-0"].move("failed")
    observe(made)
    found = report(made, events=True)
    assert (found.enabled, found.level_effective, found.recommended) == (False, 0.0, 1)


def test_old_events_make_room_and_stay_counted():
    made = cluster(1)
    for number in range(EVENTS_KEPT + 5):
        made.state.autonomy.events.append({"number": number})
        made.state.autonomy.recommended += 1
    found = report(made, events=True)
    assert found.recommended == EVENTS_KEPT + 5
    assert len(found.events) == EVENTS_SHOWN
    assert found.events[-1] == {"number": EVENTS_KEPT + 4}
    assert len(made.state.autonomy.events) == EVENTS_KEPT


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cluster_is_looked_at_after_every_change_until_it_ends(anyio_backend):
    made = cluster()
    async with anyio.create_task_group() as group:
        group.start_soon(attend, made)
        await anyio.wait_all_tasks_blocked()
        made.slots["worker-1"].move("failed")
        assert made.state.autonomy.recommended == 0  # nobody said that anything changed
        made.changed()
        await anyio.wait_all_tasks_blocked()
        assert made.state.autonomy.recommended == 1
        made.state.end("later")
        made.changed()
