"""An answer of the serving nodes."""

from typing import Literal

from flow_nexus_neural.engine.reports.base import Exclusion, Report
from flow_nexus_neural.vocabulary import Aggregation, Label, Task

CombinedBy = Literal["net", "fallback"]
AnsweredBy = Literal["nodes", "student"]
ConfidenceSource = Literal["validator", "margin", "none"]


class Interval(Report):
    """A range that holds the value with probability `level`."""

    low: float
    high: float
    level: float


class IndividualPrediction(Report):
    """One node's answer to one record."""

    node_id: str
    slot: str
    prediction: Label | None
    latency_ms: float | None


class IgnoredInput(Report):
    """An input that was not used, and why."""

    name: str
    reason: str


class InputReport(Report):
    """How the input was understood, over the whole batch."""

    mode: Literal["single", "batch", "window"]
    rows: int
    mapped: list[str]
    imputed: list[str]
    ignored: list[IgnoredInput]
    coverage: float
    ood: list[str]
    clipped: int


class MeasuredOnFile(Report):
    """How right the predictions of a file's rows are, by the labels that the file holds.

    Attributes:
        rows: Rows that were predicted and have a label.
        column: Where the labels come from.
    """

    rows: int
    column: str
    accuracy: float | None
    balanced_accuracy: float | None
    log_loss: float | None
    brier: float | None
    auc: float | None
    ece: float | None
    mae: float | None
    rmse: float | None
    r2: float | None
    directional_accuracy: float | None


class PredictedFile(Report):
    """The file that a prediction was written to.

    Attributes:
        status: `running` where the call did not wait for the end; the file is not there yet then.
        rows: Of the input; None before it was read.
        rows_done: Rows asked so far.
        rows_without_prediction: Rows that give no input of the model, end no whole window, or got no quorum.
        bytes, sha256: Of the file; None while it grows.
        seconds: From the first look at the input until now.
        degraded_batches: Batches that some serving node did not answer.
        class_counts: Decisions by class; None for regression.
        measured: None where the file has no labels.
    """

    status: Literal["running", "written"]
    path: str
    columns: list[str]
    rows: int | None
    rows_done: int
    rows_without_prediction: int
    bytes: int | None
    sha256: str | None
    seconds: float
    batches: int
    degraded_batches: int
    class_counts: dict[str, int] | None
    measured: MeasuredOnFile | None


class QuorumReport(Report):
    """Answers needed to decide although f of the nodes may lie, and answers got: the fewest of any batch."""

    needed: int
    got: int
    f: int


class PredictionReport(Report):
    """An answer of the serving nodes; all numbers belong to one bundle.

    `symbol_experts` has, by symbol of the records, the nodes that count twice for it: their capabilities
    name it.
    `weights_source` says where the nodes' weights come from, `weights_outcomes` from how many outcomes they
    have learnt, None where the aggregation has no weights; `feedback_recorded` counts the outcomes that this
    call brought.
    `prediction_set` has, per record, the classes that hold the right one with a probability of 0.9, as
    `interval` does for values; None where too few rows could show that, or the answer is another mix of
    models than was measured. `adapted_level` is where they are cut after outcomes of rows in time order, so
    that nine of ten hold; None where there were none.
    `output` is None unless the answers went into a file; the lists are empty then. `quorum` is None where the
    model's answers are combined as those of honest nodes. `stale` says that no later version can be committed
    now, for want of a majority of voters.
    """

    cluster_id: str
    prediction_id: str
    task: Task
    prediction: Label | None
    predictions: list[Label | None]
    confidence: float | None
    confidences: list[float | None]
    probabilities: list[list[float]] | None
    interval: list[Interval] | None
    prediction_set: list[list[Label]] | None
    adapted_level: float | None
    raw_prediction: Label | None
    calibrated: bool
    classes: list[Label] | None
    positive_class: Label | None
    threshold: float | None
    decision: list[str] | None
    consensus: float | None
    node_agreement: float | None
    effective_ensemble_size: int | None
    error_correlation: float | None
    node_predictions: dict[str, Label | list[Label]] | None
    individual_predictions: list[IndividualPrediction] | None
    aggregation: Aggregation
    weights_source: str | None
    weights_outcomes: int | None
    symbol_experts: dict[str, list[str]] | None
    nodes_used: int
    nodes_expected: int
    excluded_nodes: list[Exclusion]
    quorum: QuorumReport | None
    confidence_source: ConfidenceSource
    stacker: CombinedBy | None
    source: AnsweredBy
    backends: dict[str, int] | None
    degraded: bool
    degraded_reason: str | None
    stale: bool
    model_version: int
    bundle_sha: str
    input_report: InputReport
    latency_ms: float
    synthetic_training_data: bool
    feedback_recorded: int
    output: PredictedFile | None
    warnings: list[str]
