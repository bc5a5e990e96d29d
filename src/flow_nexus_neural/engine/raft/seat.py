"""A voter as the engine sees it: what is durable of it, what it last said, and what waits for it."""

from collections import deque
from dataclasses import dataclass, field

from flow_nexus_neural.protocol.messages import RaftStepped
from flow_nexus_neural.protocol.messages.raft import MAX_MESSAGES
from flow_nexus_neural.protocol.raft_records import LogChange, Message, Records

MAX_WAITING = 4 * MAX_MESSAGES
"""Messages kept for a voter; a network may lose the others."""
MAX_TEXT = 1 << 18
"""Most text of the records that arrive with one step, in characters."""


@dataclass
class Seat:
    """One voter, by the name of its slot.

    Attributes:
        records: What is durable of it.
        in_step_with: The node whose process is where the records are; another one begins from the records.
        report: What it last said; None before that, and when its process is another one.
        inbox: Messages on their way to it.
        held: The region of each digest of weights that the node holds.
        granted: Every region that the node was let use, whether or not it holds the weights in it.
        holder: The node of `held` and `granted`.
        failed_to_hold: A node that could not be given weights; it is not asked again for this version.
        silent: A node that did not answer a step in time, and when that was.
    """

    name: str
    records: Records
    in_step_with: str | None = None
    report: RaftStepped | None = None
    inbox: deque[Message] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    held: dict[str, str] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    holder: str | None = None
    failed_to_hold: str | None = None
    silent: tuple[str, float] | None = None

    @property
    def voters(self) -> tuple[str, ...]:
        """The configuration at the end of its log."""
        return self.records.voters

    @property
    def leads(self) -> bool:
        """Whether it last said that it leads."""
        return self.report is not None and self.report.role == "leader"

    @property
    def rank(self) -> tuple[int, int]:
        """Last term and index of its log, by which logs are compared."""
        entries = self.records.entries
        last = entries[-1] if entries else self.records.snapshot
        return last.term, last.index

    def lose(self) -> None:
        """Its process is gone, or may have done a step that is not durable."""
        self.in_step_with = self.report = None
        self.inbox.clear()

    def fall_silent(self, node_id: str, at_s: float) -> None:
        """A node did not answer in time: no round waits for it until it was heard again."""
        self.lose()
        self.silent = node_id, at_s

    def is_silent(self, node_id: str, heard_at_s: float) -> bool:
        """Whether nothing was heard of a node since it did not answer in time."""
        return (
            self.silent is not None and self.silent[0] == node_id and heard_at_s <= self.silent[1]
        )

    def take_inbox(self) -> tuple[Message, ...]:
        """What arrives with the next step: as much as fits into one frame, at least one message."""
        taken: list[Message] = []
        room = MAX_TEXT
        while self.inbox and len(taken) < MAX_MESSAGES:
            room -= sum(len(entry.body) for entry in self.inbox[0].entries)
            if taken and room < 0:
                break
            taken.append(self.inbox.popleft())
        return tuple(taken)

    def changed(self, report: RaftStepped) -> tuple[Records, LogChange | None] | None:
        """Its records after a step, and how its log changed; None where nothing did.

        Raises:
            ValueError: The step does not continue what is durable.
        """
        if report.hard is None and report.snapshot is None and report.log is None:
            return None
        before, hard = self.records.hard, report.hard
        if hard is not None and hard.term < before.term:
            raise ValueError(f"term {hard.term} came after {before.term}")
        if hard is not None and hard.term == before.term and before.vote not in (None, hard.vote):
            raise ValueError(f"its vote of term {hard.term} went to {before.vote} already")
        return self.records.after(report.hard, report.snapshot, report.log), report.log

    def holds(self, node_id: str, digests: frozenset[str]) -> bool:
        """Whether a node holds weights of these digests."""
        return self.holder == node_id and digests <= self.held.keys()

    def note_granted(self, node_id: str, region: str) -> None:
        """A node may use a region from now on: it is to be taken back, whatever comes of it."""
        if self.holder != node_id:
            self.holder, self.held, self.granted = node_id, {}, set()
        self.granted.add(region)

    def note_held(self, digest: str, region: str) -> None:
        """The node that was granted a region holds the weights of a digest in it."""
        self.held[digest] = region

    def take_superseded(self, digests: frozenset[str]) -> list[str]:
        """Regions without weights of these digests, which are granted and held no longer."""
        self.held = {digest: region for digest, region in self.held.items() if digest in digests}
        regions = self.granted - set(self.held.values())
        self.granted -= regions
        return sorted(regions)
