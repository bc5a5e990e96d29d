"""What a follower does with what its leader sends."""

from flow_nexus_neural.coordination.consensus.raft.state import VoterState, acknowledgeable
from flow_nexus_neural.protocol.raft_records import Message


def on_append(state: VoterState, message: Message) -> None:
    """Take over entries that continue the log, and acknowledge as far as the log is known to be the leader's.

    Where the entry before them is missing or has another term, say from where the leader may try again: the
    last entry here whose term is not above that of the leader's, so that a whole term is skipped at one time.
    """
    if not state.log.matches(message.index, message.log_term):
        back = state.log.last_not_above(message.index - 1, message.log_term)
        term = state.log.term_at(back) or 0
        _reply(state, message, granted=False, index=back, log_term=term)
        return
    state.log.merge(message.entries)
    verified = message.index + len(message.entries)
    committed = min(message.commit, verified)
    state.commit = max(state.commit, committed)
    _reply(state, message, granted=True, index=acknowledgeable(state, verified, state.commit))


def on_snapshot(state: VoterState, message: Message) -> None:
    """Take a snapshot in the place of entries that the leader has no more."""
    snapshot = message.snapshot
    if snapshot is None:
        return
    if snapshot.index > state.commit:
        state.log.install(snapshot)
        state.commit = snapshot.index
    _reply(state, message, granted=True, index=state.commit)


def refuse(state: VoterState, message: Message) -> None:
    """Tell a leader of an earlier term that there is a later one."""
    _reply(state, message, granted=False)


def _reply(
    state: VoterState, message: Message, *, granted: bool, index: int = 0, log_term: int = 0
) -> None:
    state.send(
        Message(
            "append_reply",
            state.me,
            message.sender,
            state.term,
            index=index,
            log_term=log_term,
            granted=granted,
        )
    )
