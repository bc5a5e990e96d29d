"""Checks a whole state directory: every ledger entry, every row, every file, whatever is in use now.

It reads and changes nothing. A server may write into the directory meanwhile: then a copy is checked
(`snapshot.copy_state_dir`).
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from flow_nexus_neural.coordination.autonomy.replay import replayed
from flow_nexus_neural.coordination.ledger import verify_chain
from flow_nexus_neural.engine.state.training_record import PreparedDataRef
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.audit_rows import read_audits
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.commit_marker import NAME as MARKER
from flow_nexus_neural.engine.storage.commit_marker import marks_in
from flow_nexus_neural.engine.storage.kept_rows import read_kept
from flow_nexus_neural.engine.storage.outcome_rows import read_feedback, read_outcomes
from flow_nexus_neural.engine.storage.prepared_data import PREPARED_DATA, read_prepared
from flow_nexus_neural.engine.storage.raft_rows import read_voters
from flow_nexus_neural.engine.storage.reading import ledger_lengths, read_stored
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.engine.storage.schema import check_tables, json_text
from flow_nexus_neural.engine.storage.version_rows import load_version
from flow_nexus_neural.engine.storage.worker_vectors import CONTROLS, OWN_STATES
from flow_nexus_neural.errors import NeuralError

JOURNAL = "state.db"
KINDS = frozenset({"weights", "moments", "server", PREPARED_DATA, OWN_STATES, CONTROLS})
"""Of files that rows name."""


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written.

    Attributes:
        cluster: Whose it is; None for the directory as a whole.
        seq: Number of the ledger entry; None where it is no entry.
        field: What of it is wrong: a field of the entry, a row, or a file.
        expected: What it was.
        found: What it is.
    """

    cluster: str | None
    seq: int | None
    field: str
    expected: object
    found: object

    @override
    def __str__(self) -> str:
        """In one line."""
        whose = "" if self.cluster is None else f"cluster {self.cluster}: "
        entry = "" if self.seq is None else f"entry {self.seq}: "
        return f"{whose}{entry}{self.field}: expected {self.expected}, found {self.found}"


@dataclass
class Verification:
    """What a check has found.

    Attributes:
        decisions: Of autonomy, that its planner makes again from what the log says that it saw.
        not_replayed: Decisions of which the log does not say that, or that other rules made.
        damages: In the order in which they were found: the journal, its ledgers and rows, then files.
    """

    clusters: int = 0
    entries: int = 0
    decisions: int = 0
    not_replayed: int = 0
    files: int = 0
    nbytes: int = 0
    damages: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as it was written."""
        return not self.damages


def verify(state_dir: Path) -> Verification:
    """Check a state directory into which nobody writes. Blocking; reads every named file once or twice."""
    found = Verification()
    journal = state_dir / JOURNAL
    if not journal.is_file():
        found.damages.append(Damage(None, None, JOURNAL, "a journal", "nothing"))
        return found
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=rw", uri=True)) as own:
            own.text_factory = lambda content: content.decode("utf-8", "replace")
            own.execute("PRAGMA query_only=ON")
            _Check(found, own, state_dir).everything()
    except (sqlite3.Error, NeuralError) as failure:
        found.damages.append(Damage(None, None, JOURNAL, "a whole database", _words(failure)))
    return found


@dataclass
class _Check:
    found: Verification
    connection: sqlite3.Connection
    state_dir: Path

    def __post_init__(self) -> None:
        self.files = CheckpointFiles(self.state_dir)
        self._bad_files: set[str] = set()

    def everything(self) -> None:
        """All checks; those of one cluster that fail keep nothing of another from being checked."""
        self._database()
        check_tables(self.connection)
        stored = read_stored(self.connection)
        self._marker()
        self._owners()
        for row in self.connection.execute(
            "SELECT cluster_id FROM clusters ORDER BY rowid"
        ).fetchall():
            self.found.clusters += 1
            self._ledger(str(row[0]))
        told = {damage.cluster for damage in self.found.damages}
        for cluster, why in stored.refused.items():
            if cluster not in told:  # a row, or what no entry names
                self._damaged(cluster, "rows", "as the ledger names them", why)
        self._blobs()
        for own in stored.clusters:
            self._cluster(own, stored)

    def _damaged(self, cluster: str | None, what: str, expected: object, was: object) -> None:
        self.found.damages.append(Damage(cluster, None, what, expected, was))

    def _database(self) -> None:
        for (verdict,) in self.connection.execute("PRAGMA integrity_check(4)").fetchall():
            if verdict != "ok":
                self._damaged(None, JOURNAL, "ok", verdict)

    def _owners(self) -> None:
        """Every row is of a cluster, and a round of a training, that is there."""
        for table, row, parent, _ in self.connection.execute("PRAGMA foreign_key_check").fetchall():
            self._damaged(None, f"{table} row {row}", f"of a row of {parent}", "of none")

    def _marker(self) -> None:
        """No cluster may have fewer entries than were once committed."""
        marker = self.state_dir / MARKER
        if not marker.is_file():
            if self.connection.execute("SELECT 1 FROM ledger LIMIT 1").fetchone():
                self._damaged(None, MARKER, "a file", "nothing")
            return
        content = marker.read_bytes()
        marks, line = marks_in(content)
        if line is not None:
            self._damaged(None, f"{MARKER} line {line}", "as it was written", "another line")
        lengths = ledger_lengths(self.connection)
        for mark in marks:
            _, entries = lengths.get(mark.cluster_id, (None, 0))
            if entries < mark.entries:
                self._damaged(mark.cluster_id, "number of ledger entries", mark.entries, entries)

    def _ledger(self, cluster: str) -> None:
        """Every entry as it was written, linked to the one before."""
        chain: list[dict[str, Any]] = []
        rows = self.connection.execute(
            "SELECT seq, entry_sha, body FROM ledger WHERE cluster_id=? ORDER BY seq", (cluster,)
        ).fetchall()
        for seq, sha, body in rows:
            bad = _entry_damage(cluster, seq, sha, body)
            if bad is not None:
                self.found.damages.append(bad)
                return
            chain.append(json.loads(body))
        verdict = verify_chain(chain)
        self.found.entries += verdict.entries
        if verdict.first_bad is not None:
            bad_ = verdict.first_bad
            self.found.damages.append(
                Damage(cluster, bad_.seq, bad_.field, bad_.expected, bad_.found)
            )

    def _blobs(self) -> None:
        """Every file that a row names: there, as long as it was, and with the content of its name."""
        for sha, nbytes, kind in self.connection.execute(
            "SELECT sha, nbytes, kind FROM blobs ORDER BY rowid"
        ).fetchall():
            place = f"blobs/{str(sha)[:2]}/{sha} ({kind})"
            try:
                content = self.files.path(str(sha)).read_bytes()
            except (OSError, NeuralError) as failure:
                self._bad(sha, place, "a file", _words(failure))
                continue
            if kind not in KINDS:
                self._damaged(None, f"blobs {sha} kind", " or ".join(sorted(KINDS)), kind)
            digest = hashlib.sha256(content).hexdigest()
            self.found.files += 1
            self.found.nbytes += len(content)
            if digest != sha:
                self._bad(sha, place, sha, digest)
            elif len(content) != nbytes:
                self._bad(sha, f"{place} bytes", nbytes, len(content))

    def _bad(self, sha: str, place: str, expected: object, was: object) -> None:
        self._bad_files.add(str(sha))
        self._damaged(None, place, expected, was)

    def _cluster(self, row: ClusterRow, stored: Stored) -> None:
        """What the rows of a cluster say of its files, and rows that have digests of their own."""
        cluster = row.cluster_id
        state = self._tried(
            cluster, "state", lambda: persisted.read(persisted.StoredState, row.state)
        )
        version = None if state is None else state.committed
        deleted = any(
            entry.get("event") == "artifacts_deleted" for entry in stored.ledgers.get(cluster, ())
        )
        if version is not None and not deleted:
            loaded = self._tried(
                cluster, "version in force", lambda: load_version(version, self.files)
            )
            self._named(cluster, loaded.blobs if loaded is not None else ())
        self._tried(cluster, "raft", lambda: read_voters(self.connection, cluster))
        self._outcomes(cluster)
        self._audit(cluster)
        for (number,) in self.connection.execute(
            "SELECT version FROM versions WHERE cluster_id=? ORDER BY version", (cluster,)
        ).fetchall():
            self._tried(cluster, f"version {number}", partial(self._kept, cluster, number))
        for training in stored.trainings:
            if training.cluster_id == cluster and not deleted:
                self._training(cluster, training.training_id, training.spec)

    def _named(self, cluster: str, needed: Iterable[str]) -> None:
        """Files that a version needs are files that a row names, or a server would sweep them."""
        for sha in sorted(needed):
            if (
                self.connection.execute("SELECT 1 FROM blobs WHERE sha=?", (sha,)).fetchone()
                is None
            ):
                self._damaged(cluster, "blobs", f"a row of {sha}", "none")

    def _kept(self, cluster: str, number: int) -> None:
        load_version(read_kept(self.connection, cluster, number), self.files)

    def _training(self, cluster: str, training_id: str, spec: Mapping[str, Any]) -> None:
        """The prepared rows of a training, where they are still kept."""
        stored = self._tried(
            cluster, training_id, lambda: persisted.read(persisted.StoredTraining, spec)
        )
        if stored is None or stored.data is None:
            return
        ref = PreparedDataRef(**stored.data.model_dump())
        named = "SELECT 1 FROM blobs WHERE sha=?"
        if self.connection.execute(named, (ref.sha256,)).fetchone() is not None:
            what = f"rows of training {training_id}"
            self._tried(cluster, what, lambda: read_prepared(self.files, ref))

    def _audit(self, cluster: str) -> None:
        """Decisions of autonomy: as they were written, and made again from what they were made on."""
        audit = read_audits(self.connection, cluster).get(cluster)
        if audit is None:
            return
        if audit.damage is not None:
            self._damaged(cluster, "audit", "as it was written", audit.damage)
            return
        found = replayed(audit.entries)
        self.found.decisions += found.again
        self.found.not_replayed += found.without
        bad = found.different
        if bad is not None:
            what = f"audit entry {bad.seq} {bad.field}, derived again"
            self._damaged(cluster, what, bad.expected, bad.found)

    def _outcomes(self, cluster: str) -> None:
        _, damaged = read_outcomes(self.connection, cluster)
        if damaged:
            self._damaged(cluster, "outcomes", "as they were written", f"{damaged} others")
        for place, said, length in self.connection.execute(
            "SELECT place, nbytes, length(body) FROM outcomes"
            " WHERE cluster_id=? AND nbytes != length(body) ORDER BY place",
            (cluster,),
        ).fetchall():
            self._damaged(cluster, f"outcome {place} bytes", length, said)
        if read_feedback(self.connection, cluster).damaged:
            self._damaged(cluster, "feedback", "as it was written", "something else")

    def _tried(self, cluster: str, what: str, check: Callable[[], Any]) -> Any:
        """What a check gives; None where it fails, which is noted unless the cause is known already."""
        try:
            return check()
        except NeuralError as failure:
            if not any(sha[:12] in failure.message for sha in self._bad_files):
                self._damaged(cluster, what, "as it was written", failure.message)
        return None


def _entry_damage(cluster: str, seq: int, sha: str, body: str) -> Damage | None:
    """Why a ledger entry is not as it was written, apart from its hash and its links; None if it is."""
    try:
        entry = json.loads(body)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return Damage(cluster, seq, "body", "a JSON object", f"{body:.80}")
    for name, column in (("cluster_id", cluster), ("seq", seq), ("entry_sha", sha)):
        if entry.get(name) != column:
            return Damage(cluster, seq, name, column, entry.get(name))
    text = json_text(entry)
    if text != body:
        at = next(k for k, pair in enumerate(_pairs(text, body)) if pair[0] != pair[1])
        return Damage(cluster, seq, f"body at character {at}", text[at : at + 1], body[at : at + 1])
    return None


def _pairs(one: str, other: str) -> Iterator[tuple[str, str]]:
    length = max(len(one), len(other))
    return zip(one.ljust(length, "\0"), other.ljust(length, "\0"), strict=True)


def _words(failure: Exception) -> str:
    message = failure.message if isinstance(failure, NeuralError) else str(failure)
    return message or type(failure).__name__
