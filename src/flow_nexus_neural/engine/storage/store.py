"""Durable state, for the event loop: every write is on disk when its call returns."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.engine.ports import REAL_PORTS, Offload, Ports
from flow_nexus_neural.engine.state.feedback import Feedback, RecordedOutcome
from flow_nexus_neural.engine.storage import state_dir as directory
from flow_nexus_neural.engine.storage.audit_rows import append_audit, read_audits
from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.commit_marker import CommitMarker, Findings, Mark
from flow_nexus_neural.engine.storage.journal import (
    Journal,
    append,
    drop_blobs,
    name_blobs,
    upsert,
)
from flow_nexus_neural.engine.storage.kept_rows import delete_kept, read_kept
from flow_nexus_neural.engine.storage.outcome_rows import (
    MAX_ROWS,
    delete_outcomes,
    kept_outcomes,
    read_outcomes,
    write_outcomes,
)
from flow_nexus_neural.engine.storage.persisted import StoredVersion
from flow_nexus_neural.engine.storage.privacy_rows import (
    StoredSpending,
    check_nothing_is_lost,
    read_spending,
)
from flow_nexus_neural.engine.storage.raft_rows import read_voters, write_voter
from flow_nexus_neural.engine.storage.reading import ledger_lengths, names_rows, owner_of
from flow_nexus_neural.engine.storage.rows import (
    ClusterRow,
    HistoryRow,
    SlotRow,
    Stored,
    StoredAudit,
    TrainingRow,
)
from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.protocol.raft_records import LogChange, Records

__all__ = ["ClusterRow", "HistoryRow", "SlotRow", "Store", "Stored", "TrainingRow"]


class Store:
    """The journal of a state directory, held by one server.

    Calls are served one at a time, all from one event loop. Cancelling one does not tear it: once begun it
    is carried out and waited for, and what it wrote is durable.
    """

    def __init__(
        self,
        lock: directory.StateDirLock,
        journal: Journal,
        marker: CommitMarker,
        run: Offload,
    ) -> None:
        self._lock = lock
        self._journal = journal
        self._marker = marker
        self._run = run
        self._complaints = _complaints(marker, sealed=journal.read(names_rows))
        if journal.complaint is not None:
            self._complaints = (journal.complaint, *self._complaints)
        self._findings = marker.compare(journal.read(ledger_lengths))
        self._nothing_is_lost = False

    @classmethod
    def open(cls, state_dir: Path, ports: Ports = REAL_PORTS) -> Self:
        """Lock the directory, check the journal, remove unfinished files. Blocking.

        Args:
            state_dir: Made if it is not there; nobody but the user may enter it afterwards.
            ports: Where its blocking work runs; the fail point is called at `before_commit` and
                `after_commit` of every transaction.

        Raises:
            StateDirLocked: If another server has it.
            StoreUnavailable: If it cannot be read or written.
            StoreCorrupt: If the journal does not verify or is of a newer version.
        """
        directory.prepare(state_dir)
        lock = directory.StateDirLock(state_dir)
        lock.acquire()
        with ExitStack() as undo:
            undo.callback(lock.release)
            directory.empty_tmp(state_dir)
            journal = Journal(state_dir / "state.db", ports.fail_point)
            undo.callback(journal.close)
            marker = CommitMarker(state_dir / MARKER)
            undo.callback(marker.close)
            store = cls(lock, journal, marker, ports.offload(1))
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the journal, then give up the lock. Idempotent. Blocking."""
        self._journal.close()
        self._marker.close()
        self._lock.release()

    async def put(self, row: ClusterRow | SlotRow | TrainingRow) -> None:
        """Insert or overwrite a row; a slot or a training needs its cluster to be stored.

        Raises:
            StoreUnavailable: If the disk refuses; nothing of the call is stored.
            StoreCorrupt: If it contradicts what is stored; nothing of the call is stored.
        """
        await self._run(self._write, [upsert(row)], _marks([], [row]))

    async def commit_version(
        self,
        entries: Sequence[Mapping[str, JsonValue]],
        rows: Sequence[ClusterRow | SlotRow | TrainingRow | HistoryRow] = (),
        *,
        blobs: Iterable[tuple[str, int, str]] = (),
        dropped: Iterable[str] = (),
        more: Sequence[Write] = (),
    ) -> None:
        """Commit a version: its ledger entries, the rows that rest on it and the blobs it names, or nothing.

        Args:
            entries: Sealed, with `cluster_id`, in order; committing one again adds nothing.
            rows: The cluster, training and round as of this version.
            blobs: (sha, bytes, kind) of files that are durable already.
            dropped: Files that are not needed any more once this is committed.
            more: Other rows of the same transaction.

        Raises:
            StoreUnavailable, StoreCorrupt: As `put`.
        """
        # An entry needs its cluster to be stored, so the rows come first.
        writes = [upsert(row) for row in rows]
        writes += [append(str(entry["cluster_id"]), entry) for entry in entries]
        writes += [name_blobs(blobs), drop_blobs(dropped), *more]
        await self._run(self._write, writes, _marks(entries, rows))

    async def write_voters(
        self, cluster_id: str, changed: Mapping[str, tuple[Records, LogChange | None]]
    ) -> None:
        """Make the records of raft voters durable, all of these or none. Raises as `put`.

        Args:
            cluster_id: Of their cluster.
            changed: By voter: its records from now on, and how its log changed.
        """
        writes = [write_voter(cluster_id, name, *change) for name, change in changed.items()]
        await self._run(self._write, writes, [])

    async def voters(self, cluster_id: str) -> Mapping[str, Records]:
        """The records of a cluster's raft voters, by name.

        Raises:
            StoreCorrupt: They are not as they were written.
        """
        return await self._run(
            self._journal.read, lambda connection: read_voters(connection, cluster_id)
        )

    async def append_audit(
        self, cluster_id: str, entries: Sequence[Mapping[str, JsonValue]]
    ) -> None:
        """Make decisions of autonomy durable, all of these or none. Raises as `put`."""
        await self._run(self._write, [append_audit(cluster_id, entries)], [])

    async def audit(self, cluster_id: str) -> StoredAudit:
        """The stored decisions of autonomy about one cluster. Raises as `load`."""
        found: Mapping[str, StoredAudit] = await self._run(
            self._journal.read, lambda connection: read_audits(connection, cluster_id)
        )
        return found.get(cluster_id, StoredAudit((), None))

    async def write_outcomes(
        self, cluster_id: str, outcomes: Sequence[RecordedOutcome], feedback: Feedback
    ) -> tuple[int, int]:
        """Make outcomes durable and what was learnt from them; the oldest that do not fit are dropped.

        Returns:
            How many outcomes of the cluster are stored now, and their bytes.

        Raises:
            StoreUnavailable, StoreCorrupt: As `put`.
        """
        kept = [(0, 0)]

        def count(connection: sqlite3.Connection) -> None:
            kept[0] = kept_outcomes(connection, cluster_id)

        writes = [write_outcomes(cluster_id, outcomes, feedback), count]
        await self._run(self._write, writes, [])
        return kept[0]

    async def outcomes(
        self, cluster_id: str, newest: int = MAX_ROWS
    ) -> tuple[list[RecordedOutcome], int]:
        """The newest outcomes of a cluster, oldest first, and how many are damaged. Raises as `load`."""
        return await self._run(self._journal.read, lambda c: read_outcomes(c, cluster_id, newest))

    async def kept_version(self, cluster_id: str, version: int) -> StoredVersion:
        """A version that can be put in force again. Raises `StoreCorrupt` where it cannot be read."""
        return await self._run(self._journal.read, lambda c: read_kept(c, cluster_id, version))

    async def delete_model(self, cluster_id: str) -> None:
        """Forget the outcomes of a cluster and its former versions. Raises as `put`."""
        writes = [delete_outcomes(cluster_id), delete_kept(cluster_id)]
        await self._run(self._write, writes, [])

    async def load(self, cluster_id: str | None = None) -> Stored:
        """Read everything that is stored, or one cluster; every ledger and every row verified.

        Raises:
            StoreCorrupt: If the journal itself cannot be read.
        """
        return await self._run(self._load, cluster_id)

    async def owner_of(self, text: str) -> str | None:
        """The cluster to which a node or a training of this id belongs. Raises as `load`."""
        return await self._run(self._journal.read, lambda connection: owner_of(connection, text))

    async def privacy_spending(self) -> list[StoredSpending]:
        """What private trainings of all clusters have spent. Raises `StoreCorrupt` where it is not known."""
        return await self._run(self._spending)

    def _load(self, cluster_id: str | None) -> Stored:
        names = {mark.cluster_id: mark.name for mark in self._marker.marks.values()}
        stored = replace(self._journal.load(cluster_id), names=names, complaints=self._complaints)
        return _with_findings(stored, self._findings)

    def _spending(self) -> list[StoredSpending]:
        if not self._nothing_is_lost:  # looked for once: from then on this server alone writes
            stored = self._load(None)
            self._journal.read(lambda connection: check_nothing_is_lost(connection, stored))
            self._nothing_is_lost = True
        return self._journal.read(read_spending)

    def _write(self, writes: Sequence[Write], marks: Sequence[Mark]) -> None:
        self._journal.write(*writes)
        if marks:
            self._marker.note(marks)


def _marks(
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[ClusterRow | SlotRow | TrainingRow | HistoryRow],
) -> list[Mark]:
    """How long the ledgers are once these entries are committed."""
    names = {row.cluster_id: row.name for row in rows if isinstance(row, ClusterRow)}
    lengths = {str(entry["cluster_id"]): int(str(entry["seq"])) + 1 for entry in entries}
    return [Mark(name, names.get(name, ""), length) for name, length in lengths.items()]


def _complaints(marker: CommitMarker, *, sealed: bool) -> tuple[str, ...]:
    if marker.damaged:
        return (f"{MARKER} is damaged: whether commits were lost cannot be told of every cluster",)
    if marker.missing and sealed:
        return (f"{MARKER} is missing: whether commits were lost cannot be told",)
    return ()


def _with_findings(stored: Stored, found: Findings) -> Stored:
    refused = dict(stored.refused)
    for cluster_id, mark in found.gone.items():
        refused.setdefault(
            cluster_id,
            f"{mark.entries} ledger entries were committed of it and nothing of it is left:"
            " state.db or state.db-wal was damaged or replaced",
        )
    older = {
        cluster_id: f"the last {mark.lost} ledger entries of this cluster are lost, for state.db or"
        " state.db-wal was damaged or replaced: this is an earlier state of it"
        for cluster_id, mark in found.older.items()
    }
    return replace(stored, refused=refused, older=older)
