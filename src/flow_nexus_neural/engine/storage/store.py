"""Durable state, for the event loop: every write is on disk when its call returns."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from flow_nexus_neural.engine.ports import REAL_PORTS, Offload, Ports
from flow_nexus_neural.engine.storage import state_dir as directory
from flow_nexus_neural.engine.storage.journal import Journal, append, drop_blobs, name_blobs, upsert
from flow_nexus_neural.engine.storage.rows import (
    ClusterRow,
    HistoryRow,
    SlotRow,
    Stored,
    TrainingRow,
)

__all__ = ["ClusterRow", "HistoryRow", "SlotRow", "Store", "Stored", "TrainingRow"]


class Store:
    """The journal of a state directory, held by one server.

    Calls are served one at a time, all from one event loop. Cancelling one does not tear it: once begun it
    is carried out and waited for, and what it wrote is durable.
    """

    def __init__(self, lock: directory.StateDirLock, journal: Journal, run: Offload) -> None:
        self._lock = lock
        self._journal = journal
        self._run = run

    @classmethod
    def open(cls, state_dir: Path, ports: Ports = REAL_PORTS) -> Self:
        """Lock the directory, check the journal, remove unfinished files. Blocking.

        Args:
            state_dir: Made with mode 0700 if it is not there.
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
            store = cls(lock, journal, ports.offload(1))
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the journal, then give up the lock. Idempotent. Blocking."""
        self._journal.close()
        self._lock.release()

    async def put(self, row: ClusterRow | SlotRow | TrainingRow) -> None:
        """Insert or overwrite a row; a slot or a training needs its cluster to be stored.

        Raises:
            StoreUnavailable: If the disk refuses; nothing of the call is stored.
            StoreCorrupt: If it contradicts what is stored; nothing of the call is stored.
        """
        await self._run(self._journal.write, upsert(row))

    async def commit_version(
        self,
        entries: Sequence[Mapping[str, JsonValue]],
        rows: Sequence[ClusterRow | SlotRow | TrainingRow | HistoryRow] = (),
        *,
        blobs: Iterable[tuple[str, int, str]] = (),
        dropped: Iterable[str] = (),
    ) -> None:
        """Commit a version: its ledger entries, the rows that rest on it and the blobs it names, or nothing.

        Args:
            entries: Sealed, with `cluster_id`, in order; committing one again adds nothing.
            rows: The cluster, training and round as of this version.
            blobs: (sha, bytes, kind) of files that are durable already.
            dropped: Files that are not needed any more once this is committed.

        Raises:
            StoreUnavailable, StoreCorrupt: As `put`.
        """
        writes = [append(str(entry["cluster_id"]), entry) for entry in entries]
        writes += [upsert(row) for row in rows]
        writes += [name_blobs(blobs), drop_blobs(dropped)]
        await self._run(self._journal.write, *writes)

    async def load(self) -> Stored:
        """Read everything that is stored, every ledger verified.

        Raises:
            StoreCorrupt: If the journal itself cannot be read.
        """
        return await self._run(self._journal.load)
