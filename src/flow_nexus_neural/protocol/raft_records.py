"""What raft voters say to each other and what has to be durable of each: plain data, bounded on the wire.

A message crosses the wire twice: out of the node that made it and, by way of the engine, into another.
The classes are stdlib dataclasses, which are cheap to make in the state machine; the bounds in their
annotations are checked by pydantic wherever one is part of a message of `protocol.messages`.

Terms and entries are those of Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm",
USENIX ATC 2014, and of Ongaro's thesis, Stanford 2014.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.plan import Name

MAX_VOTERS = 8
"""Most voters of a configuration; while one is replaced there is one more than an odd number."""
MAX_BODY_CHARACTERS = 1 << 16
MAX_BATCH = 64
"""Most entries of one message."""

Body = Annotated[str, Field(max_length=MAX_BODY_CHARACTERS)]
Voters = Annotated[tuple[Name, ...], Field(max_length=MAX_VOTERS)]
WeightsDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Needs = Annotated[tuple[WeightsDigest, ...], Field(max_length=64)]

EntryKind = Literal["noop", "record", "voters"]
MessageKind = Literal[
    "prevote",
    "prevote_reply",
    "vote",
    "vote_reply",
    "append",
    "append_reply",
    "snapshot",
    "timeout_now",
]

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of a voter's log.

    Attributes:
        index: Position; the first entry of a log has 1.
        term: Of the leader that appended it.
        kind: `record` for what is replicated, `voters` for a configuration, `noop` for what a leader appends
            when it is elected.
        body: Of a record.
        needs: Digests of the weights that a voter must hold before it acknowledges a record.
        voters: All voters from this entry on, where it is a configuration.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    index: Count
    term: Count
    kind: EntryKind = "noop"
    body: Body = ""
    needs: Needs = ()
    voters: Voters = ()


@dataclass(frozen=True, slots=True)
class HardState:
    """Term and vote: durable before anything that rests on them leaves the voter."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    term: Count = 0
    vote: Name | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What takes the place of a log up to `index`: the voters there, and what its records led to."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    index: Count = 0
    term: Count = 0
    voters: Voters = ()
    state: Body = ""


@dataclass(frozen=True, slots=True)
class LogChange:
    """A log keeps its entries up to `keep`, and goes on with these."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    keep: Count
    entries: Annotated[tuple[LogEntry, ...], Field(max_length=4096)] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of one voter to another. Which fields count depends on the kind.

    Attributes:
        term: Of the sender; the one it would like to have, in a `prevote` and in a reply that grants it.
        index: The last entry of the log, in requests for a vote; the entry before `entries`, in `append`; the
            last entry that is acknowledged, in an `append_reply` that is granted, else an entry from which
            the sender may try again.
        log_term: Term of the entry at `index`, except in a granted reply.
        commit: The leader's commit index, in `append` and `snapshot`.
        granted: In replies.
        forced: The present leader asked for this vote: its lease does not count.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    kind: MessageKind
    sender: Name
    to: Name
    term: Count
    index: Count = 0
    log_term: Count = 0
    commit: Count = 0
    granted: bool = False
    forced: bool = False
    entries: Annotated[tuple[LogEntry, ...], Field(max_length=MAX_BATCH)] = ()
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Everything that has to survive a voter: hard state, snapshot, and the log after it."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    hard: HardState = HardState()
    snapshot: Snapshot = Snapshot()
    entries: Annotated[tuple[LogEntry, ...], Field(max_length=4096)] = ()

    def after(
        self, hard: HardState | None, snapshot: Snapshot | None, log: LogChange | None
    ) -> "Records":
        """The records after a step of the voter.

        Raises:
            ValueError: The step does not continue these records.
        """
        entries = self.entries
        base = self.snapshot
        if snapshot is not None:
            if snapshot.index < base.index:
                raise ValueError(f"snapshot {snapshot.index} is older than {base.index}")
            base = snapshot
            entries = tuple(entry for entry in entries if entry.index > base.index)
        if log is not None:
            kept = tuple(entry for entry in entries if entry.index <= log.keep)
            entries = (*kept, *log.entries)
        for place, entry in enumerate(entries, base.index + 1):
            if entry.index != place:
                raise ValueError(f"log entry {entry.index} stands in place {place}")
        return Records(hard or self.hard, base, entries)

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self.entries[-1].index if self.entries else self.snapshot.index

    @property
    def voters(self) -> tuple[str, ...]:
        """The configuration in force: the last one in the log, committed or not."""
        return self._configuration()[1]

    @property
    def configured_at(self) -> int:
        """Index of that configuration, or of the snapshot that has it."""
        return self._configuration()[0]

    def entry(self, index: int) -> LogEntry | None:
        """The entry at an index, where the log has it."""
        place = index - self.snapshot.index - 1
        return self.entries[place] if 0 <= place < len(self.entries) else None

    def _configuration(self) -> tuple[int, tuple[str, ...]]:
        for entry in reversed(self.entries):
            if entry.kind == "voters":
                return entry.index, entry.voters
        return self.snapshot.index, self.snapshot.voters
