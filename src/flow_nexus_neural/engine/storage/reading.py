"""Reading the journal back: ledgers verified, rows held against the digests that their ledger names."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import verify_chain
from flow_nexus_neural.engine.storage.audit_rows import read_audits
from flow_nexus_neural.engine.storage.outcome_rows import read_feedback
from flow_nexus_neural.engine.storage.row_digests import (
    first_difference,
    named_rows,
    row_digest,
    row_name,
)
from flow_nexus_neural.engine.storage.rows import (
    BlobRow,
    ClusterRow,
    HistoryRow,
    SlotRow,
    Stored,
    TrainingRow,
)
from flow_nexus_neural.engine.storage.schema import CHECK, TABLES, Table, json_text

Entry = dict[str, JsonValue]
R = TypeVar("R")


class _Unreadable(Exception):
    """Says why a column cannot be read."""


@dataclass
class _Reading:
    """What is read, of one cluster or of all, and what is wrong with it.

    Attributes:
        found: Digests by cluster and row.
        refused: Clusters that must not be opened, and why.
    """

    connection: sqlite3.Connection
    cluster_id: str | None
    found: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def rows(self, kind: type[R]) -> tuple[R, ...]:
        """All readable rows of a kind; the cluster of one that is not readable is refused."""
        table = TABLES[kind]
        rows: list[R] = []
        for values in self._select(f"{', '.join(table.columns)} FROM {table.name}", "rowid"):
            fields = dict(zip(table.columns, values, strict=True))
            cluster_id = str(fields["cluster_id"])
            own = self.found.setdefault(cluster_id, {})
            own[row_name(table, values)] = row_digest(table, values)
            try:
                for name in table.open_parts:
                    fields[name] = _object(fields[name], f"{table.name}.{name}")
                _check_measured(table, fields)
            except _Unreadable as unreadable:
                self.refused.setdefault(cluster_id, str(unreadable))
            else:
                rows.append(kind(**fields))
        return tuple(rows)

    def ledgers(self) -> dict[str, tuple[Entry, ...]]:
        """The chains that verify; the cluster of one that does not is refused."""
        chains: dict[str, list[Entry]] = {}
        doubts: dict[str, str] = {}
        for cluster_id, seq, sha, body in self._select(
            "cluster_id, seq, entry_sha, body FROM ledger", "cluster_id, seq"
        ):
            try:
                entry = _object(body, f"ledger entry {seq}")
            except _Unreadable as unreadable:
                self.refused.setdefault(cluster_id, str(unreadable))
                continue
            chains.setdefault(cluster_id, []).append(entry)
            own = tuple(entry.get(name) for name in ("cluster_id", "seq", "entry_sha"))
            if json_text(entry) != body or own != (cluster_id, seq, sha):
                doubts.setdefault(cluster_id, f"ledger entry {seq} is not as it was written")
        for cluster_id, chain in chains.items():
            bad = verify_chain(chain).first_bad
            if bad is not None:
                what = f"{bad.field} {bad.found!r} instead of {bad.expected!r}"
                self.refused.setdefault(cluster_id, f"ledger entry {bad.seq} has {what}")
        for cluster_id, why in doubts.items():
            self.refused.setdefault(cluster_id, why)
        return {name: tuple(chain) for name, chain in chains.items() if name not in self.refused}

    def _select(self, what: str, order: str) -> list[tuple[Any, ...]]:
        statement = f"SELECT {what}"
        values: tuple[str, ...] = ()
        if self.cluster_id is not None:
            statement += " WHERE cluster_id=?"
            values = (self.cluster_id,)
        return self.connection.execute(f"{statement} ORDER BY {order}", values).fetchall()


def read_stored(connection: sqlite3.Connection, cluster_id: str | None = None) -> Stored:
    """Everything that is stored, or what is stored of one cluster.

    A row that cannot be read is left out, and its cluster is refused. So is a cluster whose ledger does not
    verify, or whose rows are not those that its ledger names.
    """
    reading = _Reading(connection, cluster_id)
    ledgers = reading.ledgers()
    clusters = reading.rows(ClusterRow)
    slots, trainings = reading.rows(SlotRow), reading.rows(TrainingRow)
    history = reading.rows(HistoryRow)
    blobs = connection.execute("SELECT sha, nbytes, kind FROM blobs ORDER BY rowid").fetchall()
    known = {row.cluster_id for row in clusters}
    sealed = set()
    for name in sorted({*reading.found, *ledgers} - reading.refused.keys()):
        named, found = named_rows(ledgers.get(name, ())), reading.found.get(name, {})
        if named:
            sealed.add(name)
        why = first_difference(named, found) if named else None
        if why is None and name not in known:
            why = "its row in the table of clusters is missing"
        if why is not None:
            reading.refused[name] = why
    return Stored(
        clusters=clusters,
        slots=slots,
        trainings=trainings,
        ledgers={name: chain for name, chain in ledgers.items() if name not in reading.refused},
        history=history,
        blobs=tuple(BlobRow(*values) for values in blobs) if cluster_id is None else (),
        refused=reading.refused,
        digests=reading.found,
        sealed=frozenset(sealed),
        audits=read_audits(connection, cluster_id),
        feedback={name: read_feedback(connection, name) for name in sorted(known)},
    )


def ledger_lengths(connection: sqlite3.Connection) -> Mapping[str, tuple[str | None, int]]:
    """Name and number of ledger entries of every cluster of which there is a row or an entry."""
    lengths: dict[str, tuple[str | None, int]] = {}
    for cluster_id, name in connection.execute("SELECT cluster_id, name FROM clusters"):
        lengths[cluster_id] = (str(name), 0)
    for cluster_id, last in connection.execute(
        "SELECT cluster_id, MAX(seq) FROM ledger GROUP BY cluster_id"
    ):
        name, _ = lengths.get(cluster_id, (None, 0))
        lengths[cluster_id] = (name, int(last) + 1)
    return lengths


def names_rows(connection: sqlite3.Connection) -> bool:
    """Whether any ledger names rows: then a server that keeps a commit marker has written here."""
    statement = "SELECT 1 FROM ledger WHERE instr(body, '\"rows\":{') LIMIT 1"
    return connection.execute(statement).fetchone() is not None


def owner_of(connection: sqlite3.Connection, text: str) -> str | None:
    """The cluster to which a node or a training of this id belongs."""
    found = connection.execute(
        "SELECT cluster_id FROM slots WHERE node_id=?1"
        " UNION SELECT cluster_id FROM trainings WHERE training_id=?1",
        (text,),
    ).fetchone()
    return None if found is None else str(found[0])


def _check_measured(table: Table, fields: dict[str, Any]) -> None:
    """Hold the numbers that the ledger leaves out against the check of the row, which is then taken off."""
    if table.measured is None:
        return
    content = fields[table.measured.column]
    found = content.pop(CHECK, None)
    if found is not None and found != table.check(fields, content):
        raise _Unreadable(f"the numbers in {table.name}.{table.measured.column} have changed")


def _object(text: Any, place: str) -> dict[str, JsonValue]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as failure:
        raise _Unreadable(f"{place} is not JSON") from failure
    if not isinstance(value, dict):
        raise _Unreadable(f"{place} is not a JSON object")
    return value
