"""The journal: one sqlite file, one connection, whole transactions.

Blocking; `engine.storage.store` is its face for the event loop.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.engine.ports import FailPoint, nothing_fails
from flow_nexus_neural.engine.storage.journal_errors import START_AGAIN, translated
from flow_nexus_neural.engine.storage.reading import read_stored
from flow_nexus_neural.engine.storage.rows import Stored
from flow_nexus_neural.engine.storage.salvage import salvage
from flow_nexus_neural.engine.storage.schema import (
    RESTORE,
    TABLES,
    ClusterPart,
    Write,
    check_tables,
    is_new,
    json_text,
    make_tables,
    upgrade_tables,
)
from flow_nexus_neural.engine.storage.state_dir import FILE_MODE, sync_directory, unavailable
from flow_nexus_neural.errors import StoreCorrupt

log = logging.getLogger(__name__)

T = TypeVar("T")


class Journal:
    """An open journal.

    Every write is one `BEGIN IMMEDIATE` transaction and is on disk when it returns. Use it from one thread at
    a time; which one does not matter.

    Attributes:
        complaint: What was wrong with the file, of which the readable rows are in a new one; None if nothing.
    """

    def __init__(self, path: Path, at: FailPoint = nothing_fails) -> None:
        """Open or create the journal and check it.

        Raises:
            StoreCorrupt: If the file is damaged or was written by a newer version.
            StoreUnavailable: If it cannot be opened or written.
        """
        self._at = at
        self.complaint: str | None = None
        _make_private(path)
        with ExitStack() as undo, translated("open the journal"):
            self._connection = _connected(path)
            undo.callback(self.close)
            verdict = self._verdict()
            if verdict != "ok":
                self.complaint = self._salvaged(path, verdict)
            upgrade_tables(self._connection)
            check_tables(self._connection)
            self._write_back()
            undo.pop_all()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._connection.close()

    def write(self, *writes: Write) -> None:
        """Apply all of them or none; durable on return.

        Raises:
            StoreUnavailable: If the disk refuses, for example because it is full.
            StoreCorrupt: If the rows contradict what is stored.
        """
        with translated("write to the journal"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for write in writes:
                    write(self._connection)
                self._at("before_commit")
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        self._at("after_commit")
        self._write_back()

    def load(self, cluster_id: str | None = None) -> Stored:
        """Read everything, or one cluster, and verify ledgers and rows.

        A row that cannot be read is left out, and its cluster is refused.

        Raises:
            StoreCorrupt: If the file itself cannot be read.
        """
        return self.read(lambda connection: read_stored(connection, cluster_id))

    def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Answer a question from one state of the journal. Raises as `load`."""
        with translated("read the journal"):
            self._connection.execute("BEGIN")
            try:
                return question(self._connection)
            finally:
                self._connection.execute("ROLLBACK")

    def _write_back(self) -> None:
        """Bring what was committed from the log into the database and empty the log.

        Each commit is in the log for a moment only, so that damage to the log cannot undo many. Where it
        fails the commit is durable all the same, in the log.
        """
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as failure:
            log.warning("state.db-wal could not be written back: %s", failure)

    def _salvaged(self, path: Path, verdict: str) -> str:
        """Go on with a new file that has the readable rows; returns what to say. Raises `StoreCorrupt`."""
        self._connection.close()
        fresh = path.with_name(f"{path.name}.salvaged")
        if not salvage(path, fresh):
            raise StoreCorrupt(f"state.db is damaged: {verdict}", hint=RESTORE)
        kept = next(
            place
            for n in count(1)
            if not (place := path.with_name(f"{path.name}.damaged-{n}")).exists()
        )
        path.rename(kept)
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        fresh.replace(path)
        sync_directory(path.parent)
        self._connection = _connected(path)
        if self._verdict() != "ok":
            raise StoreCorrupt(f"state.db is damaged: {verdict}", hint=RESTORE)
        complaint = (
            f"state.db was damaged ({verdict}): what can be read of it is in a new one, clusters that lost"
            f" rows are refused, and the damaged file is kept as {kept.name}"
        )
        log.error("%s", complaint)
        return complaint

    def _verdict(self) -> str:
        """What sqlite says of the file, `ok` when it is whole."""
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA foreign_keys=ON")
        if is_new(self._connection):
            make_tables(self._connection)
        try:
            verdict = str(run("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as failure:
            verdict = str(failure)
        return verdict if verdict == "ok" else self._rebuilt(verdict)

    def _rebuilt(self, verdict: str) -> str:
        """Make the indexes anew, which hold nothing of their own; returns the new verdict."""
        log.error("state.db is damaged, its indexes are made anew: %s", verdict)
        try:
            self._connection.execute("REINDEX")
            return str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error:
            return verdict


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    return connection


def upsert(row: ClusterPart) -> Write:
    """Insert a row, or overwrite the one with its key."""
    table = TABLES[type(row)]
    updates = ", ".join(
        f"{name}=excluded.{name}" for name in table.columns if name not in table.keys
    )
    statement = (
        f"INSERT INTO {table.name} ({', '.join(table.columns)})"  # noqa: S608
        f" VALUES ({', '.join('?' * len(table.columns))})"
        f" ON CONFLICT ({', '.join(table.keys)}) DO UPDATE SET {updates}"
    )
    values = table.values(row)
    return lambda connection: _execute(connection, statement, values)


def append(cluster_id: str, entry: Mapping[str, JsonValue]) -> Write:
    """Add a sealed ledger entry; one that is stored already is left as it is.

    The write raises `StoreCorrupt` if the entry does not continue the stored chain.
    """

    def write(connection: sqlite3.Connection) -> None:
        same = "SELECT 1 FROM ledger WHERE cluster_id=? AND seq=? AND entry_sha=?"
        key = (cluster_id, entry["seq"], entry["entry_sha"])
        if connection.execute(same, key).fetchone() is not None:
            return
        last = connection.execute(
            "SELECT seq, entry_sha FROM ledger WHERE cluster_id=? ORDER BY seq DESC LIMIT 1",
            (cluster_id,),
        ).fetchone()
        seq, prev_sha = (-1, GENESIS) if last is None else last
        follows = entry["seq"] == seq + 1 and entry["prev_sha"] == prev_sha
        if not follows or entry["cluster_id"] != cluster_id:
            raise StoreCorrupt(
                f"ledger entry {entry['seq']} of {cluster_id} does not continue entry {seq}",
                hint=START_AGAIN,
            )
        connection.execute(
            "INSERT INTO ledger (cluster_id, seq, entry_sha, body) VALUES (?, ?, ?, ?)",
            (*key, json_text(entry)),
        )

    return write


def name_blobs(blobs: Iterable[tuple[str, int, str]]) -> Write:
    """Record that files of (sha, bytes, kind) are needed. Naming one twice is allowed."""
    values = list(blobs)
    return lambda connection: _execute_many(
        connection, "INSERT OR IGNORE INTO blobs (sha, nbytes, kind) VALUES (?, ?, ?)", values
    )


def drop_blobs(shas: Iterable[str]) -> Write:
    """Record that these files are not needed any more."""
    values = [(sha,) for sha in shas]
    return lambda connection: _execute_many(connection, "DELETE FROM blobs WHERE sha=?", values)


def _execute(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> None:
    connection.execute(statement, values)


def _execute_many(
    connection: sqlite3.Connection, statement: str, values: Sequence[Sequence[Any]]
) -> None:
    connection.executemany(statement, values)


def _make_private(path: Path) -> None:
    """Make the file, or its mode, before sqlite opens it: sqlite gives the log the mode of the database.

    Raises:
        StoreUnavailable: If that is not possible.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if file.exists():
                file.chmod(FILE_MODE)
    except OSError as failure:
        raise unavailable("open the journal", failure) from failure


def _text(content: bytes) -> str:
    """A text that is none any more is read all the same: its row's digest tells that it was altered."""
    return content.decode("utf-8", "replace")
