"""The tables of the journal: their SQL, and how a row of each is laid out in columns."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import JsonValue

from flow_nexus_neural.engine.storage.rows import (
    BlobRow,
    ClusterRow,
    HistoryRow,
    SlotRow,
    TrainingRow,
)
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.protocol.digest import canonical_json, json_digest

_FIRST = """
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

_RAFT = """
CREATE TABLE raft_voters (
    cluster_id TEXT NOT NULL REFERENCES clusters, voter TEXT NOT NULL, term INTEGER NOT NULL, vote TEXT,
    snapshot TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (cluster_id, voter)
) STRICT;
CREATE TABLE raft_log (
    cluster_id TEXT NOT NULL REFERENCES clusters, voter TEXT NOT NULL, place INTEGER NOT NULL,
    entry TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (cluster_id, voter, place)
) STRICT;
"""
_OUTCOMES = """
CREATE TABLE outcomes (
    cluster_id TEXT NOT NULL REFERENCES clusters, place INTEGER NOT NULL, nbytes INTEGER NOT NULL,
    digest TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (cluster_id, place)
) STRICT;
CREATE TABLE feedback (
    cluster_id TEXT PRIMARY KEY REFERENCES clusters, digest TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
"""
_VERSIONS = """
CREATE TABLE versions (
    cluster_id TEXT NOT NULL REFERENCES clusters, version INTEGER NOT NULL, digest TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (cluster_id, version)
) STRICT;
"""
_AUDIT = """
CREATE TABLE audit (
    cluster_id TEXT NOT NULL REFERENCES clusters, seq INTEGER NOT NULL, sha TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (cluster_id, seq)
) STRICT;
"""
STEPS = (_FIRST, _RAFT, _OUTCOMES, _VERSIONS, _AUDIT)
"""What each version of the tables added to those of the one before."""
SCHEMA_VERSION = len(STEPS)
SCHEMA = "".join(STEPS)

RESTORE = "move the state directory away or restore a copy; its checkpoints stay readable in blobs/"

_CHECK_LENGTH = 16

Write = Callable[[sqlite3.Connection], None]
"""A change of rows, applied inside a transaction."""

ClusterPart = ClusterRow | SlotRow | TrainingRow | HistoryRow
"""A row that belongs to one cluster."""


CHECK = "check"
"""Field of an open part: a digest over the numbers of the row that the ledger leaves out."""


@dataclass(frozen=True)
class Measured:
    """Numbers that differ from run to run: bytes and seconds.

    A ledger is the same for the same seed, so it cannot name a digest of them. The row has one itself.

    Attributes:
        column: The open part in which they are.
        names: Their names there.
    """

    column: str
    names: frozenset[str]


@dataclass(frozen=True)
class Table:
    """A table and its columns.

    Attributes:
        keys: Columns of which no two rows have the same values.
        open_parts: Columns with a JSON object.
        measured: What the ledger leaves out.
    """

    name: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    open_parts: frozenset[str] = frozenset()
    measured: Measured | None = None

    def values(self, row: ClusterPart) -> list[Any]:
        """A row as its columns hold it."""
        by_column = {name: getattr(row, name) for name in self.columns}
        for name in self.open_parts:
            content = dict(by_column[name])
            if self.measured is not None and name == self.measured.column:
                content[CHECK] = self.check(by_column, content)
            by_column[name] = json_text(content)
        return list(by_column.values())

    def check(self, by_column: Mapping[str, Any], content: Mapping[str, JsonValue]) -> str:
        """A digest over what the ledger leaves out of a row, and over which row it is.

        Args:
            by_column: The row; only its keys count.
            content: The open part with the measured numbers.
        """
        left_out = self.measured.names if self.measured is not None else frozenset()
        numbers: dict[str, JsonValue] = {n: v for n, v in content.items() if n in left_out}
        keys = [by_column[key] for key in self.keys]
        return json_digest([self.name, *keys, numbers])[:_CHECK_LENGTH]


def _table(
    kind: type[Any], name: str, keys: tuple[str, ...], *open_parts: str, measured: Measured | None
) -> Table:
    columns = tuple(field.name for field in fields(kind))
    return Table(name, columns, keys, frozenset(open_parts), measured)


_TRAFFIC = Measured("state", frozenset({"communication", "final"}))
_COST = Measured("point", frozenset({"bytes", "seconds"}))
_ROUND = ("training_id", "round_number")

TABLES: Mapping[type[Any], Table] = {
    ClusterRow: _table(ClusterRow, "clusters", ("cluster_id",), "spec", "state", measured=_TRAFFIC),
    SlotRow: _table(SlotRow, "slots", ("cluster_id", "slot"), "spec", measured=None),
    TrainingRow: _table(
        TrainingRow, "trainings", ("training_id",), "spec", "progress", measured=None
    ),
    HistoryRow: _table(HistoryRow, "history", _ROUND, "point", measured=_COST),
    BlobRow: Table("blobs", BlobRow._fields, ("sha",)),
}


def json_text(value: Mapping[str, JsonValue]) -> str:
    """A JSON object as its column holds it."""
    return canonical_json(dict(value)).decode()


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of a new journal, all or none."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    )


def upgrade_tables(connection: sqlite3.Connection) -> None:
    """Bring the tables of an older journal to those of this version, one version after the other.

    A journal whose tables are not those of its version is left as it is, for `check_tables` to refuse.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    while 0 < version < SCHEMA_VERSION and _definitions(connection) == _expected(version):
        version += 1
        connection.executescript(
            f"BEGIN IMMEDIATE; {STEPS[version - 1]} PRAGMA user_version={version}; COMMIT;"
        )


def check_tables(connection: sqlite3.Connection) -> None:
    """Compare the tables of a journal with those that this version makes.

    Raises:
        StoreCorrupt: They are others, because the file was altered or a newer version wrote it.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreCorrupt(
            f"state.db has schema {version}, this version knows {SCHEMA_VERSION}",
            hint="use the newer version that wrote it, or another --state-dir",
        )
    if version != SCHEMA_VERSION or _definitions(connection) != _expected():
        raise StoreCorrupt(
            "state.db is damaged: its tables are not those that were made", hint=RESTORE
        )


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever written into the file."""
    return (
        connection.execute("PRAGMA user_version").fetchone()[0] == 0
        and not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    )


def _definitions(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    statement = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    return [tuple(row) for row in connection.execute(statement)]


def _expected(version: int = SCHEMA_VERSION) -> list[tuple[str, ...]]:
    """The tables of a version."""
    with sqlite3.connect(":memory:") as memory:
        memory.executescript("".join(STEPS[:version]))
        expected = _definitions(memory)
    memory.close()
    return expected
