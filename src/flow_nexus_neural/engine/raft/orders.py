"""What may stand in a voter's log: what the engine ordered, and nothing that a voter made up.

A record, a configuration or a snapshot begins with an order of the engine. It is first seen in the answer to
that order and is durable before any message carries it on; so whatever another voter says later has to equal
it. Only the empty entry of a new leader is a voter's own. What was committed leaves no log again, whatever
the leader of a later term says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flow_nexus_neural.protocol.digest import json_digest
from flow_nexus_neural.protocol.messages import RaftStepped
from flow_nexus_neural.protocol.messages.raft import Compacted, Proposed
from flow_nexus_neural.protocol.raft_records import LogEntry, Records, Snapshot

MOST_REMEMBERED = 4096
"""Committed entries, and what a late message may bring although no log has it any more."""


@dataclass(frozen=True)
class Order:
    """What a voter is asked for besides a step."""

    propose: Proposed | None = None
    change: tuple[str, ...] | None = None
    compact: Compacted | None = None


NOTHING = Order()


class Orders:
    """What the engine has ordered so far, as far as a voter may still come with it."""

    def __init__(self) -> None:
        self._remembered: dict[str, None] = {}
        self._committed: dict[int, int] = {}

    def check(
        self, name: str, order: Order, report: RaftStepped, durable: Mapping[str, Records]
    ) -> None:
        """Look whether all that a step adds to a voter's records was ordered.

        Args:
            name: The voter's.
            order: What it was asked for in this step.
            report: What it answered.
            durable: The records of every voter before this round.

        Raises:
            ValueError: It adds something that nobody ordered, or takes away what was committed.
        """
        own = durable[name]
        if report.snapshot is not None:
            self._check_snapshot(order, report.snapshot, own, durable)
        self._check_committed(report, own)
        term = (report.hard or own.hard).term
        owed = order.propose is not None or order.change is not None
        for entry in report.log.entries if report.log is not None else ():
            if entry.term > term:
                raise ValueError(f"log entry {entry.index} is of term {entry.term}, after {term}")
            if entry == LogEntry(entry.index, entry.term) or self._is_known(entry, durable):
                continue
            if not (owed and _is_ordered(entry, order, report)):
                raise ValueError(f"nobody ordered log entry {entry.index} ({entry.kind})")
            owed = False

    def note(self, report: RaftStepped) -> None:
        """What a step added is durable: other voters may come with it from now on."""
        if report.snapshot is not None:
            self._remember(report.snapshot)
        for entry in report.log.entries if report.log is not None else ():
            if entry.kind != "noop":
                self._remember(entry)

    def note_committed(self, entry: LogEntry) -> None:
        """An entry is committed: whoever has it keeps it until it is compacted."""
        self._committed[entry.index] = entry.term
        self._committed.pop(entry.index - MOST_REMEMBERED, None)

    def _check_committed(self, report: RaftStepped, own: Records) -> None:
        if report.log is None:
            return
        said = {entry.index: entry.term for entry in report.log.entries}
        compacted = report.snapshot.index if report.snapshot is not None else 0
        for index in range(max(report.log.keep, compacted) + 1, own.last_index + 1):
            entry = own.entry(index)
            if entry is not None and self._committed.get(index) == entry.term != said.get(index):
                raise ValueError(f"log entry {index} was committed and is taken away")

    def _check_snapshot(
        self, order: Order, snapshot: Snapshot, own: Records, durable: Mapping[str, Records]
    ) -> None:
        if any(records.snapshot == snapshot for records in durable.values()):
            return
        if _digest(snapshot) in self._remembered:
            return
        asked = order.compact
        if asked is None or _compacted(own, asked) != snapshot:
            raise ValueError(f"nobody ordered its snapshot up to {snapshot.index}")

    def _is_known(self, entry: LogEntry, durable: Mapping[str, Records]) -> bool:
        if any(records.entry(entry.index) == entry for records in durable.values()):
            return True
        return _digest(entry) in self._remembered

    def _remember(self, what: LogEntry | Snapshot) -> None:
        digest = _digest(what)
        self._remembered.pop(digest, None)
        self._remembered[digest] = None
        if len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]


def _is_ordered(entry: LogEntry, order: Order, report: RaftStepped) -> bool:
    """Whether an entry is what this step was asked to append, where it says that it did."""
    place = report.appended
    if place is None or (place.index, place.term) != (entry.index, entry.term):
        return False
    if order.propose is not None:
        asked = LogEntry(
            *(entry.index, entry.term, "record", order.propose.body), needs=order.propose.needs
        )
    else:
        voters = tuple(sorted(order.change or ()))
        asked = LogEntry(entry.index, entry.term, "voters", voters=voters)
    return entry == asked


def _compacted(records: Records, asked: Compacted) -> Snapshot | None:
    """The snapshot that these records have at an entry."""
    last = records.entry(asked.index)
    if last is None:
        return None
    voters = records.snapshot.voters
    for entry in records.entries[: asked.index - records.snapshot.index]:
        voters = entry.voters if entry.kind == "voters" else voters
    return Snapshot(asked.index, last.term, voters, asked.state)


def _digest(what: LogEntry | Snapshot) -> str:
    return json_digest(
        {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(what).items()}
    )
