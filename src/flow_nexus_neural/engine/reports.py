"""What the engine reports: every number measured, every unknown None, no field with a default.

The server adds the aliases that clients know (`id`, `sandbox_id`, `session_id`, ...) and nothing else.
Importing this module loads neither numpy nor the engine.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from flow_nexus_neural.engine.requests import (
    Aggregation,
    Architecture,
    Consensus,
    ModelSize,
    Optimizer,
    Role,
    Topology,
)

Label = str | int | float | bool


class Report(BaseModel):
    """Base: immutable, complete, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Guarantees(Report):
    """What the mode in force promises at this size; `holds` False says it promises nothing."""

    mode: str
    n: int
    f_tolerated: int
    condition: str
    holds: bool
    trusted: list[str]
    notes: list[str]


class Wasm(Report):
    """Whether a node runs WASM, and why not."""

    requested: bool
    active: bool
    reason: str


class Limits(Report):
    """Caps that a client can run into."""

    max_parameters: int
    max_rows: int


class ClusterConfig(Report):
    """The effective configuration of a cluster."""

    architecture: Architecture
    topology: Topology
    consensus: Consensus
    daa_enabled: bool
    wasm_optimization: Wasm
    seed: int
    max_nodes: int
    limits: Limits


class IsolationPreview(Report):
    """The level nodes will get; `unknown` before the first one was measured."""

    level: str
    platform: str


class ClusterReport(Report):
    """A cluster exists."""

    cluster_id: str
    name: str
    topology: Topology
    architecture: Architecture
    consensus: Consensus
    status: Literal["initialized", "ready"]
    created: bool
    config: ClusterConfig
    daa_enabled: bool
    wasm_enabled: bool
    guarantees: Guarantees
    isolation: IsolationPreview
    max_nodes: int
    created_at: str
    warnings: list[str]


class IsolationReport(Report):
    """What confines one node, as measured on it."""

    level: str
    layers: dict[str, JsonValue]
    probes: dict[str, str]
    not_enforced: list[str]
    missing: list[str]
    shared_with: list[str]


class NodeReport(Report):
    """A node runs."""

    node_id: str
    cluster_id: str
    slot: str
    role: Role
    node_type: str
    status: Literal["deployed"]
    healthy: bool
    model: ModelSize
    capabilities: list[str]
    autonomy: float
    template: str
    runtime: str
    layers: list[dict[str, JsonValue]]
    layers_source: Literal["given", "inherited", "peer", "default"]
    parameters: int | None
    implied_head: bool | None
    incarnation: int
    replaces: str | None
    synced_version: int | None
    sync_ms: float | None
    deduplicated: bool
    joins: Literal["now", "next_round"]
    pid: int | None
    isolation: IsolationReport
    deployed_at: str
    warnings: list[str]


class Edge(Report):
    """One undirected link; `from_slot` and `to_slot` are slot names."""

    from_slot: str
    to_slot: str
    latency_ms: float | None


class Exclusion(Report):
    """A node that was left out, and why."""

    node_id: str
    reason: str


class AggregationReport(Report):
    """The exact aggregation at a connect."""

    performed: bool
    reason: str | None
    version: int | None
    contributors: int | None
    excluded: list[Exclusion]
    weights_digest: str | None
    accuracy_before: float | None
    accuracy_after: float | None
    bytes: int | None
    ms: float | None


class Rebalanced(Report):
    """Shards that moved to another slot."""

    moved_shards: int


class ConnectReport(Report):
    """The nodes are linked, or will be at the next round."""

    cluster_id: str
    topology: Topology
    declared_topology: Topology
    previous_topology: Topology | None
    status: Literal["connected", "pending"]
    pending: bool
    changed: bool
    applied: Literal["now", "next_round"]
    topology_epoch: int
    connections: int
    edges: list[Edge] | None
    nodes_connected: int
    connected: bool
    diameter: int | None
    spectral_gap: float | None
    aggregation: AggregationReport
    rebalanced: Rebalanced
    advice: list[str]
    warnings: list[str]


class TrainingConfig(Report):
    """Every effective argument of a training."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    federated: bool
    rounds: int
    local_epochs: int
    clients_per_round: int | None
    min_nodes_per_round: int | None
    aggregation_method: str
    partition: str
    seed: int
    strategy: Literal["federated", "all_reduce", "local_sgd", "single_process"]
    sync_every_steps: int | None


class ExcludedColumn(Report):
    """A column that is not a feature, and why."""

    name: str
    reason: str


class SplitSizes(Report):
    """Rows per part; parts that this many rows do not allow are 0."""

    train: int
    select: int
    meta: int
    verify: int
    calib: int
    test: int
    purged: int


class DatasetInfo(Report):
    """The data as it was understood."""

    name: str
    kind: Literal["builtin", "file", "directory", "inline"]
    source: str
    rows: int
    columns: list[str]
    target: str
    task: Literal["binary", "multiclass", "regression"]
    classes: list[Label] | None
    split: SplitSizes
    synthetic: bool
    sha256: str
    symbols: list[str]
    excluded_columns: list[ExcludedColumn]


class NetworkInfo(Report):
    """One cohort: slots with the same network."""

    cohort: str
    slots: list[str]
    parameters: int
    input: list[int]
    implied_head: bool
    layers_source: str


class TrainingReport(Report):
    """A training runs."""

    training_id: str
    cluster_id: str
    status: Literal["running"]
    nodes_training: int
    participating_nodes: list[str]
    epochs: int
    total_rounds: int
    config: TrainingConfig
    dataset_info: DatasetInfo
    networks: list[NetworkInfo]
    guarantees: Guarantees
    poll_after_ms: int
    estimated_seconds: float | None
    started_at: str
    warnings: list[str]


class Evidence(Report):
    """Proof that a training trains: optimiser steps, and the weights before and after."""

    steps: int
    weights_digest_before: str | None
    weights_digest_after: str | None


class TrainingProgress(Report):
    """How far a training is."""

    training_id: str
    current_round: int
    total_rounds: int
    current_epoch: int
    total_epochs: int
    strategy: str
    train_loss: float | None
    val_loss: float | None
    best_round: int | None
    seconds_per_round: float | None
    eta_seconds: float | None
    evidence: Evidence


class Evaluation(Report):
    """The committed model on rows that no node trained on, beside the baseline."""

    test_rows: int
    accuracy_interval: list[float] | None
    baseline_accuracy: float | None
    ensemble_accuracy: float | None
    balanced_accuracy: float | None
    auc: float | None
    brier: float | None
    log_loss: float | None
    ece: float | None
    confusion: list[list[int]] | None
    mae: float | None
    rmse: float | None
    r2: float | None
    data_source: Literal["synthetic", "user"]


class Communication(Report):
    """Cumulative payload and framing bytes on node links."""

    train: int
    predict: int
    sync: int
    consensus: int


class Latency(Report):
    """Milliseconds of predict inside the server, last 5 minutes or 1,000 calls."""

    p50: float | None
    p95: float | None
    p99: float | None
    n: int


class NodeStatus(Report):
    """One slot, as it is now."""

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
    backend: str
    pid: int | None
    isolation_level: str
    pol: dict[str, JsonValue] | None
    last_error: str | None


class DaaReport(Report):
    """What autonomy did and would do."""

    enabled: bool
    level_effective: float | None
    executed: int
    recommended: int
    suppressed: int
    events: list[dict[str, JsonValue]]


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
    """What answers predictions. `files` has each cohort's weights, relative to the state directory."""

    bundle_sha: str
    files: dict[str, str]
    effective_ensemble_size: int
    confidence_source: str


class DatasetShort(Report):
    """The data in one line."""

    name: str
    rows: int
    synthetic: bool
    task: str
    target: str


class HistoryPoint(Report):
    """One committed round."""

    round: int
    train_loss: float | None
    val_loss: float | None
    accuracy: float | None
    bytes: int
    seconds: float


class TrainingSession(Report):
    """One training of the cluster, past or running."""

    training_id: str
    status: str
    rounds_done: int
    total_rounds: int
    started_at: str
    ended_at: str | None
    error: str | None


class StatusReport(Report):
    """A cluster, as it is now.

    `nodes` is empty in `summary`; history and sessions are for `full`.
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
    training_status: Literal["none", "running", "completed", "early_stopped", "stopped", "failed"]
    training_progress: float
    training_error: str | None
    training: TrainingProgress | None
    global_accuracy: float | None
    global_loss: float | None
    evaluation: Evaluation | None
    communication_bytes: int
    communication_mb: float
    communication: Communication
    avg_latency: float | None
    latency: Latency
    error_rate: float | None
    memory_usage: float | None
    memory_bytes: int | None
    memory_source: str | None
    nodes: list[NodeStatus]
    guarantees: Guarantees
    consensus_report: dict[str, JsonValue] | None
    daa: DaaReport
    performance: Performance
    wasm: Wasm
    features: Features
    model_version: int | None
    serving: Serving | None
    dataset_info: DatasetShort | None
    history: list[HistoryPoint]
    training_sessions: list[TrainingSession]
    timed_out: bool
    changed: bool
    poll_after_ms: int | None
    warnings: list[str]


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
    confidence: float | None
    latency_ms: float | None


class Quorum(Report):
    """Answers needed and got."""

    needed: int
    got: int


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
    task: Literal["binary", "multiclass", "regression"]
    prediction: Label | None
    predictions: list[Label | None]
    confidence: float | None
    confidences: list[float | None]
    probabilities: list[list[float]] | None
    interval: list[Interval] | None
    raw_prediction: Label | None
    calibrated: bool
    classes: list[Label] | None
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
    quorum: Quorum | None
    confidence_source: Literal["validator", "margin", "none"]
    stacker: Literal["net", "fallback"] | None
    degraded: bool
    stale: bool
    degraded_reason: str | None
    model_version: int
    bundle_sha: str
    input_report: InputReport
    latency_ms: float
    synthetic_training_data: bool
    feedback_recorded: bool
    warnings: list[str]


class FinalMetrics(Report):
    """What a terminated cluster had reached."""

    rounds: int | None
    global_accuracy: float | None
    global_loss: float | None
    communication_bytes: int | None
    uptime_seconds: int | None


class TerminateReport(Report):
    """A cluster or a training has ended."""

    cluster_id: str
    status: Literal["terminated", "training_stopped"]
    already_terminated: bool
    nodes_terminated: int
    training_id: str | None
    message: str
    checkpoints_kept: int
    artifacts_path: str | None
    final_metrics: FinalMetrics
    terminated_at: str | None
    warnings: list[str]


class ClusterLine(Report):
    """A cluster in one line."""

    cluster_id: str
    name: str
    status: str
    created_at: str


class ClusterList(Report):
    """All clusters that this server knows, newest last."""

    clusters: list[ClusterLine]


class HistoryReport(Report):
    """Every committed round of a cluster's latest training."""

    cluster_id: str
    training_id: str | None
    rounds: list[HistoryPoint]
