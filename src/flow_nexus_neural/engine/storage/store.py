"""Durable state, for the event loop: every write is on disk when its call returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread
from pydantic import JsonValue

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

T = TypeVar("T")


class Store:
    """The journal of a state directory, held by one server.

    Calls are served one at a time in a worker thread, all from one event loop. Cancelling one does not tear
    it: once begun it is carried out and waited for, and what it wrote is durable.
    """

    def __init__(self, lock: directory.StateDirLock, journal: Journal) -> None:
        self._lock = lock
        self._journal = journal
        self._writer = anyio.CapacityLimiter(1)

    @classmethod
    def open(cls, state_dir: Path, at: directory.FailPoint = directory.nothing_fails) -> Self:
        """Lock the directory, check the journal, remove unfinished files. Blocking.

        Args:
            state_dir: Made with mode 0700 if it is not there.
            at: Called at `before_commit` and `after_commit` of every transaction.

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
            store = cls(lock, Journal(state_dir / "state.db", at))
            undo.pop_all()
        return store

    def close(self) -> None:
        """Close the journal, then give up the lock. Idempotent. Blocking."""
        self._journal.close()
        self._lock.release()

    async def put_cluster(self, row: ClusterRow) -> None:
        """Insert or overwrite a cluster.

        This and every other write raises:
            StoreUnavailable: If the disk refuses; nothing of the call is stored.
            StoreCorrupt: If it contradicts what is stored; nothing of the call is stored.
        """
        await self._run(partial(self._journal.write, upsert(row)))

    async def put_slot(self, row: SlotRow) -> None:
        """Insert or overwrite a slot of a stored cluster."""
        await self._run(partial(self._journal.write, upsert(row)))

    async def put_training(self, row: TrainingRow) -> None:
        """Insert or overwrite a training of a stored cluster."""
        await self._run(partial(self._journal.write, upsert(row)))

    async def append_ledger(self, cluster_id: str, entry: Mapping[str, JsonValue]) -> None:
        """Append a sealed entry that continues the cluster's chain."""
        await self._run(partial(self._journal.write, append(cluster_id, entry)))

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
        """
        writes = [append(str(entry["cluster_id"]), entry) for entry in entries]
        writes += [upsert(row) for row in rows]
        writes += [name_blobs(blobs), drop_blobs(dropped)]
        await self._run(partial(self._journal.write, *writes))

    async def name_blobs(self, blobs: Iterable[tuple[str, int, str]]) -> None:
        """Record files (sha, bytes, kind) that are needed outside a version, for example a data schema."""
        await self._run(partial(self._journal.write, name_blobs(blobs)))

    async def drop_blobs(self, shas: Iterable[str]) -> None:
        """Record that files are not needed any more; only then may a sweep remove them."""
        await self._run(partial(self._journal.write, drop_blobs(shas)))

    async def load(self) -> Stored:
        """Read everything that is stored, every ledger verified.

        Raises:
            StoreCorrupt: If a row outside the ledgers cannot be read.
        """
        return await self._run(self._journal.load)

    async def _run(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._writer)
