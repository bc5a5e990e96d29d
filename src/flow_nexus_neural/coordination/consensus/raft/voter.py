"""One voter of a raft cluster as a state machine: messages and elapsed time in, messages and records out.

It has no clock, no I/O and no randomness. Whoever drives it

1. tells it what arrived, what time has passed and what is asked of it,
2. takes its output and makes the records in it durable,
3. and only then sends the messages in it, and believes the commit index.

A voter whose messages left before its records were durable could, after a crash, vote twice in one term, or
miss an entry that it has acknowledged.

Source: Ongaro and Ousterhout, USENIX ATC 2014, and Ongaro's thesis: pre-vote (9.6), check quorum (6.2),
leadership transfer (3.10), changes of one voter (4.1) with the erratum of 2015. Departures: a voter
acknowledges an entry only as far as it holds the weights that the entry names, and some voters are preferred
as leaders. It tolerates voters that crash, not voters that lie.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus.raft import election, following, leading
from flow_nexus_neural.coordination.consensus.raft.leading import Appended
from flow_nexus_neural.coordination.consensus.raft.log import RaftLog
from flow_nexus_neural.coordination.consensus.raft.state import VoterState
from flow_nexus_neural.coordination.consensus.raft.timing import Timers
from flow_nexus_neural.protocol.raft_records import (
    HardState,
    LogChange,
    Message,
    Needs,
    Records,
    Snapshot,
)
from flow_nexus_neural.vocabulary import RaftRefusal, RaftRole

__all__ = ["Appended", "Output", "RaftVoter"]


@dataclass(frozen=True, slots=True)
class Output:
    """What a voter has to say since it was last asked.

    Attributes:
        hard: Term and vote, if they changed. Durable before `outbox` is sent.
        snapshot: What took the place of the beginning of its log. Likewise.
        log: How its log changed. Likewise.
        outbox: Messages to other voters.
    """

    hard: HardState | None
    snapshot: Snapshot | None
    log: LogChange | None
    outbox: tuple[Message, ...]


class RaftVoter:
    """A voter as it comes out of its records.

    Args:
        me: Its name.
        records: What was durable of it.
        seed: From it, with the name, follow its election timeouts.
        preferred: Voters that should rather lead than others.
    """

    def __init__(
        self, me: str, records: Records, seed: int, preferred: Collection[str] = ()
    ) -> None:
        self._state = VoterState(
            me=me,
            log=RaftLog(records),
            hard=records.hard,
            timers=Timers(me, seed),
            commit=records.snapshot.index,
            preferred=frozenset(preferred),
        )
        self._state.timers.heard(waits_longer=self._state.waits_longer)
        self._durable = records.hard

    @property
    def role(self) -> RaftRole:
        """What it is in its term."""
        return self._state.role

    @property
    def term(self) -> int:
        """The latest term that it has seen."""
        return self._state.term

    @property
    def leader(self) -> str | None:
        """Who leads, as far as it knows."""
        return self._state.leader

    @property
    def commit(self) -> int:
        """Last entry that it knows to be committed."""
        return self._state.commit

    @property
    def log(self) -> RaftLog:
        """Its log, to be read."""
        return self._state.log

    @property
    def voters(self) -> frozenset[str]:
        """The configuration in force."""
        return self._state.voters

    @property
    def matched(self) -> Mapping[str, int]:
        """As the leader: the last entry that each other voter acknowledged."""
        return {name: peer.match for name, peer in self._state.peers.items()}

    def hold(self, digests: Collection[str]) -> None:
        """From now on it holds the weights of these digests, and no others."""
        self._state.held = frozenset(digests)

    def prefer(self, voters: Collection[str]) -> None:
        """From now on these voters are preferred as leaders."""
        self._state.preferred = frozenset(voters)

    def tick(self, elapsed_ms: int) -> None:
        """Time has passed."""
        state = self._state
        state.timers.pass_(elapsed_ms)
        if state.role == "leader":
            leading.on_tick(state, elapsed_ms)
        elif state.timers.heard_ms >= state.timers.timeout_ms:
            election.on_timeout(state)

    def receive(self, message: Message) -> None:
        """A message has arrived, perhaps late, twice, or after one that was sent later."""
        state = self._state
        if message.kind == "prevote":
            election.on_prevote(state, message)
            return
        if message.term > state.term and not self._enters(message):
            return
        if message.term < state.term and message.kind in {"append", "snapshot"}:
            following.refuse(state, message)
        elif message.kind == "vote":
            election.on_vote(state, message)
        elif message.kind == "prevote_reply":
            election.on_prevote_reply(state, message)
        elif message.term == state.term:
            self._in_term(message)

    def propose(self, body: str, needs: Needs = ()) -> Appended | RaftRefusal:
        """Append a record, as the leader."""
        return leading.propose(self._state, body, needs)

    def change(self, voters: Collection[str]) -> Appended | RaftRefusal:
        """Append a configuration that differs in one voter, as the leader."""
        return leading.change(self._state, voters)

    def hand_over(self, to: str) -> RaftRefusal | None:
        """Let another voter lead, as the leader."""
        return leading.hand_over(self._state, to)

    def compact(self, index: int, state: str) -> None:
        """Put a snapshot in the place of the log up to an entry that is committed.

        Args:
            index: Of the last entry that goes.
            state: What the records up to it led to.

        Raises:
            ValueError: The entry is not committed here.
        """
        if index > self._state.commit:
            raise ValueError(f"entry {index} is not committed, {self._state.commit} is the last")
        self._state.log.compact(index, state)

    def take_output(self) -> Output:
        """What has happened since this was last called; the records in it are to be made durable first."""
        state = self._state
        snapshot, log = state.log.take_changes()
        hard = state.hard if state.hard != self._durable else None
        self._durable = state.hard
        outbox, state.outbox = tuple(state.outbox), []
        return Output(hard, snapshot, log, outbox)

    def _enters(self, message: Message) -> bool:
        """Enter the later term of a message; False where the message is to be ignored."""
        state = self._state
        if message.kind == "prevote_reply" and message.granted:
            return True  # a term that somebody would enter, nobody has
        if message.kind == "vote" and not message.forced and election.is_leased(state):
            return False
        state.follow(
            message.term, message.sender if message.kind in {"append", "snapshot"} else None
        )
        return True

    def _in_term(self, message: Message) -> None:
        state = self._state
        if message.kind == "vote_reply":
            election.on_vote_reply(state, message)
        elif message.kind == "append_reply":
            leading.on_append_reply(state, message)
        elif message.kind == "timeout_now":
            if state.me in state.voters and state.role != "leader":
                election.stand(state, forced=True)
        elif state.role != "leader":  # two leaders of one term there never are
            state.follow(state.term, message.sender)
            if message.kind == "append":
                following.on_append(state, message)
            else:
                following.on_snapshot(state, message)
