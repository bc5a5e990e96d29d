"""What is durable of versions that can be put in force again: a row each, beside their checkpoint files.

The ledger names the weights, and the line of each in the row of the cluster; the row has its own digest.
"""

import json
import sqlite3
from collections.abc import Collection

from pydantic import JsonValue, ValidationError

from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.persisted import StoredVersion
from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.engine.storage.version_rows import stored_alone
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.protocol.digest import json_digest

OTHERS = "put another version in force, or restore the state directory from a copy"


def write_kept(cluster_id: str, version: CommittedVersion, kept: Collection[int]) -> Write:
    """Store a version so that it can be put in force again, and forget those that are not kept.

    Args:
        cluster_id: Of its cluster.
        version: The newest.
        kept: Numbers of all versions that stay.
    """
    stored: JsonValue = stored_alone(version).model_dump(mode="json")
    body = json.dumps(stored, sort_keys=True, separators=(",", ":"))
    row = (cluster_id, version.version, _check(cluster_id, version.version, body), body)
    numbers = json.dumps(sorted(kept))

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO versions (cluster_id, version, digest, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (cluster_id, version) DO UPDATE SET digest=excluded.digest, body=excluded.body",
            row,
        )
        connection.execute(
            "DELETE FROM versions WHERE cluster_id=? AND version NOT IN (SELECT value FROM json_each(?))",
            (cluster_id, numbers),
        )

    return write


def delete_kept(cluster_id: str) -> Write:
    """Forget all versions of a cluster that could be put in force again."""

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM versions WHERE cluster_id=?", (cluster_id,))

    return write


def read_kept(connection: sqlite3.Connection, cluster_id: str, version: int) -> StoredVersion:
    """A version as it was stored, without its weights.

    Raises:
        StoreCorrupt: It is missing, or not as it was written.
    """
    row = connection.execute(
        "SELECT digest, body FROM versions WHERE cluster_id=? AND version=?", (cluster_id, version)
    ).fetchone()
    if row is None:
        raise StoreCorrupt(f"version {version} is missing in the journal", hint=OTHERS)
    digest, body = row
    if digest != _check(cluster_id, version, body):
        raise StoreCorrupt(f"version {version} has changed since it was written", hint=OTHERS)
    try:
        return StoredVersion.model_validate_json(body)
    except ValidationError as failure:
        raise StoreCorrupt(f"version {version} cannot be understood", hint=OTHERS) from failure


def _check(*values: object) -> str:
    return json_digest([str(value) for value in values])
