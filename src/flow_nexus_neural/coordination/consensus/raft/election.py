"""How a leader is elected: pre-vote, vote, lease.

A voter that was cut off does not disturb anybody when it comes back: it asks first whether it would be
elected (pre-vote), and those who have heard from a leader lately say no (lease).
"""

from dataclasses import replace

from flow_nexus_neural.coordination.consensus.raft import leading
from flow_nexus_neural.coordination.consensus.raft.quorum import vote_result
from flow_nexus_neural.coordination.consensus.raft.state import VoterState
from flow_nexus_neural.protocol.raft_records import HardState, Message


def on_timeout(state: VoterState) -> None:
    """Nobody was heard for an election timeout: ask whether one would be elected."""
    if state.me not in state.voters:
        state.timers.heard(waits_longer=False)
    else:
        prepare(state)


def prepare(state: VoterState) -> None:
    """Ask for votes in the next term without entering it."""
    state.follow(state.term, None)
    state.role, state.votes = "precandidate", {state.me: True}
    if state.is_alone:
        stand(state)
        return
    for voter in state.others:
        state.send(_request(state, "prevote", voter, state.term + 1))


def stand(state: VoterState, *, forced: bool = False) -> None:
    """Enter the next term and ask for votes in it.

    Args:
        state: The voter's.
        forced: The present leader has asked for it, so its lease does not count.
    """
    state.follow(state.term + 1, None)
    state.hard = HardState(state.term, state.me)
    state.role, state.votes = "candidate", {state.me: True}
    if state.is_alone:
        leading.begin(state)
        return
    for voter in state.others:
        state.send(replace(_request(state, "vote", voter, state.term), forced=forced))


def on_prevote(state: VoterState, message: Message) -> None:
    """Say whether a voter would get this one's vote. Changes nothing."""
    granted = message.term > state.term and not is_leased(state) and is_up_to_date(state, message)
    term = message.term if granted else state.term
    state.send(Message("prevote_reply", state.me, message.sender, term, granted=granted))


def on_vote(state: VoterState, message: Message) -> None:
    """Give the vote of this term, once, to a voter whose log is not behind."""
    free = state.hard.vote in (None, message.sender)
    granted = message.term == state.term and free and is_up_to_date(state, message)
    if granted:
        state.hard = HardState(state.term, message.sender)
        state.timers.heard(waits_longer=state.waits_longer)
    state.send(Message("vote_reply", state.me, message.sender, state.term, granted=granted))


def on_prevote_reply(state: VoterState, message: Message) -> None:
    """Count an answer to the question whether one would be elected."""
    if state.role != "precandidate":
        return
    if message.granted and message.term != state.term + 1:
        return  # of an earlier election
    state.votes.setdefault(message.sender, message.granted)
    result = vote_result(state.voters, state.votes)
    if result == "won":
        stand(state)
    elif result == "lost":
        state.follow(state.term, None)


def on_vote_reply(state: VoterState, message: Message) -> None:
    """Count a vote."""
    if state.role != "candidate" or message.term != state.term:
        return
    state.votes.setdefault(message.sender, message.granted)
    result = vote_result(state.voters, state.votes)
    if result == "won":
        leading.begin(state)
    elif result == "lost":
        state.follow(state.term, None)


def is_up_to_date(state: VoterState, message: Message) -> bool:
    """Whether a candidate's log is not behind this voter's (USENIX ATC 2014, section 5.4.1)."""
    own = (state.log.last_term, state.log.last_index)
    return (message.log_term, message.index) >= own


def is_leased(state: VoterState) -> bool:
    """Whether there is a leader that was heard lately; a leader that knows of its majority is one itself."""
    return state.role == "leader" or (state.leader is not None and state.timers.is_leased)


def _request(state: VoterState, kind: "leading.Asked", to: str, term: int) -> Message:
    return Message(
        kind, state.me, to, term, index=state.log.last_index, log_term=state.log.last_term
    )
