"""The journal: one sqlite file, one connection, whole transactions.

Blocking; `engine.storage.store` is its face for the event loop.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import GENESIS, verify_chain
from flow_nexus_neural.engine.storage.rows import (
    BlobRow,
    ClusterRow,
    HistoryRow,
    SlotRow,
    Stored,
    TrainingRow,
)
from flow_nexus_neural.engine.storage.state_dir import FILE_MODE, FailPoint, nothing_fails
from flow_nexus_neural.errors import ShuttingDown, StoreCorrupt, StoreUnavailable
from flow_nexus_neural.protocol.digest import canonical_json

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE clusters (
    cluster_id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at TEXT NOT NULL, terminated_at TEXT,
    spec TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE slots (
    cluster_id TEXT NOT NULL REFERENCES clusters, slot TEXT NOT NULL, node_id TEXT NOT NULL,
    incarnation INTEGER NOT NULL, pid INTEGER, state TEXT NOT NULL, spec TEXT NOT NULL,
    PRIMARY KEY (cluster_id, slot)
) STRICT;
CREATE TABLE trainings (
    training_id TEXT PRIMARY KEY, cluster_id TEXT NOT NULL REFERENCES clusters,
    ordinal INTEGER NOT NULL, status TEXT NOT NULL, spec TEXT NOT NULL, progress TEXT NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, error TEXT,
    UNIQUE (cluster_id, ordinal)
) STRICT;
CREATE TABLE ledger (
    cluster_id TEXT NOT NULL REFERENCES clusters, seq INTEGER NOT NULL, entry_sha TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (cluster_id, seq)
) STRICT;
CREATE TABLE history (
    training_id TEXT NOT NULL REFERENCES trainings, cluster_id TEXT NOT NULL,
    round_number INTEGER NOT NULL, point TEXT NOT NULL,
    PRIMARY KEY (training_id, round_number)
) STRICT;
CREATE TABLE blobs (sha TEXT PRIMARY KEY, nbytes INTEGER NOT NULL, kind TEXT NOT NULL) STRICT;
"""

Write = Callable[[sqlite3.Connection], None]


class Journal:
    """An open journal.

    Every write is one `BEGIN IMMEDIATE` transaction and is on disk when it returns. Use it from one thread at
    a time; which one does not matter.
    """

    def __init__(self, path: Path, at: FailPoint = nothing_fails) -> None:
        """Open or create the journal and check it.

        Raises:
            StoreCorrupt: If the file is damaged or was written by a newer version.
            StoreUnavailable: If it cannot be opened or written.
        """
        self._at = at
        with ExitStack() as undo, _translated("open the journal"):
            self._connection = sqlite3.connect(
                path, timeout=5.0, isolation_level=None, check_same_thread=False
            )
            undo.callback(self._connection.close)
            self._check()
            path.chmod(FILE_MODE)
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
        with _translated("write to the journal"):
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

    def load(self) -> Stored:
        """Read everything and verify every ledger.

        Raises:
            StoreCorrupt: If a row cannot be read at all.
        """
        with _translated("read the journal"):
            self._connection.execute("BEGIN")
            try:
                ledgers, refused = _ledgers(self._connection)
                return Stored(
                    clusters=tuple(_rows(self._connection, ClusterRow)),
                    slots=tuple(_rows(self._connection, SlotRow)),
                    trainings=tuple(_rows(self._connection, TrainingRow)),
                    ledgers=ledgers,
                    history=tuple(_rows(self._connection, HistoryRow)),
                    blobs=tuple(_rows(self._connection, BlobRow)),
                    refused=refused,
                )
            finally:
                self._connection.execute("ROLLBACK")

    def _check(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA foreign_keys=ON")
        verdict = run("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreCorrupt(f"state.db is damaged: {verdict}", hint=_RESTORE)
        version = run("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreCorrupt(
                f"state.db has schema {version}, this version knows {SCHEMA_VERSION}",
                hint="use the newer version that wrote it, or another --state-dir",
            )
        if version == 0:
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )


def upsert(row: ClusterRow | SlotRow | TrainingRow | HistoryRow) -> Write:
    """Insert a row, or overwrite the one with its key."""
    table, keys, open_parts = _TABLES[type(row)]
    columns = _columns(type(row))
    updates = ", ".join(f"{name}=excluded.{name}" for name in columns if name not in keys)
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
    )
    values = [
        _text(getattr(row, name)) if name in open_parts else getattr(row, name) for name in columns
    ]
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
                hint=_START_AGAIN,
            )
        connection.execute(
            "INSERT INTO ledger (cluster_id, seq, entry_sha, body) VALUES (?, ?, ?, ?)",
            (*key, _text(entry)),
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


_RESTORE = (
    "move the state directory away or restore a copy; its checkpoints stay readable in blobs/"
)

_START_AGAIN = "read the cluster's state with neural_cluster_status and start the operation again"

_TABLES: dict[type[Any], tuple[str, tuple[str, ...], frozenset[str]]] = {
    ClusterRow: ("clusters", ("cluster_id",), frozenset({"spec", "state"})),
    SlotRow: ("slots", ("cluster_id", "slot"), frozenset({"spec"})),
    TrainingRow: ("trainings", ("training_id",), frozenset({"spec", "progress"})),
    HistoryRow: ("history", ("training_id", "round_number"), frozenset({"point"})),
    BlobRow: ("blobs", ("sha",), frozenset()),
}


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Turn sqlite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as failure:
        raise StoreUnavailable(
            f"could not {action}: {failure}",
            hint="free disk space and check the permissions of the state directory, then try again",
        ) from failure
    except sqlite3.ProgrammingError as failure:
        raise ShuttingDown(
            f"could not {action}: {failure}", hint="start the server again"
        ) from failure
    except sqlite3.IntegrityError as failure:
        raise StoreCorrupt(
            f"could not {action}, the rows contradict what is stored: {failure}", hint=_START_AGAIN
        ) from failure
    except sqlite3.DatabaseError as failure:
        raise StoreCorrupt(f"could not {action}: {failure}", hint=_RESTORE) from failure


def _rows(connection: sqlite3.Connection, kind: type[Any]) -> Iterator[Any]:
    table, _, open_parts = _TABLES[kind]
    columns = _columns(kind)
    statement = f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid"  # noqa: S608
    for values in connection.execute(statement):
        fields = dict(zip(columns, values, strict=True))
        for name in open_parts:
            fields[name] = _object(fields[name], f"{table}.{name}")
        yield kind(**fields)


def _ledgers(
    connection: sqlite3.Connection,
) -> tuple[dict[str, tuple[dict[str, JsonValue], ...]], dict[str, str]]:
    entries: dict[str, list[dict[str, JsonValue]]] = {}
    refused: dict[str, str] = {}
    for cluster_id, seq, body in connection.execute(
        "SELECT cluster_id, seq, body FROM ledger ORDER BY cluster_id, seq"
    ):
        try:
            entries.setdefault(cluster_id, []).append(_object(body, f"ledger entry {seq}"))
        except StoreCorrupt as unreadable:
            refused.setdefault(cluster_id, unreadable.message)
    for cluster_id, chain in entries.items():
        bad = verify_chain(chain).first_bad
        if bad is not None:
            refused.setdefault(
                cluster_id,
                f"ledger entry {bad.seq} has {bad.field} {bad.found!r} instead of {bad.expected!r}",
            )
    sound = {name: tuple(chain) for name, chain in entries.items() if name not in refused}
    return sound, refused


def _columns(kind: type[Any]) -> tuple[str, ...]:
    if kind is BlobRow:
        return BlobRow._fields
    return tuple(kind.__dataclass_fields__)


def _object(text: str, place: str) -> dict[str, JsonValue]:
    try:
        value = json.loads(text)
    except ValueError as failure:
        raise StoreCorrupt(f"{place} is not JSON", hint=_RESTORE) from failure
    if not isinstance(value, dict):
        raise StoreCorrupt(f"{place} is not a JSON object", hint=_RESTORE)
    return value


def _text(value: Mapping[str, JsonValue]) -> str:
    return canonical_json(dict(value)).decode()


def _execute(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> None:
    connection.execute(statement, values)


def _execute_many(
    connection: sqlite3.Connection, statement: str, values: Sequence[Sequence[Any]]
) -> None:
    connection.executemany(statement, values)
