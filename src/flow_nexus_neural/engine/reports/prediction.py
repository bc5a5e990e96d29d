"""An answer of the serving nodes."""

from typing import Literal

from flow_nexus_neural.engine.reports.base import Exclusion, Report
from flow_nexus_neural.vocabulary import Aggregation, Label, Task


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


class PredictionReport(Report):
    """An answer of the serving nodes; all numbers belong to one bundle."""

    cluster_id: str
    prediction_id: str
    task: Task
    prediction: Label | None
    predictions: list[Label | None]
    confidence: float | None
    confidences: list[float | None]
    probabilities: list[list[float]] | None
    interval: list[Interval] | None
    raw_prediction: Label | None
    calibrated: bool
    classes: list[Label] | None
    positive_class: Label | None
    threshold: float | None
    decision: list[str] | None
    consensus: float
    node_agreement: float
    effective_ensemble_size: int
    error_correlation: float | None
    node_predictions: dict[str, Label | list[Label]] | None
    individual_predictions: list[IndividualPrediction] | None
    aggregation: Aggregation
    nodes_used: int
    nodes_expected: int
    excluded_nodes: list[Exclusion]
    confidence_source: Literal["margin", "none"]
    stacker: Literal["fallback"] | None
    degraded: bool
    degraded_reason: str | None
    model_version: int
    bundle_sha: str
    input_report: InputReport
    latency_ms: float
    synthetic_training_data: bool
    warnings: list[str]
