"""What is known of a cluster when it is plotted."""

from dataclasses import dataclass

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import HistoryPoint, StatusReport
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
    """

    status: StatusReport
    schema: DataSchema | None = None
    history: tuple[HistoryPoint, ...] = ()
    predict_ms: tuple[float, ...] = ()
    outcomes: tuple[SeenOutcome, ...] = ()
    outcomes_without_answer: int = 0

    @property
    def subject(self) -> str:
        """The cluster, as titles name it."""
        return f"{self.status.name[:40]} ({self.status.cluster_id})"
