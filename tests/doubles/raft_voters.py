"""Single raft voters, brought to a state by the messages that lead there."""

from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS
from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.raft_records import (
    HardState,
    LogEntry,
    Message,
    Records,
    Snapshot,
)

LONG_MS = 4 * ELECTION_MS
"""Longer than every election timeout."""


def records(*terms, voters="abc", term=None, vote=None):
    """Records with one empty entry for each of these terms."""
    entries = tuple(LogEntry(index, of) for index, of in enumerate(terms, 1))
    latest = max((0, *terms)) if term is None else term
    return Records(HardState(latest, vote), Snapshot(voters=tuple(voters)), entries)


def voter(me="a", *terms, **more):
    return RaftVoter(me, records(*terms, **more), seed=1)


def kinds(output):
    """Who is sent what."""
    return [(message.kind, message.to) for message in output.outbox]


def granted(candidate, kind):
    """Every other voter grants what a candidate asks for; returns what it says then."""
    for name in sorted(candidate.voters - {me_of(candidate)}):
        term = candidate.term + (kind == "prevote_reply")
        candidate.receive(Message(kind, name, me_of(candidate), term, granted=True))
    return candidate.take_output()


def me_of(candidate):
    return candidate._state.me


def elected(candidate):
    """Bring a voter to lead; what it said on the way is taken."""
    candidate.tick(LONG_MS)
    granted(candidate, "prevote_reply")
    granted(candidate, "vote_reply")
    assert candidate.role == "leader"
    return candidate


def acknowledge(leader, name, index):
    """A follower says that it has everything up to an index."""
    leader.receive(
        Message("append_reply", name, me_of(leader), leader.term, index=index, granted=True)
    )


def append(to, term, index, log_term, *entries, sender="b", commit=0):
    return Message(
        "append",
        sender,
        to,
        term,
        index=index,
        log_term=log_term,
        entries=entries,
        commit=commit,
    )
