"""A cluster: made, listed, ended."""

from typing import Literal

from flow_nexus_neural.engine.reports.base import Guarantees, Report, Wasm
from flow_nexus_neural.vocabulary import Architecture, Consensus, Topology, TrainingStatus


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


class Restored(Report):
    """What came back of a cluster that had ended, or of a version; null where there is none of it.

    Attributes:
        terminated_at: When it had ended; None for a live one.
        topology: How its nodes are linked again.
        model_version: What answers predictions.
        restored_version: Of which it has the weights, and all numbers while the same nodes answer; None where
            no version was asked for.
    """

    terminated_at: str | None
    nodes: int
    healthy_nodes: int
    topology: Topology | None
    model_version: int | None
    restored_version: int | None


class ClusterReport(Report):
    """A cluster exists; `restored` is None unless it or a version of it was brought back."""

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
    restored: Restored | None
    warnings: list[str]


class FinalMetrics(Report):
    """What a terminated cluster had reached."""

    rounds: int | None
    global_accuracy: float | None
    global_loss: float | None
    communication_bytes: int | None
    uptime_seconds: int | None


class TerminateReport(Report):
    """A cluster or a training has ended, or a node was removed."""

    cluster_id: str
    status: Literal["terminated", "training_stopped", "node_removed"]
    already_terminated: bool
    nodes_terminated: int
    training_id: str | None
    node_id: str | None
    message: str
    checkpoints_kept: int
    artifacts_path: str | None
    final_metrics: FinalMetrics
    terminated_at: str | None
    warnings: list[str]


class ClusterLine(Report):
    """A cluster in one line; what cannot be read of it is None.

    `restorable` is None for a cluster that has not ended. True: everything of it is there that bringing it
    back needs; whether the files are sound is checked then.
    """

    cluster_id: str
    name: str
    status: str
    created_at: str
    active_nodes: int | None
    total_nodes: int | None
    training_status: Literal["none", TrainingStatus] | None
    training_progress: float | None
    model_version: int | None
    restorable: bool | None


class ClusterList(Report):
    """Clusters of this server's state directory, newest last; `ended` counts all that have ended."""

    clusters: list[ClusterLine]
    live: int
    ended: int
    warnings: list[str]
