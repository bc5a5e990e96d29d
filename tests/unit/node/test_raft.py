import numpy as np
import pytest

from flow_nexus_neural.node.raft import RaftSeat
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import RaftHold, RaftStep
from flow_nexus_neural.protocol.messages.raft import Compacted, Proposed
from flow_nexus_neural.protocol.raft_records import Message, Records, Snapshot
from tests.doubles.linear_service import linear_plan

ALONE = Records(snapshot=Snapshot(voters=("worker-0",)))
STATE = {"params": np.arange(4, dtype="f4"), "buffers": np.zeros(0, "f4")}
DIGEST = weights_digest(linear_plan(), STATE["params"], STATE["buffers"])


def step(seat, elapsed_ms=0, **more):
    return seat.step(RaftStep(voter="worker-0", seed=1, elapsed_ms=elapsed_ms, **more))


def leader():
    seat = RaftSeat()
    step(seat, 10_000, restore=ALONE)
    return seat


def test_a_node_without_records_is_no_voter():
    with pytest.raises(LookupError, match="its records are needed"):
        step(RaftSeat())


def test_a_step_says_what_changed_and_nothing_twice():
    seat = RaftSeat()
    first = step(seat, 10_000, restore=ALONE)
    assert (first.role, first.term, first.commit, first.last) == ("leader", 1, 1, 1)
    assert first.hard.vote == "worker-0"
    assert [entry.kind for entry in first.log.entries] == ["noop"]
    again = step(seat)
    assert (again.hard, again.log, again.snapshot, again.outbox) == (None, None, None, ())


def test_a_voter_that_is_restored_forgets_what_was_not_durable():
    seat = leader()
    step(seat, propose=Proposed(body="lost"))
    back = step(seat, restore=ALONE)
    assert (back.role, back.term, back.last) == ("follower", 0, 0)


def test_only_weights_whose_digest_was_computed_here_are_held_and_only_while_granted():
    seat = leader()
    held = seat.hold(RaftHold(region="weights", plan=linear_plan()), STATE)
    assert held.digest == DIGEST
    made = step(seat, propose=Proposed(body="one", needs=(DIGEST,)))
    assert step(seat).commit == made.appended.index
    seat.forget(["weights"])
    step(seat, propose=Proposed(body="two", needs=(DIGEST,)))
    assert step(seat).commit == made.appended.index


def test_altered_weights_have_another_digest():
    altered = {**STATE, "params": STATE["params"] + 1}
    seat = leader()
    assert seat.hold(RaftHold(region="weights", plan=linear_plan()), altered).digest != DIGEST
    made = step(seat, propose=Proposed(body="one", needs=(DIGEST,)))
    assert step(seat, 100).commit < made.appended.index


def test_what_is_asked_is_done_or_refused():
    seat = leader()
    assert step(seat, change=()).refused == "no_voters"
    changed = step(seat, change=("worker-0", "worker-1"))
    assert changed.appended.index == 2
    assert step(seat, change=("worker-0",)).refused == "change_pending"
    assert {m.to for m in changed.outbox} == {"worker-1"}
    follower = RaftSeat()
    step(follower, restore=Records(snapshot=Snapshot(voters=("worker-0", "worker-1", "worker-2"))))
    assert step(follower, propose=Proposed(body="one")).refused == "not_leader"


def test_a_log_is_compacted_with_the_state_that_the_engine_knows():
    seat = leader()
    made = step(seat, propose=Proposed(body="one"))
    report = step(seat, compact=Compacted(index=made.appended.index, state="one"))
    assert (report.snapshot.index, report.snapshot.state) == (2, "one")


def test_messages_arrive_before_time_passes():
    seat = RaftSeat()
    records = Records(snapshot=Snapshot(voters=("worker-0", "worker-1", "worker-2")))
    step(seat, restore=records)
    ping = Message("append", "worker-1", "worker-0", 4)
    assert step(seat, 400, inbox=(ping,)).leader == "worker-1"
    # Its timeout began with the message.
    assert step(seat, 400, inbox=(ping,)).role == "follower"
