"""A cluster as it is now."""

from typing import Literal, Self

from pydantic import JsonValue

from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.engine.reports.base import Guarantees, Report, Wasm
from flow_nexus_neural.engine.reports.connection import ExchangeReport
from flow_nexus_neural.engine.reports.feedback import FeedbackReport, VersionLine
from flow_nexus_neural.engine.reports.training import (
    DatasetInfo,
    HistoryPoint,
    TrainingProgress,
    TrainingSession,
)
from flow_nexus_neural.vocabulary import (
    Aggregation,
    Architecture,
    Consensus,
    Label,
    ModelSize,
    Role,
    Topology,
    TrainingStatus,
)


class ClassScore(Report):
    """One class on the test rows."""

    label: Label
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


class ConfidenceBin(Report):
    """Rows with a confidence above `low` and up to `high`: its mean, and the share decided right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class ConfidenceScore(Report):
    """Whether `confidence` is what it says: P(the decision is right), on n test rows.

    `ece` is the expected calibration error by `definition`, and `brier` the mean squared difference between
    the confidence and whether the decision was right. `per_bin` has the bins that hold a row; it is for
    `full`, and None of versions stored before it was measured.
    """

    n: int
    bins: int
    definition: str
    ece: float
    brier: float
    per_bin: list[ConfidenceBin] | None = None


class ConformalScore(Report):
    """Whether prediction sets or intervals of `level` hold what they promise, on the test rows.

    `mean_size` is in classes, or the width of the interval. `calibration_rows` are those they rest on.
    """

    level: float
    coverage: float
    mean_size: float | None
    calibration_rows: int


class Evaluation(Report):
    """What the committed model serves for rows that no node trained on, beside the baselines.

    The numbers are those of `aggregation`; `by_aggregation` has the short form of the others. `baselines` are
    accuracies, or root mean squared errors for regression. `positive_class` and `threshold` are of two
    classes; `class_weight` is that of the training. `roles` has what decides whether the networks of
    aggregators, validators and parameter servers are used, with both numbers of each comparison.
    """

    test_rows: int
    aggregation: Aggregation | None
    positive_class: Label | None
    threshold: float | None
    class_weight: dict[str, float] | None
    accuracy_interval: list[float] | None
    baseline_accuracy: float | None
    ensemble_accuracy: float | None
    balanced_accuracy: float | None
    auc: float | None
    brier: float | None
    log_loss: float | None
    ece: float | None
    confidence: ConfidenceScore | None
    conformal: ConformalScore | None
    confusion: list[list[int]] | None
    per_class: list[ClassScore] | None
    directional_accuracy: float | None
    mae: float | None
    rmse: float | None
    r2: float | None
    by_aggregation: dict[Aggregation, dict[str, float | None]] | None
    baselines: dict[str, float] | None
    best_baseline: str | None
    skill: float | None
    roles: dict[str, JsonValue] | None
    data_source: Literal["synthetic", "user", "builtin"]

    @property
    def brief(self) -> Self:
        """Without the bins of the confidence."""
        if self.confidence is None or self.confidence.per_bin is None:
            return self
        confidence = self.confidence.model_copy(update={"per_bin": None})
        return self.model_copy(update={"confidence": confidence})


class Communication(Report):
    """Cumulative payload and framing bytes of nodes; `links` is what they read of each other in exchanges."""

    train: int
    predict: int
    sync: int
    consensus: int
    links: int


class LinkStatus(Report):
    """One link that is meant to be there; `fault` says why it does not work, None where it does."""

    from_slot: str
    to_slot: str
    latency_ms: float | None
    fault: str | None


class Latency(Report):
    """Milliseconds of predict inside the server, last 5 minutes or 1,000 calls."""

    p50: float | None
    p95: float | None
    p99: float | None
    n: int


class RecentPrediction(Report):
    """One answered call of predict: seconds since, milliseconds inside the server, agreement of its nodes."""

    age_s: float
    ms: float
    agreement: float | None


class NodeStatus(Report):
    """One slot, as it is now; `pol` has the proofs of its updates in the training."""

    node_id: str
    slot: str
    role: Role
    status: str
    healthy: bool
    model: ModelSize
    capabilities: list[str]
    autonomy: float
    connections: int
    incarnation: int
    rounds_done: int
    loss: float | None
    rows: int | None
    memory_bytes: int | None
    memory_limit_bytes: int
    parameters: int | None
    pid: int | None
    isolation_level: str
    pol: dict[str, JsonValue] | None
    last_error: str | None


class SharedProcess(Report):
    """A process with several nodes: one failure. In their last round `stacked` were trained in stacks.

    `cpu_s` are CPU seconds of the optimiser steps of all its slots in that round; None before the first.
    """

    pid: int
    slots: list[str]
    stacked: int
    cpu_s: float | None


class RetiredNode(Report):
    """An incarnation that is gone, and why; its slot has another one, or was removed."""

    node_id: str
    slot: str
    incarnation: int
    reason: str | None


class DaaReport(Report):
    """What autonomy did and what it would have done; `events` are entries of its audit log."""

    enabled: bool
    level_effective: float | None
    executed: int
    recommended: int
    suppressed: int
    events: list[dict[str, JsonValue]]


class AuditReport(Report):
    """The newest decisions of autonomy about a cluster, oldest first, and whether their chain is whole."""

    cluster_id: str
    entries: list[dict[str, JsonValue]]
    intact: bool
    damage: str | None


class Performance(Report):
    """Rows per second of training and milliseconds of predict."""

    throughput: float | None
    latency: float | None


class Features(Report):
    """Switches and counts under their known names."""

    daa_enabled: bool
    wasm_enabled: bool
    nodes_deployed: int
    connections_active: int
    training_sessions: int


class Serving(Report):
    """What answers predictions.

    `files` has each network's weights, relative to the state directory. `privacy` is of all trainings in
    the weights, each of them in `full` only, and None of versions stored before it was recorded.
    """

    bundle_sha: str
    files: dict[str, str]
    effective_ensemble_size: int
    confidence_source: str
    privacy: ModelPrivacy | None


class DatasetShort(Report):
    """The data in one line."""

    name: str
    rows: int
    synthetic: bool
    task: str
    target: str

    @classmethod
    def of(cls, dataset: DatasetInfo) -> Self:
        """The short form of a description."""
        return cls.model_validate(dataset.model_dump(include=set(cls.model_fields)))


class StatusReport(Report):
    """A cluster, as it is now.

    `nodes` is empty and `feedback` None in `summary`; history, sessions and `links` are for `full`, versions
    for `versions` and `full`. `links` is None before the first connect. `consensus_report` has, under
    `byzantine`, what a robust rule saw of the training's workers, under `pol` what the proofs of their
    updates showed and cost, and under `gossip` how far apart they are that mix; None where there is none.
    `learnt` has, by slot, what the own network of a node that is no worker learnt for the version in force,
    or why nothing; None where there is no such node or version.
    `agreement` is the mean `node_agreement` over the window of `latency`; `recent_predictions` is for `full`.
    """

    cluster_id: str
    name: str
    topology: Topology
    declared_topology: Topology
    architecture: Architecture
    consensus: Consensus
    status: Literal["initialized", "ready", "training", "degraded", "recovering", "terminated"]
    created_at: str
    uptime: str
    uptime_seconds: int
    active_nodes: int
    total_nodes: int
    failed_nodes: int
    recovering_nodes: int
    training_status: Literal["none", TrainingStatus]
    training_progress: float
    training_error: str | None
    training: TrainingProgress | None
    global_accuracy: float | None
    global_loss: float | None
    evaluation: Evaluation | None
    communication_bytes: int
    communication_mb: float
    communication: Communication
    exchange: list[ExchangeReport]
    avg_latency: float | None
    latency: Latency
    agreement: float | None
    recent_predictions: list[RecentPrediction]
    error_rate: float | None
    memory_usage: float | None
    memory_bytes: int | None
    memory_source: str | None
    nodes: list[NodeStatus]
    processes: list[SharedProcess] | None
    retired_nodes: list[RetiredNode]
    links: list[LinkStatus] | None
    learnt: dict[str, dict[str, JsonValue]] | None
    guarantees: Guarantees
    consensus_report: dict[str, JsonValue] | None
    daa: DaaReport
    performance: Performance
    wasm: Wasm
    features: Features
    model_version: int | None
    serving: Serving | None
    feedback: FeedbackReport | None
    dataset_info: DatasetShort | None
    versions: list[VersionLine]
    history: list[HistoryPoint]
    training_sessions: list[TrainingSession]
    timed_out: bool
    changed: bool
    poll_after_ms: int | None
    warnings: list[str]
