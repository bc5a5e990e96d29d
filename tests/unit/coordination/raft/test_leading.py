import pytest

from flow_nexus_neural.coordination.consensus.raft import leading
from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS, HEARTBEAT_MS
from flow_nexus_neural.coordination.consensus.raft.voter import Appended, RaftVoter
from flow_nexus_neural.protocol.raft_records import Message
from tests.doubles.raft_voters import acknowledge, elected, kinds, records, voter

DIGEST = "d" * 64


def leader(*terms, voters="abc"):
    return elected(voter("a", *terms, voters=voters))


def settled(voters="abc"):
    """A leader whose first entry everybody has acknowledged."""
    a = leader(voters=voters)
    for name in sorted(set(voters) - {"a"}):
        acknowledge(a, name, a.log.last_index)
    a.take_output()
    return a


def test_a_new_leader_appends_an_entry_of_its_own_term():
    a = leader(1, 1)
    assert (a.log.last_index, a.log.last_term, a.commit) == (3, 2, 0)
    acknowledge(a, "b", 3)
    assert a.commit == 3


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting(monkeypatch):
    """Figure 8 of the paper: entry 2 of term 2 is on three of five, and may still be replaced."""

    def counted():
        a = elected(RaftVoter("a", records(1, 2, voters="abcde", term=3), seed=1))
        assert a.term == 4
        acknowledge(a, "b", 2)
        acknowledge(a, "c", 2)
        return a

    a = counted()
    assert a.commit == 0
    acknowledge(a, "b", 3)
    acknowledge(a, "c", 3)
    assert a.commit == 3
    monkeypatch.setattr(leading, "may_commit", lambda _state, _index: True)
    assert counted().commit == 2


def test_a_minority_commits_nothing():
    a = leader(voters="abcde")
    made = a.propose("record")
    acknowledge(a, "b", made.index)
    assert a.commit == 0
    acknowledge(a, "c", made.index)
    assert a.commit == made.index


def test_a_record_is_committed_only_when_a_majority_holds_its_weights():
    a = settled()
    made = a.propose("record", (DIGEST,))
    acknowledge(a, "b", made.index)
    assert a.commit == made.index - 1  # the leader itself does not hold them
    a.hold({DIGEST})
    a.tick(1)
    assert a.commit == made.index


def test_a_leader_writes_to_everybody_again_and_again():
    a = settled()
    a.tick(HEARTBEAT_MS - 1)
    assert a.take_output().outbox == ()
    a.tick(1)
    assert kinds(a.take_output()) == [("append", "b"), ("append", "c")]


def test_a_leader_to_whom_no_majority_answers_steps_down():
    a = settled(voters="abcde")
    a.tick(ELECTION_MS)
    acknowledge(a, "b", 1)
    acknowledge(a, "c", 1)
    a.tick(ELECTION_MS)
    assert a.role == "leader"
    acknowledge(a, "b", 1)
    a.tick(ELECTION_MS)
    assert a.role == "follower"
    assert a.propose("record") == "not_leader"


def test_a_whole_term_is_skipped_where_logs_differ():
    a = leader(*[1] * 3, *[5] * 40)
    a.receive(Message("append_reply", "b", "a", a.term, index=30, log_term=2))
    (sent,) = [m for m in a.take_output().outbox if m.to == "b"]
    assert (sent.index, sent.log_term) == (3, 1)
    assert [entry.index for entry in sent.entries] == list(range(4, 45))


def test_a_late_refusal_does_not_take_back_what_was_acknowledged():
    a = settled()
    for number in range(3):
        a.propose(f"record {number}")
    acknowledge(a, "b", 4)
    a.receive(Message("append_reply", "b", "a", a.term, index=0, log_term=0))
    assert a.matched["b"] == 4
    assert [m.index for m in a.take_output().outbox if m.to == "b"][-1] == 4


def test_who_is_too_far_behind_gets_a_snapshot_and_then_what_follows():
    a = settled()
    for number in range(5):
        a.propose(f"record {number}")
    acknowledge(a, "b", 6)
    a.compact(4, "state")
    a.take_output()
    a.receive(Message("append_reply", "c", "a", a.term, index=0, log_term=0))
    (snapshot,) = a.take_output().outbox
    assert (snapshot.kind, snapshot.snapshot.index, snapshot.snapshot.state) == (
        "snapshot",
        4,
        "state",
    )
    acknowledge(a, "c", 4)
    (rest,) = a.take_output().outbox
    assert [entry.index for entry in rest.entries] == [5, 6]
    with pytest.raises(ValueError, match="not committed"):
        a.compact(99, "")


def test_the_voters_change_one_at_a_time_and_only_after_an_entry_of_the_own_term(monkeypatch):
    fresh = leader(1, 1)
    assert fresh.change("abcd") == "own_term"
    # The erratum of 2015: without that rule a leader changes a configuration that another one has changed.
    with monkeypatch.context() as unruly:
        unruly.setattr(leading, "has_committed_own_term", lambda _state: True)
        assert isinstance(leader(1, 1).change("abcd"), Appended)
    a = settled()
    assert a.change("abcde") == "more_than_one"
    made = a.change("abcd")
    assert a.voters == set("abcd")
    assert a.change("abcde") == "change_pending"
    acknowledge(a, "b", made.index)
    assert a.commit < made.index  # of four voters three are a majority
    acknowledge(a, "d", made.index)
    assert a.commit == made.index
    assert isinstance(a.change("abd"), Appended)
    alone = leader(voters="a")
    assert alone.change("") == "no_voters"


def test_a_leader_that_is_removed_commits_that_without_its_own_vote_and_goes():
    a = settled()
    made = a.change("bc")
    acknowledge(a, "b", made.index)
    assert (a.role, a.commit) == ("leader", made.index - 1)
    acknowledge(a, "c", made.index)
    assert (a.role, a.commit) == ("follower", made.index)


def test_a_leader_hands_over_to_who_has_everything_and_appends_nothing_meanwhile():
    a = settled()
    made = a.propose("record")
    assert a.hand_over("b") is None
    assert ("timeout_now", "b") not in kinds(a.take_output())
    acknowledge(a, "b", made.index)
    assert ("timeout_now", "b") in kinds(a.take_output())
    assert a.propose("more") == "handing_over"
    acknowledge(a, "c", made.index)
    a.tick(ELECTION_MS)
    assert isinstance(a.propose("more"), Appended)  # it did not take over in time
    assert a.hand_over("nobody") == "no_voters"


def test_a_leader_hands_over_to_a_preferred_voter_when_nothing_is_under_way():
    a = RaftVoter("a", records(), seed=1, preferred=("c",))
    elected(a)
    acknowledge(a, "b", 1)
    a.tick(1)
    assert ("timeout_now", "c") not in kinds(a.take_output())
    acknowledge(a, "c", 1)
    a.tick(1)
    assert ("timeout_now", "c") in kinds(a.take_output())
    preferred = settled()
    preferred.prefer("a")
    preferred.tick(1)
    assert preferred.take_output().outbox == ()
