"""The operations and the three views that a face of the product may call.

`engine.engine.Engine` implements it; the server depends on this protocol only, so that its tests can run
against a double and so that listing tools does not load numpy.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from flow_nexus_neural.engine.reports import (
    AuditReport,
    ClusterList,
    ClusterReport,
    ConnectReport,
    ExportReport,
    HistoryReport,
    ImportReport,
    NodeReport,
    PlotReport,
    PredictionReport,
    StatusReport,
    TerminateReport,
    TrainingReport,
)
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    ExportRequest,
    ImportRequest,
    InitRequest,
    ListRequest,
    PlotRequest,
    PredictRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)

Progress = Callable[[float, float, str], Awaitable[None]]
"""(done, total, message) while a call waits; `done` never falls."""


class EngineSurface(Protocol):
    """What every face sees of the engine. All raise `NeuralError` leaves and nothing else."""

    async def init_cluster(self, request: InitRequest) -> ClusterReport:
        """Create a cluster; its row is durable when this returns."""
        ...

    async def deploy_node(self, request: DeployRequest) -> NodeReport:
        """Start a node; it is healthy and its row durable when this returns."""
        ...

    async def connect(
        self, request: ConnectRequest, progress: Progress | None = None
    ) -> ConnectReport:
        """Link the nodes; during a training at the next round boundary."""
        ...

    async def train(self, request: TrainRequest) -> TrainingReport:
        """Start a training and return at once; it outlives the call."""
        ...

    async def status(
        self, request: StatusRequest, progress: Progress | None = None
    ) -> StatusReport:
        """Report a cluster, optionally after waiting for a change."""
        ...

    async def predict(
        self, request: PredictRequest, progress: Progress | None = None
    ) -> PredictionReport:
        """Ask the serving nodes under a deadline; from a file or into one, batch by batch."""
        ...

    async def plot(self, request: PlotRequest) -> PlotReport:
        """Draw what was measured of a cluster, also of one that has ended."""
        ...

    async def terminate(self, request: TerminateRequest) -> TerminateReport:
        """Stop every node of a cluster, or one training. Idempotent; shielded from cancellation."""
        ...

    async def export_model(self, request: ExportRequest) -> ExportReport:
        """Write a version of a cluster's model as files of a format, checked against its nodes."""
        ...

    async def import_model(self, request: ImportRequest) -> ImportReport:
        """Make a cluster of an exported folder; it is durable and serves when this returns."""
        ...

    async def clusters(self, request: ListRequest | None = None) -> ClusterList:
        """Clusters in the order in which they were created; all of them without a request."""
        ...

    async def history(self, cluster_id: str) -> HistoryReport:
        """Every committed round of the latest training."""
        ...

    async def audit(self, cluster_id: str) -> AuditReport:
        """The newest decisions of autonomy about a cluster, as they are stored."""
        ...

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener(cluster_id)` on the event loop whenever that cluster's status changed."""
        ...
