from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.raft_records import HardState, LogChange, LogEntry, Message
from tests.doubles.raft_voters import append, elected, records, voter


def test_a_step_says_what_must_be_durable_before_its_messages_leave():
    a = voter("a", 1, 1)
    a.receive(append("a", 4, 1, 1, LogEntry(2, 4), LogEntry(3, 4)))
    output = a.take_output()
    assert output.hard == HardState(4, None)
    assert output.log == LogChange(1, (LogEntry(2, 4), LogEntry(3, 4)))
    assert output.outbox
    silent = a.take_output()
    assert (silent.hard, silent.log, silent.snapshot, silent.outbox) == (None, None, None, ())


def test_a_voter_goes_on_from_its_records_where_it_was():
    before = records(1, 1)
    a = RaftVoter("a", before, seed=1)
    elected(a)
    a = RaftVoter("a", before, seed=1)
    a.tick(10_000)
    for kind, term in (("prevote_reply", 2), ("vote_reply", 2)):
        a.receive(Message(kind, "b", "a", term, granted=True))
    output = a.take_output()
    after = before.after(output.hard, output.snapshot, output.log)
    again = RaftVoter("a", after, seed=1)
    assert (again.term, again.role, again.leader) == (2, "follower", None)
    assert (again.log.last_index, again.log.last_term) == (3, 2)


def test_a_later_term_ends_a_leadership():
    a = elected(voter("a", 1))
    a.receive(Message("append_reply", "b", "a", a.term + 1))
    assert (a.role, a.leader) == ("follower", None)


def test_messages_of_an_earlier_term_change_nothing():
    a = elected(voter("a", 1, term=5))
    before = (a.role, a.term, a.commit, dict(a.matched))
    for kind in ("append_reply", "vote_reply", "timeout_now", "prevote_reply"):
        a.receive(Message(kind, "b", "a", 1, index=2, granted=True))
    a.receive(append("a", 2, 0, 0, LogEntry(1, 2)))
    assert (a.role, a.term, a.commit, dict(a.matched)) == before
