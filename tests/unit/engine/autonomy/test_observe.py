"""Autonomy observes: it recommends, once per condition, and does nothing."""

import pytest

from flow_nexus_neural.engine.autonomy.observe import EVENTS_KEPT, EVENTS_SHOWN, observe, report
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.cluster import Cluster, ClusterSpec
from tests.unit.engine.building import slot


class Clock:
    now_s = 50.0

    def __call__(self):
        return self.now_s


def cluster(n=3, **more):
    made = Cluster(
        cluster_id="dnc_1",
        spec=ClusterSpec.of(InitRequest(name="x", **more), 1),
        created_at="",
        clock=Clock(),
        created_at_s=0.0,
    )
    for number in range(n):
        made.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    return made


def test_nothing_is_recommended_to_a_cluster_that_is_well():
    made = cluster()
    observe(made, "now")
    found = report(made, events=True)
    assert (found.executed, found.recommended, found.suppressed, found.events) == (0, 0, 0, [])
    assert found.level_effective == pytest.approx(0.8)


def test_a_dead_node_is_recommended_for_restart_once_while_it_stays_dead():
    made = cluster()
    dead = made.slots["worker-1"]
    dead.move("failed")
    for _ in range(3):
        observe(made, "then")
    found = report(made, events=True)
    assert (found.recommended, found.executed) == (1, 0)
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
    observe(made, "then")
    assert made.autonomy.failed_since_s == {"worker-0": 50.0}
    made.clock.now_s = 70.0
    observe(made, "later")
    assert made.autonomy.failed_since_s == {"worker-0": 50.0}
    made.slots["worker-0"].move("recovering")
    observe(made, "back")
    assert made.autonomy.failed_since_s == {}


def test_autonomy_that_is_off_has_level_0_and_still_tells():
    made = cluster(daa_enabled=False)
    made.slots["worker-0"].move("failed")
    observe(made, "then")
    found = report(made, events=True)
    assert (found.enabled, found.level_effective, found.recommended) == (False, 0.0, 1)


def test_old_events_make_room_and_stay_counted():
    made = cluster(1)
    for number in range(EVENTS_KEPT + 5):
        made.autonomy.events.append({"number": number})
        made.autonomy.recommended += 1
    found = report(made, events=True)
    assert found.recommended == EVENTS_KEPT + 5
    assert len(found.events) == EVENTS_SHOWN
    assert found.events[-1] == {"number": EVENTS_KEPT + 4}
    assert len(made.autonomy.events) == EVENTS_KEPT
