"""What a voter knows, and the few things that its every role does with it."""

from dataclasses import dataclass, field

from flow_nexus_neural.coordination.consensus.raft.log import RaftLog
from flow_nexus_neural.coordination.consensus.raft.quorum import majority
from flow_nexus_neural.coordination.consensus.raft.timing import Timers
from flow_nexus_neural.protocol.raft_records import HardState, LogEntry, Message
from flow_nexus_neural.vocabulary import RaftRole


@dataclass(slots=True)
class Peer:
    """What a leader knows of another voter's log.

    Attributes:
        next: Index of the first entry to send.
        match: Last entry that it acknowledged.
        active: Whether it answered since this was last counted.
    """

    next: int
    match: int = 0
    active: bool = True


@dataclass(slots=True)
class VoterState:
    """Everything of one voter; the modules beside this one are what it does in each role.

    Attributes:
        hard: Term and vote, durable before any message of `outbox` may be sent.
        commit: Last entry that is known to be committed.
        held: Digests of the weights that it holds.
        preferred: Voters that should rather lead than others.
        votes: Of the election that it holds, by voter.
        peers: As the leader: of every other voter.
        handing_to: As the leader: who is to take over; nothing is appended meanwhile.
        handing_ms: How long that has been tried.
        rest_ms: How long it does not try to hand over again.
    """

    me: str
    log: RaftLog
    hard: HardState
    timers: Timers
    role: RaftRole = "follower"
    leader: str | None = None
    commit: int = 0
    held: frozenset[str] = frozenset()
    preferred: frozenset[str] = frozenset()
    votes: dict[str, bool] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    handing_to: str | None = None
    handing_ms: int = 0
    rest_ms: int = 0
    outbox: list[Message] = field(default_factory=list)

    @property
    def term(self) -> int:
        """The latest term that it has seen."""
        return self.hard.term

    @property
    def voters(self) -> frozenset[str]:
        """The configuration in force."""
        return frozenset(self.log.voters)

    @property
    def others(self) -> list[str]:
        """All other voters, in order."""
        return sorted(self.voters - {self.me})

    @property
    def waits_longer(self) -> bool:
        """Whether others are preferred as leaders."""
        return self.me not in self.preferred and bool(self.preferred & self.voters)

    @property
    def is_alone(self) -> bool:
        """Whether its own vote is a majority."""
        return self.me in self.voters and majority(self.voters) == 1

    def send(self, message: Message) -> None:
        """Leave a message for whoever makes this step durable first."""
        self.outbox.append(message)

    def follow(self, term: int, leader: str | None) -> None:
        """Follow whoever leads in a term; a term that is new has no vote yet."""
        if term > self.term:
            self.hard = HardState(term, None)
        self.role, self.leader = "follower", leader
        self.votes, self.peers, self.handing_to = {}, {}, None
        self.timers.heard(waits_longer=self.waits_longer)

    def holds(self, entry: LogEntry) -> bool:
        """Whether it holds the weights that an entry names."""
        return self.held.issuperset(entry.needs)


def acknowledgeable(state: VoterState, last: int, committed: int) -> int:
    """The last entry up to `last` of which a voter may say that it has it.

    It must hold the weights of the last record that it acknowledges. Earlier ones are superseded: nobody
    waits for them any more, and their weights may be gone, as those of a version that was given up, or of
    all versions when every process starts anew. Nor are weights needed of what a majority has acknowledged.
    """
    acknowledged = last
    for index in range(last, committed, -1):
        entry = state.log.entry(index)
        if entry is None or entry.kind != "record":
            continue
        if state.holds(entry):
            break
        acknowledged = index - 1
    return acknowledged
