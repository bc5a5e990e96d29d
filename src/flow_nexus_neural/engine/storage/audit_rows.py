"""The decisions of autonomy, a row each, of which only the newest are kept.

They are a chain of their own: the ledger is the same for the same seed, and cannot hold what depends on time.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import KEPT, AuditEntry, verify_audit
from flow_nexus_neural.engine.storage.rows import StoredAudit
from flow_nexus_neural.engine.storage.schema import Write, json_text


def append_audit(
    cluster_id: str, entries: Sequence[Mapping[str, JsonValue]], kept: int = KEPT
) -> Write:
    """Add sealed entries and forget those that are older than the newest `kept`."""

    def write(connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO audit (cluster_id, seq, sha, body) VALUES (?, ?, ?, ?)",
            [(cluster_id, entry["seq"], entry["sha"], json_text(entry)) for entry in entries],
        )
        connection.execute(
            "DELETE FROM audit WHERE cluster_id=?1 AND seq <="
            " (SELECT MAX(seq) FROM audit WHERE cluster_id=?1) - ?2",
            (cluster_id, kept),
        )

    return write


def read_audits(
    connection: sqlite3.Connection, cluster_id: str | None = None
) -> Mapping[str, StoredAudit]:
    """The entries of every cluster, or of one, verified; what is damaged is named and costs nothing else."""
    where, values = ("", ()) if cluster_id is None else (" WHERE cluster_id=?", (cluster_id,))
    rows = connection.execute(
        f"SELECT cluster_id, seq, sha, body FROM audit{where} ORDER BY cluster_id, seq",  # noqa: S608
        values,
    ).fetchall()
    found: dict[str, list[AuditEntry]] = {}
    damage: dict[str, str] = {}
    last: dict[str, int] = {}
    for owner, seq, sha, body in rows:
        entry = _entry(body)
        if entry is None or (entry.get("seq"), entry.get("sha")) != (seq, sha):
            damage.setdefault(owner, f"audit entry {seq} is not as it was written")
            entry = {"seq": seq, "sha": sha} if entry is None else entry
        found.setdefault(owner, []).append(entry)
        last[owner] = seq
    for owner, entries in found.items():
        bad = verify_audit(entries).first_bad
        if bad is not None:
            what = (
                f"audit entry {bad.seq} has {bad.field} {bad.found!r} instead of {bad.expected!r}"
            )
            damage.setdefault(owner, what)
    return {
        owner: StoredAudit(tuple(entries), damage.get(owner), last[owner])
        for owner, entries in found.items()
    }


def _entry(body: object) -> AuditEntry | None:
    try:
        entry = json.loads(str(body))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and json_text(entry) == body else None
