from flow_nexus_neural.coordination.consensus.raft import following, state
from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.raft_records import LogEntry, Message, Snapshot
from tests.doubles.raft_voters import append, records, voter

DIGEST, OTHER = "d" * 64, "e" * 64


def answer(follower, message):
    follower.receive(message)
    (reply,) = follower.take_output().outbox
    return reply.granted, reply.index


def test_entries_are_taken_only_after_an_entry_that_matches():
    a = voter("a", 1, 1, 2)
    assert answer(a, append("a", 5, 3, 4, LogEntry(4, 5))) == (False, 2)
    assert answer(a, append("a", 5, 9, 4)) == (False, 3)
    assert answer(a, append("a", 5, 2, 1, LogEntry(3, 5))) == (True, 3)
    assert a.log.term_at(3) == 5


def test_what_a_message_did_not_compare_is_not_acknowledged():
    a = voter("a", 1, 1, 2, 2)
    assert answer(a, append("a", 5, 1, 1, LogEntry(2, 1), commit=9)) == (True, 2)
    assert a.commit == 2


def test_a_follower_without_the_weights_does_not_acknowledge_the_record():
    a = voter("a", 1)
    new = LogEntry(2, 1, "record", "one", (DIGEST, OTHER))
    assert answer(a, append("a", 1, 1, 1, new)) == (True, 1)
    a.hold({DIGEST})
    assert answer(a, append("a", 1, 2, 1)) == (True, 1)
    a.hold({DIGEST, OTHER})
    assert answer(a, append("a", 1, 2, 1)) == (True, 2)


def test_a_record_that_a_later_one_supersedes_needs_no_weights():
    a = voter("a", 1)
    a.hold({OTHER})
    given_up = LogEntry(2, 1, "record", "one", (DIGEST,))
    assert answer(a, append("a", 1, 1, 1, given_up)) == (True, 1)
    later = LogEntry(3, 1, "record", "two", (OTHER,))
    assert answer(a, append("a", 1, 2, 1, later)) == (True, 3)
    assert answer(a, append("a", 1, 3, 1, LogEntry(4, 1))) == (True, 4)
    newest = LogEntry(5, 1, "record", "three", (DIGEST,))
    assert answer(a, append("a", 1, 4, 1, newest)) == (True, 4)


def test_records_that_a_majority_has_committed_need_no_weights_any_more():
    a = voter("a", 1)
    old = LogEntry(2, 1, "record", "one", (DIGEST,))
    new = LogEntry(3, 1, "record", "two", (OTHER,))
    assert answer(a, append("a", 1, 1, 1, old, new, commit=2)) == (True, 2)
    assert state.acknowledgeable(a._state, 3, 3) == 3


def test_a_leader_of_an_earlier_term_is_told_of_the_later_one():
    a = voter("a", 1, term=7)
    a.receive(append("a", 3, 1, 1, LogEntry(2, 3)))
    (reply,) = a.take_output().outbox
    assert (reply.granted, reply.term) == (False, 7)
    assert a.log.last_index == 1


def test_a_snapshot_takes_the_place_of_the_log_once():
    a = RaftVoter("a", records(1, 1), seed=1)
    snapshot = Snapshot(5, 3, ("a", "b"), "state")
    message = Message("snapshot", "b", "a", 4, commit=5, snapshot=snapshot)
    assert answer(a, message) == (True, 5)
    assert (a.commit, a.log.snapshot, a.voters) == (5, snapshot, {"a", "b"})
    a.receive(append("a", 4, 5, 3, LogEntry(6, 4)))
    a.take_output()
    assert answer(a, message) == (True, 5)
    assert a.log.last_index == 6


def test_a_snapshot_that_is_missing_from_its_message_changes_nothing():
    a = voter("a", 1)
    following.on_snapshot(a._state, Message("snapshot", "b", "a", 1))
    assert a.take_output().outbox == ()
