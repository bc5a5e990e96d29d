"""What autonomy recommended: counted in full, kept up to a bound, and since when a slot has been failed."""

from flow_nexus_neural.coordination.autonomy import Action, Reported
from flow_nexus_neural.engine.state.autonomy_log import EVENTS_KEPT, AutonomyLog

RULE = "restart_node"


def action(target="worker-0", level=0.9):
    return Action(RULE, "node", target, 0.5, level, "recommended", {"failed_for_s": 12.5})


def test_a_slot_that_stays_failed_keeps_the_time_at_which_that_was_seen_first():
    log = AutonomyLog()
    log.see_failed(["worker-0"], 10.0)
    log.see_failed(["worker-0", "worker-1"], 20.0)
    assert log.failed_since_s == {"worker-0": 10.0, "worker-1": 20.0}


def test_one_that_recovered_and_fails_again_is_failed_since_then():
    log = AutonomyLog()
    log.see_failed(["worker-0"], 10.0)
    log.see_failed([], 20.0)
    assert log.failed_since_s == {}
    log.see_failed(["worker-0"], 30.0)
    assert log.failed_since_s == {"worker-0": 30.0}


def test_a_recommendation_is_kept_with_its_time_its_levels_and_its_evidence():
    log = AutonomyLog()
    memory = {(RULE, "worker-0"): Reported(3.0, holds=True)}
    log.record([action()], memory, "noon")
    assert log.memory == memory
    assert list(log.events) == [
        {
            "at": "noon",
            "rule": RULE,
            "scope": "node",
            "target": "worker-0",
            "level_required": 0.5,
            "level_effective": 0.9,
            "decision": "recommended",
            "evidence": {"failed_for_s": 12.5},
        }
    ]


def test_a_look_without_a_recommendation_still_moves_the_memory_on():
    log = AutonomyLog()
    log.record([action()], {(RULE, "worker-0"): Reported(3.0, holds=True)}, "noon")
    log.record([], {}, "later")
    assert (log.memory, log.recommended, len(log.events)) == ({}, 1, 1)


def test_the_oldest_are_forgotten_and_all_are_counted():
    log = AutonomyLog()
    n = EVENTS_KEPT + 5
    for number in range(n):
        log.record([action(f"worker-{number}")], {}, str(number))
    assert (log.recommended, len(log.events)) == (n, EVENTS_KEPT)
    assert [log.events[0]["target"], log.events[-1]["target"]] == ["worker-5", f"worker-{n - 1}"]


def test_two_clusters_share_no_event():
    one, other = AutonomyLog(), AutonomyLog()
    one.record([action()], {}, "noon")
    assert (len(other.events), other.recommended) == (0, 0)
