"""A voter's log: entries after a snapshot, and which of them changed since anybody asked."""

from collections.abc import Sequence

from flow_nexus_neural.protocol.raft_records import LogChange, LogEntry, Records, Snapshot

BATCH_CHARACTERS = 1 << 16
"""Most text of one batch of entries; one entry alone may be as long as an entry may be."""


class RaftLog:
    """The log of one voter.

    Attributes:
        snapshot: What came before the first entry.
    """

    def __init__(self, records: Records) -> None:
        self.snapshot = records.snapshot
        self._entries = list(records.entries)
        self._configurations = _configurations(self.snapshot, self._entries)
        self._changed_from: int | None = None
        self._snapshot_changed = False

    @property
    def last_index(self) -> int:
        """Index of the last entry, or of the snapshot where there is none."""
        return self.snapshot.index + len(self._entries)

    @property
    def last_term(self) -> int:
        """Term of the last entry, or of the snapshot where there is none."""
        return self._entries[-1].term if self._entries else self.snapshot.term

    @property
    def voters(self) -> tuple[str, ...]:
        """The last configuration, which is in force as soon as it stands in the log."""
        return self._configurations[-1][1]

    @property
    def configured_at(self) -> int:
        """Index of the last configuration."""
        return self._configurations[-1][0]

    def term_at(self, index: int) -> int | None:
        """Term of an entry; None where it is compacted or not there yet."""
        if index == self.snapshot.index:
            return self.snapshot.term
        entry = self.entry(index)
        return None if entry is None else entry.term

    def entry(self, index: int) -> LogEntry | None:
        """An entry, where the log has it."""
        place = index - self.snapshot.index - 1
        return self._entries[place] if 0 <= place < len(self._entries) else None

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at `index` has this term; one before the snapshot was committed, so it has."""
        return index < self.snapshot.index or self.term_at(index) == term

    def batch(self, first: int, limit: int) -> tuple[LogEntry, ...]:
        """Entries from `first` on, at most `limit` and at most `BATCH_CHARACTERS` of text, at least one."""
        chosen: list[LogEntry] = []
        room = BATCH_CHARACTERS
        for entry in self._entries[first - self.snapshot.index - 1 :][:limit]:
            room -= len(entry.body)
            if chosen and room < 0:
                break
            chosen.append(entry)
        return tuple(chosen)

    def append(self, entry: LogEntry) -> None:
        """Add an entry at the end."""
        self._entries.append(entry)
        if entry.kind == "voters":
            self._configurations.append((entry.index, entry.voters))
        self._note_change(entry.index)

    def merge(self, entries: Sequence[LogEntry]) -> None:
        """Take over entries that follow one that matches.

        Entries that are there already stay, and what follows them: a message that is late or came twice takes
        nothing away. From the first entry on that has another term the log is replaced.
        """
        for entry in entries:
            if entry.index <= self.snapshot.index or self.term_at(entry.index) == entry.term:
                continue
            if entry.index <= self.last_index:
                self.truncate_after(entry.index - 1)
            self.append(entry)

    def truncate_after(self, index: int) -> None:
        """Forget every entry after `index`."""
        del self._entries[index - self.snapshot.index :]
        while self._configurations[-1][0] > index:
            self._configurations.pop()
        self._note_change(index + 1)

    def last_not_above(self, index: int, term: int) -> int:
        """The last index up to `index` whose term is not above `term`, or one that is compacted."""
        index = min(index, self.last_index)
        while index > self.snapshot.index and (self.term_at(index) or 0) > term:
            index -= 1
        return index

    def compact(self, index: int, state: str) -> None:
        """Put a snapshot in the place of the entries up to `index`, all of which are committed.

        Raises:
            ValueError: There is no such entry.
        """
        if index <= self.snapshot.index:
            return
        term = self.term_at(index)
        if term is None:
            raise ValueError(f"there is no entry {index} to compact up to")
        voters = [voters for at, voters in self._configurations if at <= index][-1]
        self._replace(Snapshot(index, term, voters, state), index - self.snapshot.index)

    def install(self, snapshot: Snapshot) -> None:
        """Take a leader's snapshot; entries after it stay only if they continue it."""
        if self.term_at(snapshot.index) == snapshot.term:
            self._replace(snapshot, snapshot.index - self.snapshot.index)
        else:
            self._replace(snapshot, len(self._entries))
            self._note_change(snapshot.index + 1)

    def take_changes(self) -> tuple[Snapshot | None, LogChange | None]:
        """What has to be made durable since this was last asked."""
        snapshot = self.snapshot if self._snapshot_changed else None
        change = None
        if self._changed_from is not None:
            keep = max(self._changed_from - 1, self.snapshot.index)
            change = LogChange(keep, tuple(self._entries[keep - self.snapshot.index :]))
        self._snapshot_changed, self._changed_from = False, None
        return snapshot, change

    def _replace(self, snapshot: Snapshot, n_entries: int) -> None:
        """Put a snapshot in the place of the first entries."""
        self.snapshot, self._entries = snapshot, self._entries[n_entries:]
        self._configurations = _configurations(snapshot, self._entries)
        self._snapshot_changed = True

    def _note_change(self, index: int) -> None:
        if self._changed_from is None or index < self._changed_from:
            self._changed_from = index


def _configurations(
    snapshot: Snapshot, entries: Sequence[LogEntry]
) -> list[tuple[int, tuple[str, ...]]]:
    """Index and voters of every configuration, the snapshot's first."""
    in_log = [(entry.index, entry.voters) for entry in entries if entry.kind == "voters"]
    return [(snapshot.index, snapshot.voters), *in_log]
