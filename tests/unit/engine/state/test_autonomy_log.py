"""What autonomy decided: sealed, counted, kept up to a bound; and since when a slot has been failed."""

from flow_nexus_neural.coordination.autonomy.audit import verify_audit
from flow_nexus_neural.coordination.autonomy.observation import Finished
from flow_nexus_neural.engine.state.autonomy_log import EVENTS_KEPT, AutonomyLog

FIELDS = {"rule": "restart_node", "target": "worker-0"}


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


def test_decisions_are_a_chain_that_waits_to_be_written():
    log = AutonomyLog()
    for verdict in ("executed", "recommended", "executed"):
        log.record(verdict, FIELDS)
    assert verify_audit(log.unwritten).ok
    assert [entry["seq"] for entry in log.events] == [0, 1, 2]
    assert log.totals == {"executed": 2, "recommended": 1, "suppressed": 0}
    log.note_written(2)
    assert [entry["seq"] for entry in log.unwritten] == [2]


def test_the_chain_and_the_counts_go_on_after_a_restart():
    before, after = AutonomyLog(), AutonomyLog()
    for _ in range(3):
        before.record("suppressed", FIELDS)
    stored = before.unwritten[1:]  # the oldest was forgotten
    after.restore(stored, None)
    after.record("executed", FIELDS)
    assert verify_audit([*stored, *after.unwritten]).ok
    assert after.totals == {"executed": 1, "recommended": 0, "suppressed": 3}
    assert [entry["seq"] for entry in after.events] == [1, 2, 3]


def test_what_is_stored_in_no_form_that_is_known_is_gone_on_from_all_the_same():
    log = AutonomyLog()
    log.restore([{"seq": "x"}], "audit entry 0 is not as it was written")
    log.record("executed", FIELDS)
    assert log.audit_damage is not None
    assert log.unwritten[0]["seq"] == 1


def test_the_oldest_are_forgotten_and_all_are_counted():
    log = AutonomyLog()
    n = EVENTS_KEPT + 5
    for _ in range(n):
        log.record("recommended", FIELDS)
    assert (log.totals["recommended"], len(log.events)) == (n, EVENTS_KEPT)
    assert log.events[0]["seq"] == 5


def test_what_is_being_carried_out_is_known_until_it_ends():
    log = AutonomyLog()
    log.begin_action(("restart_node", "worker-0"))
    log.begin_action(("early_stop", "cluster"))
    done = Finished("restart_node", "worker-0", ok=True, at_s=1.0)
    log.end_action(done)
    assert (log.busy, log.finished) == ((("early_stop", "cluster"),), [done])
    log.clear_finished()
    assert log.finished == []


def test_an_intention_counts_when_its_outcome_is_known_and_is_open_until_then():
    log, after = AutonomyLog(), AutonomyLog()
    first, second = log.intend(FIELDS), log.intend(FIELDS)
    log.record("executed", {**FIELDS, "intent": first})
    assert log.totals["executed"] == 1
    assert verify_audit(log.unwritten).ok
    after.restore(log.unwritten, None)
    assert [entry["seq"] for entry in after.unresolved] == [second]
    after.resolve(second)
    assert after.unresolved == []


def test_two_clusters_share_no_event():
    one, other = AutonomyLog(), AutonomyLog()
    one.record("executed", FIELDS)
    assert (len(other.events), other.totals["executed"]) == (0, 0)
