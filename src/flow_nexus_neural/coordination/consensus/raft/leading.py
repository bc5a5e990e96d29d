"""What a leader does: it appends, sends, counts what is acknowledged, and steps down when nobody answers."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from flow_nexus_neural.coordination.consensus.raft.membership import (
    Change,
    Configuration,
    MembershipRefused,
    simple,
)
from flow_nexus_neural.coordination.consensus.raft.quorum import committed_index, vote_result
from flow_nexus_neural.coordination.consensus.raft.state import Peer, VoterState, acknowledgeable
from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS, HEARTBEAT_MS
from flow_nexus_neural.protocol.raft_records import MAX_BATCH, LogEntry, Message, Needs
from flow_nexus_neural.vocabulary import RaftRefusal

Asked = Literal["prevote", "vote"]


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a leader put what it was asked to append; committed when the entry there has this term."""

    index: int
    term: int


def begin(state: VoterState) -> None:
    """Lead the term in which one was elected; an entry of the own term makes earlier ones committable."""
    state.role, state.leader, state.votes = "leader", state.me, {}
    state.timers.sent_ms = state.timers.quorum_ms = 0
    state.handing_to, state.rest_ms = None, 0
    first = state.log.last_index + 1
    state.peers = {voter: Peer(next=first) for voter in state.others}
    _append(state, LogEntry(first, state.term))


def propose(state: VoterState, body: str, needs: Needs) -> Appended | RaftRefusal:
    """Append a record; it is committed once a majority acknowledged it."""
    refused = _refusal(state)
    if refused is not None:
        return refused
    return _append(state, LogEntry(_next(state), state.term, "record", body, needs))


def change(state: VoterState, voters: Collection[str]) -> Appended | RaftRefusal:
    """Append a configuration, which is in force at once. It may differ in one voter.

    Source: Ongaro's thesis, section 4.1; with the erratum of 2015 (raft-dev, "bug in single-server membership
    changes"): only after an entry of the own term was committed.
    """
    refused = _refusal(state)
    if refused is not None:
        return refused
    if not has_committed_own_term(state):
        return "own_term"
    if state.log.configured_at > state.commit:
        return "change_pending"
    wanted = frozenset(voters)
    changes = [Change("voter", name) for name in sorted(wanted - state.voters)]
    changes += [Change("removed", name) for name in sorted(state.voters - wanted)]
    try:
        after = simple(Configuration(state.voters), changes)
    except MembershipRefused as refusal:
        return "no_voters" if refusal.refusal == "no_voters" else "more_than_one"
    for name in after.voters - state.voters - {state.me}:
        state.peers[name] = Peer(next=_next(state))
    entry = LogEntry(_next(state), state.term, "voters", voters=tuple(sorted(after.voters)))
    return _append(state, entry)


def hand_over(state: VoterState, to: str) -> RaftRefusal | None:
    """Let another voter be elected without waiting, once it has the whole log (thesis, section 3.10)."""
    refused = _refusal(state)
    if refused is not None:
        return refused
    if to not in state.peers or to not in state.voters:
        return "no_voters"
    state.handing_to, state.handing_ms = to, 0
    _send_timeout_now(state)
    return None


def on_tick(state: VoterState, elapsed_ms: int) -> None:
    """Time has passed: write to everybody, count who answers, let go of a handover that did not work."""
    state.rest_ms = max(0, state.rest_ms - elapsed_ms)
    if state.handing_to is not None:
        state.handing_ms += elapsed_ms
        if state.handing_ms >= ELECTION_MS:
            state.handing_to, state.rest_ms = None, 4 * ELECTION_MS
    if state.timers.quorum_ms >= ELECTION_MS:
        state.timers.quorum_ms = 0
        answered = {name: peer.active for name, peer in state.peers.items()}
        if vote_result(state.voters, {**answered, state.me: True}) != "won":
            state.follow(state.term, None)
            return
        for peer in state.peers.values():
            peer.active = False
    if state.timers.sent_ms >= HEARTBEAT_MS:
        state.timers.sent_ms = 0
        broadcast(state)
    count(state)  # weights may have come since
    _prefer_another(state)


def on_append_reply(state: VoterState, message: Message) -> None:
    """A voter has acknowledged entries, or says where its log differs."""
    peer = state.peers.get(message.sender)
    if state.role != "leader" or peer is None or message.term != state.term:
        return
    peer.active = True
    if message.granted:
        peer.match = max(peer.match, min(message.index, state.log.last_index))
        peer.next = max(peer.next, peer.match + 1)
        count(state)
    else:
        back = state.log.last_not_above(message.index, message.log_term)
        peer.next = max(peer.match, min(back, peer.next - 1)) + 1
    if state.role == "leader" and (not message.granted or peer.next <= state.log.last_index):
        send_append(state, message.sender)
    _send_timeout_now(state)


def count(state: VoterState) -> None:
    """Commit what a majority has acknowledged."""
    index = acknowledged_by_majority(state)
    if index <= state.commit or not may_commit(state, index):
        return
    state.commit = index
    broadcast(state)
    if state.me not in state.voters and state.log.configured_at <= state.commit:
        state.follow(state.term, None)  # removed: the others go on


def acknowledged_by_majority(state: VoterState) -> int:
    """The last entry that a majority holds, this voter's own log included if it still votes."""
    matched = {name: peer.match for name, peer in state.peers.items()}
    matched[state.me] = acknowledgeable(state, state.log.last_index, state.commit)
    return committed_index(state.voters, matched)


def may_commit(state: VoterState, index: int) -> bool:
    """Whether counting commits an entry: only one of the own term, with all before it.

    An entry of an earlier term may be on a majority and still be replaced (USENIX ATC 2014, figure 8).
    """
    return state.log.term_at(index) == state.term


def has_committed_own_term(state: VoterState) -> bool:
    """Whether an entry of the own term is committed."""
    return state.log.term_at(state.commit) == state.term


def broadcast(state: VoterState) -> None:
    """Send every other voter what it lacks, or a sign of life."""
    for voter in state.others:
        send_append(state, voter)


def send_append(state: VoterState, to: str) -> None:
    """Send a voter the entries that it lacks, or a snapshot where they are compacted."""
    peer = state.peers.setdefault(to, Peer(next=_next(state)))
    before = peer.next - 1
    term = state.log.term_at(before)
    if term is None:
        snapshot = state.log.snapshot
        state.send(
            Message("snapshot", state.me, to, state.term, commit=state.commit, snapshot=snapshot)
        )
        peer.next = snapshot.index + 1
        return
    entries = state.log.batch(peer.next, MAX_BATCH)
    state.send(
        Message(
            "append",
            state.me,
            to,
            state.term,
            index=before,
            log_term=term,
            commit=state.commit,
            entries=entries,
        )
    )
    peer.next += len(entries)  # should they be lost, the next sign of life is refused


def _append(state: VoterState, entry: LogEntry) -> Appended:
    state.log.append(entry)
    count(state)  # alone, it is a majority
    if state.role == "leader":
        broadcast(state)
    return Appended(entry.index, entry.term)


def _next(state: VoterState) -> int:
    return state.log.last_index + 1


def _refusal(state: VoterState) -> RaftRefusal | None:
    if state.role != "leader":
        return "not_leader"
    return "handing_over" if state.handing_to is not None else None


def _send_timeout_now(state: VoterState) -> None:
    to = state.handing_to
    peer = state.peers.get(to) if to is not None else None
    if to is not None and peer is not None and peer.match == state.log.last_index:
        state.send(Message("timeout_now", state.me, to, state.term))


def _prefer_another(state: VoterState) -> None:
    """Hand over to a preferred voter that has everything, when nothing is under way."""
    if state.role != "leader" or not state.waits_longer or state.handing_to or state.rest_ms:
        return
    if state.commit < state.log.last_index:
        return
    for name in sorted(state.preferred & state.voters):
        peer = state.peers.get(name)
        if peer is not None and peer.match == state.log.last_index:
            hand_over(state, name)
            return
