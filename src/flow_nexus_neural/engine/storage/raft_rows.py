"""What is durable of raft voters: term, vote and snapshot in one row, and a row for each entry of the log.

These rows are no part of the ledger, which is the same for the same seed; each has a digest of its own. The
log of a voter whose rows were altered cannot be trusted with a vote: it is refused as a whole.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict

from pydantic import JsonValue, TypeAdapter, ValidationError

from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.protocol.digest import json_digest
from flow_nexus_neural.protocol.raft_records import LogChange, LogEntry, Records, Snapshot

RESTORE = "restore the state directory from a copy; what was committed is served all the same"

_VOTER = "term, vote, snapshot"
_Row = tuple[object, ...]
_RECORDS = TypeAdapter(Records)


def write_voter(cluster_id: str, voter: str, records: Records, log: LogChange | None) -> Write:
    """Bring the rows of a voter to its records.

    Args:
        cluster_id: Of its cluster.
        voter: Its name.
        records: As they are from now on.
        log: How the log changed; None where only term, vote or snapshot did.
    """
    key = (cluster_id, voter)
    snapshot = _text(records.snapshot)
    term, vote = records.hard.term, records.hard.vote
    own = (*key, term, vote, snapshot, _check(*key, term, vote, snapshot))

    def write(connection: sqlite3.Connection) -> None:
        connection.execute(
            f"INSERT INTO raft_voters (cluster_id, voter, {_VOTER}, digest) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
            " ON CONFLICT (cluster_id, voter) DO UPDATE SET term=excluded.term, vote=excluded.vote,"
            " snapshot=excluded.snapshot, digest=excluded.digest",
            own,
        )
        connection.execute(
            "DELETE FROM raft_log WHERE cluster_id=? AND voter=? AND place<=?",
            (*key, records.snapshot.index),
        )
        if log is None:
            return
        connection.execute(
            "DELETE FROM raft_log WHERE cluster_id=? AND voter=? AND place>?", (*key, log.keep)
        )
        connection.executemany(
            "INSERT INTO raft_log (cluster_id, voter, place, entry, digest) VALUES (?, ?, ?, ?, ?)",
            [
                (*key, entry.index, text, _check(*key, entry.index, text))
                for entry, text in ((entry, _text(entry)) for entry in log.entries)
            ],
        )

    return write


def read_voters(connection: sqlite3.Connection, cluster_id: str) -> Mapping[str, Records]:
    """The records of every voter of a cluster, by name.

    Raises:
        StoreCorrupt: A row is not as it was written, or is missing.
    """
    logs: dict[str, list[JsonValue]] = {}
    for voter, place, entry, digest in connection.execute(
        "SELECT voter, place, entry, digest FROM raft_log WHERE cluster_id=? ORDER BY voter, place",
        (cluster_id,),
    ):
        _compare(voter, digest, (cluster_id, voter, place, entry))
        logs.setdefault(voter, []).append(_parsed(voter, entry))
    found = {}
    for voter, term, vote, snapshot, digest in connection.execute(
        f"SELECT voter, {_VOTER}, digest FROM raft_voters WHERE cluster_id=?",  # noqa: S608
        (cluster_id,),
    ):
        _compare(voter, digest, (cluster_id, voter, term, vote, snapshot))
        stored = {
            "hard": {"term": term, "vote": vote},
            "snapshot": _parsed(voter, snapshot),
            "entries": logs.pop(voter, []),
        }
        found[voter] = _understood(voter, stored)
    if logs:
        raise _corrupt(next(iter(logs)), "its row is missing")
    return found


def _understood(voter: str, stored: Mapping[str, object]) -> Records:
    try:
        records = _RECORDS.validate_json(json.dumps(stored))
        return records.after(None, None, LogChange(records.snapshot.index, records.entries))
    except (ValidationError, ValueError) as failure:
        raise _corrupt(voter, "its log has a gap or an unknown form") from failure


def _text(part: Snapshot | LogEntry) -> str:
    return json.dumps(asdict(part), sort_keys=True, separators=(",", ":"))


def _parsed(voter: str, text: object) -> JsonValue:
    try:
        return json.loads(str(text))  # type: ignore[no-any-return]
    except ValueError as failure:
        raise _corrupt(voter, "a row is not JSON") from failure


def _check(*values: object) -> str:
    return json_digest([str(value) for value in values])


def _compare(voter: object, digest: object, values: _Row) -> None:
    if digest != _check(*values):
        raise _corrupt(str(voter), "a row has changed since it was written")


def _corrupt(voter: str, why: str) -> StoreCorrupt:
    return StoreCorrupt(f"the raft log of {voter} cannot be read: {why}", hint=RESTORE)
