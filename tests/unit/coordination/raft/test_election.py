import pytest

from flow_nexus_neural.coordination.consensus.raft import election
from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS, Timers
from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.raft_records import HardState, Message, Records
from tests.doubles.raft_voters import (
    LONG_MS,
    append,
    elected,
    granted,
    kinds,
    records,
    voter,
)


def test_a_voter_asks_before_it_enters_a_term():
    a = voter("a", 1, 1)
    a.tick(LONG_MS)
    output = a.take_output()
    assert kinds(output) == [("prevote", "b"), ("prevote", "c")]
    assert (output.outbox[0].term, output.outbox[0].index, output.outbox[0].log_term) == (2, 2, 1)
    assert output.hard is None
    assert a.term == 1
    asked = granted(a, "prevote_reply")
    assert kinds(asked)[:2] == [("vote", "b"), ("vote", "c")]
    assert asked.hard == HardState(2, "a")


def test_a_voter_that_was_refused_stays_in_its_term_however_often_it_asks():
    a = voter("a", 1, 1)
    for _ in range(20):
        a.tick(LONG_MS)
        for name in "bc":
            a.receive(Message("prevote_reply", name, "a", 1, granted=False))
    assert (a.term, a.role) == (1, "follower")


def test_a_granted_prevote_of_an_earlier_term_counts_for_nothing():
    a = voter("a", 1, 1)
    a.tick(LONG_MS)
    a.receive(Message("prevote_reply", "b", "a", 1, granted=True))
    assert a.role == "precandidate"


def test_a_vote_is_given_once_in_a_term_also_over_a_crash():
    ask = {name: Message("vote", name, "a", 5, index=9, log_term=4) for name in "bc"}
    before = records(1, 1)
    a = RaftVoter("a", before, seed=1)
    a.receive(ask["b"])
    output = a.take_output()
    assert output.outbox == (Message("vote_reply", "a", "b", 5, granted=True),)
    after = before.after(output.hard, output.snapshot, output.log)
    again = RaftVoter("a", after, seed=1)
    again.receive(ask["c"])
    again.receive(ask["b"])
    replies = again.take_output().outbox
    assert [(reply.to, reply.granted) for reply in replies] == [("c", False), ("b", True)]
    # Where the vote is not durable, two are elected in one term.
    forgetful = RaftVoter("a", before.after(HardState(5, None), None, None), seed=1)
    forgetful.receive(ask["c"])
    assert forgetful.take_output().outbox[0].granted


@pytest.mark.parametrize(
    ("term", "index", "expected"), [(2, 3, True), (3, 1, True), (2, 2, False), (1, 9, False)]
)
def test_only_a_candidate_whose_log_is_not_behind_gets_a_vote(term, index, expected):
    for kind in ("prevote", "vote"):
        a = voter("a", 1, 2, 2)
        a.receive(Message(kind, "b", "a", 7, index=index, log_term=term))
        assert a.take_output().outbox[0].granted is expected


def test_who_has_heard_a_leader_lately_lets_nobody_disturb_it():
    a = voter("a", 1)
    a.receive(append("a", 1, 1, 1))
    a.take_output()
    a.tick(ELECTION_MS - 1)
    a.receive(Message("vote", "c", "a", 9, index=9, log_term=9))
    assert (a.take_output().outbox, a.term) == ((), 1)
    a.receive(Message("prevote", "c", "a", 9, index=9, log_term=9))
    assert not a.take_output().outbox[0].granted
    a.receive(Message("vote", "c", "a", 9, index=9, log_term=9, forced=True))
    assert a.take_output().outbox[0].granted
    later = voter("a", 1)
    later.receive(append("a", 1, 1, 1))
    later.take_output()
    later.tick(ELECTION_MS)
    later.take_output()
    later.receive(Message("vote", "c", "a", 9, index=9, log_term=9))
    assert later.take_output().outbox[-1].granted


def test_a_voter_that_is_asked_to_hurry_stands_at_once_and_says_so():
    a = voter("a", 1)
    a.receive(Message("timeout_now", "b", "a", 1))
    votes = a.take_output().outbox
    assert [(m.kind, m.term, m.forced) for m in votes] == [("vote", 2, True)] * 2


def test_a_voter_alone_leads_by_its_own_vote_and_commits_by_its_own_log():
    a = voter("a", voters="a")
    a.tick(LONG_MS)
    assert (a.role, a.term, a.commit) == ("leader", 1, 1)


def test_who_is_no_voter_never_asks_for_votes():
    for outsider in (voter("d"), RaftVoter("d", Records(), seed=1)):
        outsider.tick(LONG_MS)
        outsider.tick(LONG_MS)
        assert (outsider.role, outsider.take_output().outbox) == ("follower", ())


def test_election_timeouts_differ_between_voters_and_follow_from_the_seed():
    def drawn(name, seed, *, longer=False):
        timers, found = Timers(name, seed), []
        for _ in range(20):
            timers.heard(waits_longer=longer)
            found.append(timers.timeout_ms)
        return found

    assert drawn("a", 1) == drawn("a", 1)
    assert drawn("a", 1) != drawn("b", 1)
    assert drawn("a", 1) != drawn("a", 2)
    assert all(ELECTION_MS <= ms < 2 * ELECTION_MS for ms in drawn("a", 1))
    assert all(2 * ELECTION_MS <= ms < 3 * ELECTION_MS for ms in drawn("a", 1, longer=True))


def test_a_leader_that_knows_of_its_majority_has_a_lease_itself():
    a = elected(voter("a"))
    assert election.is_leased(a._state)
    a.receive(Message("vote", "b", "a", a.term + 5, index=99, log_term=99))
    assert a.role == "leader"
