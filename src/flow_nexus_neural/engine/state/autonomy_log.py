"""What autonomy has decided about one cluster, and what it remembers from one look to the next."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import INTENDED, AuditEntry, sealed
from flow_nexus_neural.coordination.autonomy.observation import Finished
from flow_nexus_neural.coordination.autonomy.planner import Key, Memory, Verdict
from flow_nexus_neural.coordination.autonomy.recollection import unresolved
from flow_nexus_neural.coordination.ledger import GENESIS

EVENTS_KEPT = 50
TOTALS = "totals"
"""Field of an entry: how many decisions of each kind there have been with it."""


def _none_yet() -> dict[Verdict, int]:
    return {"executed": 0, "recommended": 0, "suppressed": 0}


@dataclass
class AutonomyLog:
    """Decisions about one cluster, and since when each slot has been failed.

    Attributes:
        planned: What the planner remembers from one look to the next.
        events: The last decisions as sealed entries, oldest first.
        unwritten: Entries that are not durable yet, oldest first.
        totals: How many decisions of each kind there were in all.
        audit_damage: What is wrong with the stored entries; None where nothing is.
        unresolved: Intentions of a former server of which no outcome is known, oldest first.
        joined: The newest incarnation of each slot that had joined when the directory was opened.
        failed_since_s: Monotonic time at which each failed slot was first seen failed.
        finished: Actions that ended since the last look.
        looks: How often the cluster was looked at.
        seen: Changes of the cluster of which the last look knew; None while nobody looks.
        busy: Actions that are being carried out.
    """

    planned: Memory = field(default_factory=dict)
    events: deque[AuditEntry] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    unwritten: list[AuditEntry] = field(default_factory=list)
    totals: dict[Verdict, int] = field(default_factory=_none_yet)
    audit_damage: str | None = None
    unresolved: list[AuditEntry] = field(default_factory=list)
    joined: Mapping[str, int] = field(default_factory=dict)
    failed_since_s: dict[str, float] = field(default_factory=dict)
    finished: list[Finished] = field(default_factory=list)
    looks: int = 0
    seen: int | None = None
    busy: tuple[Key, ...] = ()
    _next_seq: int = 0
    _last_sha: str = GENESIS

    def see_failed(self, slots: Iterable[str], now_s: float) -> None:
        """These slots are failed now; one that no longer is loses its time."""
        self.failed_since_s = {slot: self.failed_since_s.get(slot, now_s) for slot in slots}

    def clear_finished(self) -> None:
        """The planner knows of every action that ended."""
        self.finished = []

    def note_planned(self, memory: Memory) -> None:
        """The planner was asked and remembers this."""
        self.planned = memory
        self.looks += 1

    def remember(self, memory: Memory) -> None:
        """What was planned was not begun, or a former server had planned it."""
        self.planned = memory

    def note_joined(self, incarnations: Mapping[str, int]) -> None:
        """A former server had seen these incarnations join."""
        self.joined = incarnations

    def note_seen(self, changes: int | None) -> None:
        """A look that knew of so many changes is over; None when nobody looks any more."""
        self.seen = changes

    def begin_action(self, key: Key) -> None:
        """An action is being carried out."""
        self.busy = (*self.busy, key)

    def end_action(self, done: Finished) -> None:
        """An action ended."""
        self.busy = tuple(key for key in self.busy if key != (done.kind, done.target))
        self.finished.append(done)

    def intend(self, fields: Mapping[str, JsonValue]) -> int:
        """Seal into the chain that an action is about to be carried out; returns the number of the entry.

        It counts as a decision when its outcome is recorded, with this number as its `intent`.
        """
        number = self._next_seq
        self._seal(INTENDED, fields)
        return number

    def resolve(self, intent: JsonValue) -> None:
        """The outcome of an intention of a former server is recorded, as far as it is known."""
        self.unresolved = [entry for entry in self.unresolved if entry.get("seq") != intent]

    def record(self, verdict: Verdict, fields: Mapping[str, JsonValue]) -> None:
        """Seal a decision into the chain; it is durable when `note_written` says so."""
        self.totals[verdict] += 1
        self._seal(verdict, fields)

    def _seal(self, decision: str, fields: Mapping[str, JsonValue]) -> None:
        totals: dict[str, JsonValue] = {str(name): count for name, count in self.totals.items()}
        entry = sealed(
            self._last_sha,
            {"seq": self._next_seq, **fields, "decision": decision, TOTALS: totals},
        )
        self._next_seq, self._last_sha = self._next_seq + 1, str(entry["sha"])
        self.events.append(entry)
        self.unwritten.append(entry)

    def note_written(self, count: int) -> None:
        """So many of the unwritten entries are durable."""
        del self.unwritten[:count]

    def restore(
        self, entries: Sequence[AuditEntry], damage: str | None, last_seq: int | None = None
    ) -> None:
        """Go on from what was stored.

        Args:
            entries: As they were read, whether they verify or not.
            damage: What is wrong with them; None where nothing is.
            last_seq: Highest number under which one is stored, for where the last does not say so itself.
        """
        self.audit_damage = damage
        self.events.extend(entries)
        self.unresolved = unresolved(entries)
        if not entries:
            return
        last = entries[-1]
        number, sha, totals = last.get("seq"), last.get("sha"), last.get(TOTALS)
        if last_seq is not None:
            self._next_seq = last_seq + 1
        else:
            self._next_seq = number + 1 if isinstance(number, int) else len(entries)
        self._last_sha = sha if isinstance(sha, str) else GENESIS
        if isinstance(totals, dict):
            for verdict in self.totals:
                count = totals.get(verdict)
                self.totals[verdict] = count if isinstance(count, int) else 0
