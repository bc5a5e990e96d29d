"""What the journal stores, as frozen rows. The open part of each is a JSON object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from flow_nexus_neural.engine.state.feedback import Feedback

Json = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster. `spec` never changes; `state` is what a restart needs besides the other tables."""

    cluster_id: str
    name: str
    created_at: str
    terminated_at: str | None
    spec: Json
    state: Json


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A slot and its latest incarnation. `pid` None means that no process is known to run."""

    cluster_id: str
    slot: str
    node_id: str
    incarnation: int
    pid: int | None
    state: str
    spec: Json


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A training; `ordinal` counts those of its cluster and seeds them."""

    training_id: str
    cluster_id: str
    ordinal: int
    status: str
    spec: Json
    progress: Json
    started_at: str
    ended_at: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One committed round of a training; `point` is the open part of its report."""

    training_id: str
    cluster_id: str
    round_number: int
    point: Json


class BlobRow(NamedTuple):
    """A file that some row names."""

    sha: str
    nbytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """What autonomy decided about one cluster.

    Attributes:
        entries: The newest, oldest first, as they are stored.
        damage: What is wrong with the first that is not as it was written; None where all are.
        last_seq: Highest number that is taken, whatever the entries themselves say; None without any.
    """

    entries: tuple[dict[str, JsonValue], ...]
    damage: str | None
    last_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything the journal holds, in the order in which it was written.

    Attributes:
        ledgers: Entries per cluster, verified.
        refused: Clusters whose ledger does not verify, of which a row is missing or cannot be read, or is not
            the one that the ledger names, and why. They must not be opened; the others may.
        digests: Of every row, by cluster and by the row's name in it.
        sealed: Clusters whose ledger names the digests of their rows.
        names: Of clusters of which the commit marker knows.
        older: Clusters that have lost their last commits, and how that is said of them.
        complaints: What is wrong with the directory as a whole.
        audits: What autonomy decided, by cluster.
        feedback: What clusters have learnt from outcomes.
    """

    clusters: tuple[ClusterRow, ...]
    slots: tuple[SlotRow, ...]
    trainings: tuple[TrainingRow, ...]
    ledgers: Mapping[str, tuple[dict[str, JsonValue], ...]]
    history: tuple[HistoryRow, ...]
    blobs: tuple[BlobRow, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sealed: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    older: Mapping[str, str] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    audits: Mapping[str, StoredAudit] = field(default_factory=dict)
    feedback: Mapping[str, Feedback] = field(default_factory=dict)
