"""What is known of a cluster when it is plotted."""

from collections.abc import Collection
from dataclasses import dataclass

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import Evaluation, HistoryPoint, StatusReport
from flow_nexus_neural.errors import NotTrained
from flow_nexus_neural.vocabulary import Label


@dataclass(frozen=True)
class SeenOutcome:
    """What was predicted of a record, and what came of it.

    Attributes:
        prediction: Value, class, or for two classes the probability of the positive one.
        confidence: P(the decision is right); None for values.
        low, high: Of the interval; None where there is none.
        outcome: The class, or the value in the target's unit.
    """

    at: str
    prediction: Label
    confidence: float | None
    low: float | None
    high: float | None
    outcome: Label


@dataclass(frozen=True)
class Copied:
    """What a copy of a state directory was made of; what only a running server knows is not in it.

    Attributes:
        server: Process id of the server that has the directory; None when none runs.
        running: Ids of trainings that are stored as running, which the copy has as interrupted.
    """

    server: str | None
    running: Collection[str] = ()

    def status(self, stored: str) -> str:
        """The word for a cluster or a node of which the copy says `stored`."""
        if stored != "recovering":
            return stored
        return "stopped" if self.server is None else "unknown"


@dataclass(frozen=True)
class RecordedLinks:
    """How nodes were linked last, as the ledger has it.

    Attributes:
        topology: What was asked for.
        at: When, in ISO 8601.
        edges: Names of two slots each.
    """

    topology: str
    at: str
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Seen:
    """Everything that plots are made of.

    Attributes:
        status: In full, of one moment.
        schema: Of the model in force, also where nothing was measured of it; None without a model.
        history: Every committed round of the training that the status is of.
        predict_ms: Of the last five minutes, at most a thousand calls, oldest first.
        outcomes: Stored ones of the model's kind of data, oldest first, with what had been predicted.
        outcomes_without_answer: Others, of which an older server did not keep what it had said, or
            whose model had other data.
        copied: Of a copy of a state directory; None where the server itself draws its cluster.
        recorded_links: Of a copy, in place of the links of `status`; None where nodes never were linked.
    """

    status: StatusReport
    schema: DataSchema | None = None
    history: tuple[HistoryPoint, ...] = ()
    predict_ms: tuple[float, ...] = ()
    outcomes: tuple[SeenOutcome, ...] = ()
    outcomes_without_answer: int = 0
    copied: Copied | None = None
    recorded_links: RecordedLinks | None = None

    @property
    def evaluation(self) -> Evaluation:
        """What was measured of the model on the test rows. Raises `NotTrained` where nothing was."""
        if self.status.evaluation is None:
            raise NotTrained(
                f"cluster {self.status.cluster_id} has no evaluated model yet",
                hint='wait with neural_cluster_status (wait_seconds, until "done")',
            )
        return self.status.evaluation

    @property
    def subject(self) -> str:
        """The cluster, as titles name it."""
        return f"{self.status.name[:40]} ({self.status.cluster_id})"
