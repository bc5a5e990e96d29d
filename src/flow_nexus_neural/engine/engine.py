"""The engine: clusters by id, and the operations on them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

import anyio
from pydantic import JsonValue

from flow_nexus_neural.engine.autonomy.attend import attend, audit_report
from flow_nexus_neural.engine.calls.core_slots import TrainingTurns
from flow_nexus_neural.engine.context import EngineContext, Notices
from flow_nexus_neural.engine.figures.seen import Copied
from flow_nexus_neural.engine.links.connect import connect
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.deploy import deploy
from flow_nexus_neural.engine.operations.cluster_report import cluster_report, reused
from flow_nexus_neural.engine.operations.clusters import Clusters, EndedCluster, with_parts
from flow_nexus_neural.engine.operations.export import export_model
from flow_nexus_neural.engine.operations.fall_back import fall_back
from flow_nexus_neural.engine.operations.import_model import read_model, started, stored
from flow_nexus_neural.engine.operations.plot import plot
from flow_nexus_neural.engine.operations.restore import restore, sweep
from flow_nexus_neural.engine.operations.restore_ended import (
    ended_cluster,
    refuse_more_clusters,
    refuse_restore,
    reopened,
    start_again,
)
from flow_nexus_neural.engine.operations.restore_version import (
    refuse_version_alone,
    restore_version,
    unmeasured_of,
)
from flow_nexus_neural.engine.operations.status import status_report
from flow_nexus_neural.engine.operations.terminate import stop_nodes, terminate
from flow_nexus_neural.engine.operations.tracking import Tracking
from flow_nexus_neural.engine.operations.wait import wait_for_change
from flow_nexus_neural.engine.ports import REAL_PORTS, Offload, Ports
from flow_nexus_neural.engine.prediction.predict import predict
from flow_nexus_neural.engine.prediction.predict_file import predict_file
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
from flow_nexus_neural.engine.state.cluster import ClusterSpec, ClusterState
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row
from flow_nexus_neural.engine.storage.ledger_writer import LedgerWriter
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.engine.training.resume import begin_resumption, show_interrupted
from flow_nexus_neural.engine.training.start import start_training
from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.runtime.choice import runtime_of_this_system
from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess

WORKER_THREADS = 2
DATA_THREADS = 4
NO_NOTICES = Notices()


class _Turn:
    """Held while one call ends a cluster or deletes what is left of it."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()


class Engine:
    """Clusters of neural nodes on this machine; an `EngineSurface`. Open one with `Engine.open`.

    Attributes:
        context: What all its clusters share.
    """

    def __init__(self, context: EngineContext) -> None:
        self.context = context
        self._clusters = Clusters(context)
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._creating = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        *,
        zygote: "Callable[[], ZygoteProcess | None]" = lambda: None,
        runtime: NodeRuntime | None = None,
        ports: Ports = REAL_PORTS,
        notices: Notices = NO_NOTICES,
        goes_on: bool = True,
    ) -> AsyncIterator[Self]:
        """Lock the state directory, read the clusters back, and serve until the block ends.

        On leaving, every node is stopped and the store closed.

        Args:
            settings: Limits and places.
            zygote: Gives an already launched process that forks nodes, or None to launch one. Called when the
                runtime is made, once per opening: a process that served an engine before ends with it.
            runtime: Where nodes live, opened by the caller; local processes by default.
            ports: Time, ids, threads and fail points; those of the system by default.
            notices: What callers should know of the state directory.
            goes_on: Let trainings go on that ran when a former server ended; else they are shown as
                interrupted and stay as they are stored.

        Raises:
            StateDirLocked, StoreUnavailable, StoreCorrupt: The state directory cannot be used.
        """
        async with AsyncExitStack() as stack:
            offload = ports.offload(WORKER_THREADS)
            store = await offload(Store.open, settings.state_dir, ports)
            stack.push_async_callback(_close_store, store, offload)
            settings.data_root.mkdir(parents=True, exist_ok=True)
            if runtime is None:
                opened = runtime_of_this_system(settings, zygote())
                runtime = await stack.enter_async_context(opened)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            engine = cls(
                EngineContext(
                    settings=settings,
                    runtime=runtime,
                    store=store,
                    checkpoints=CheckpointFiles(settings.state_dir, ports.fail_point),
                    ports=ports,
                    tasks=tasks,
                    offload=offload,
                    offload_reading=ports.offload(WORKER_THREADS),
                    offload_data=ports.offload_data(DATA_THREADS),
                    turns=TrainingTurns(runtime.capabilities.places),
                    notices=notices,
                )
            )
            serves = goes_on and not settings.read_only
            yield await stack.enter_async_context(engine._serving(goes_on=serves))

    @asynccontextmanager
    async def _serving(self, *, goes_on: bool) -> AsyncIterator[Self]:
        """Read the clusters back and serve; on leaving, every node is stopped and no task is left."""
        try:
            await self._restore(goes_on=goes_on)
            if goes_on:
                self._begin_tracking()
            yield self
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()
            self.context.tasks.cancel_scope.cancel()

    async def init_cluster(self, request: InitRequest) -> ClusterReport:
        """Create a cluster; its row is durable when this returns."""
        refuse_version_alone(request)
        if request.restore is not None:
            return await self._restore_ended(request, request.restore)
        async with self._creating:
            return await self._init_cluster(request)

    async def _restore_ended(self, request: InitRequest, text: str) -> ClusterReport:
        """Bring a cluster back that has ended; its rows are durable and its nodes run when this returns."""
        with anyio.CancelScope(shield=True):
            async with self._creating:
                found = ended_cluster(self._clusters, request, text)
                if not isinstance(found, LiveCluster):
                    cluster, ended_at = await self._reopened(request, found)
            if not isinstance(found, LiveCluster):
                cluster.changed()
                restored = await start_again(cluster, ended_at)
        if isinstance(found, LiveCluster):
            return await self._with_version(found, request, reused(found, request))
        warnings = [*self.context.notices.always, *restored.warnings]
        made = cluster_report(cluster, created=False, warnings=warnings, restored=restored.report)
        return await self._with_version(cluster, request, made)

    async def _reopened(self, request: InitRequest, ended: EndedCluster) -> tuple[LiveCluster, str]:
        """The cluster, which goes on, and when it had ended."""
        turn = self._turns.setdefault(ended.cluster_id, _Turn())
        async with turn.lock:
            # Once more: its files may have been deleted meanwhile.
            ended = refuse_restore(self.context, self._clusters, request, ended)
            state, whole = await reopened(self.context, self._clusters, request, ended)
            cluster = with_parts(self.context, state)
            if whole is not None:  # before anybody can ask it anything
                await fall_back(cluster, whole)
            return self._add(cluster), ended.terminated_at

    async def _with_version(
        self, cluster: LiveCluster, request: InitRequest, made: ClusterReport
    ) -> ClusterReport:
        """Put the version in force that a request asks for, if it does."""
        if request.version is None:
            return made
        ended_at = made.restored.terminated_at if made.restored else None
        restored = await restore_version(cluster, request.version, ended_at)
        told = [*made.warnings, *unmeasured_of(cluster, request.version)]
        return made.model_copy(update={"restored": restored, "warnings": told})

    async def _init_cluster(self, request: InitRequest) -> ClusterReport:
        twins = [c for c in self._clusters.live() if c.spec.name == request.name]
        if request.reuse and twins:
            return reused(twins[-1], request)
        context = self.context
        refuse_more_clusters(context, len(self._clusters.live()))
        seed = request.seed if request.seed is not None else context.ports.random_bits(48)
        state = ClusterState(
            cluster_id=context.new_id("dnc"),
            spec=ClusterSpec.of(request, seed),
            created_at=context.timestamp(),
            clock=context.clock,
            created_at_s=context.clock(),
        )
        created: dict[str, JsonValue] = {"kind": "control", "event": "created"}
        ledger = LedgerWriter(context.store, state, context.timestamp)
        await ledger.record([created], [present_cluster_row(state)])
        cluster = self._add(with_parts(context, state))
        cluster.changed()
        warnings = list(context.notices.always)
        if twins:
            ids = ", ".join(twin.cluster_id for twin in twins[:8])
            warnings.append(f"a live cluster of this name exists already: {ids}")
        if lost := self._clusters.unreadable_named(request.name or ""):
            ids = ", ".join(lost[:8])
            warnings.append(f"a stored cluster of this name cannot be read: {ids}")
        return cluster_report(cluster, created=True, warnings=warnings)

    async def deploy_node(self, request: DeployRequest) -> NodeReport:
        """Start a node; it is healthy and its row durable when this returns."""
        return await deploy(await self._clusters.find_live(request.cluster_id), request)

    async def connect(
        self, request: ConnectRequest, progress: Progress | None = None
    ) -> ConnectReport:
        """Link the nodes; during a training at the next round boundary."""
        return await connect(await self._clusters.find_live(request.cluster_id), request, progress)

    async def train(self, request: TrainRequest) -> TrainingReport:
        """Start a training and return at once; it outlives the call."""
        return await start_training(await self._clusters.find_live(request.cluster_id), request)

    async def status(
        self, request: StatusRequest, progress: Progress | None = None
    ) -> StatusReport:
        """Report a cluster, optionally after waiting for a change."""
        cluster = await self._clusters.read(request.cluster_id)
        changed, timed_out = await wait_for_change(cluster, request, progress)
        return await status_report(cluster, request, changed=changed, timed_out=timed_out)

    async def predict(
        self, request: PredictRequest, progress: Progress | None = None
    ) -> PredictionReport:
        """Ask the serving nodes under a deadline; from a file or into one, batch by batch."""
        cluster = await self._clusters.find_live(request.cluster_id)
        if request.input_path is None and request.output_path is None and not request.overwrite:
            return await predict(cluster, request)
        return await predict_file(cluster, request, progress)

    async def export_model(self, request: ExportRequest) -> ExportReport:
        """Write a version of a cluster's model as files of a format, checked against its nodes."""
        return await export_model(await self._clusters.find_live(request.cluster_id), request)

    async def plot(self, request: PlotRequest, copied: Copied | None = None) -> PlotReport:
        """Draw what was measured of a cluster, also of one that has ended; `copied` as `plot` has it."""
        return await plot(await self._clusters.read(request.cluster_id), request, copied)

    async def import_model(self, request: ImportRequest) -> ImportReport:
        """Make a cluster of an exported folder; it is durable and serves when this returns."""
        model = await read_model(self.context, request)
        with anyio.CancelScope(shield=True):
            async with self._creating:
                refuse_more_clusters(self.context, len(self._clusters.live()))
                twins = [c for c in self._clusters.live() if c.spec.name == model.name]
                cluster = self._add(with_parts(self.context, await stored(self.context, model)))
            cluster.changed()
            report = await started(cluster, model, [twin.cluster_id for twin in twins])
        return report  # noqa: RET504  a cancel scope may swallow, as far as a type checker knows

    async def terminate(self, request: TerminateRequest) -> TerminateReport:
        """Stop every node of a cluster, or one training. Idempotent; shielded from cancellation."""
        with anyio.CancelScope(shield=True):
            report = await self._terminate(request)
        return report  # noqa: RET504  a cancel scope may swallow, as far as a type checker knows

    async def _terminate(self, request: TerminateRequest) -> TerminateReport:
        cluster = await self._clusters.read(request.cluster_id)
        if request.training_id is not None:
            return await terminate(cluster, request)
        turn = self._turns.setdefault(cluster.cluster_id, _Turn())
        async with turn.lock:
            # Once more: it may have ended meanwhile, and is then read from disk.
            cluster = await self._clusters.read(cluster.cluster_id)
            try:
                return await terminate(cluster, request)
            finally:
                self._clusters.let_go(cluster)

    async def clusters(self, request: ListRequest | None = None) -> ClusterList:
        """Clusters in the order in which they were created; all of them without a request."""
        return await self._clusters.report(request)

    async def history(self, cluster_id: str) -> HistoryReport:
        """Every committed round of the latest training."""
        cluster = await self._clusters.read(cluster_id)
        training = cluster.state.latest_training
        return HistoryReport(
            cluster_id=cluster.cluster_id,
            training_id=training.training_id if training else None,
            rounds=list(training.history) if training else [],
        )

    async def audit(self, cluster_id: str) -> AuditReport:
        """The newest decisions of autonomy about a cluster, as they are stored."""
        return await audit_report(await self._clusters.read(cluster_id))

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener(cluster_id)` on the event loop whenever that cluster's status changed."""
        self.context.listeners.append(listener)

    def cluster(self, text: str) -> LiveCluster:
        """A cluster that has not ended, by id or by name.

        Raises:
            ClusterNotFound, AmbiguousCluster: There is none, or more than one.
            ClusterTerminated: It has ended.
            StoreCorrupt: It cannot be read.
        """
        return self._clusters.find(text)

    def _begin_tracking(self) -> None:
        """Trackers follow from now on, with what they lack of trainings of an earlier server."""
        tracking = Tracking(self.context, self._clusters.known)
        self.context.listeners.append(tracking.note)
        self.context.spawn(tracking.run)
        for cluster in self._clusters.live():
            tracking.note(cluster.cluster_id)

    async def _restore(self, *, goes_on: bool) -> None:
        found = await restore(self.context)
        self._clusters.refuse(found.refused, found.names)
        await sweep(self.context, found)
        bring_back = begin_resumption if goes_on else show_interrupted
        for state in found.clusters:
            state.restart_clock()
            cluster = self._add(with_parts(self.context, state))
            if state.cluster_id in found.fall_backs:
                await fall_back(cluster, found.fall_backs[state.cluster_id])
            bring_back(cluster)
            self._clusters.let_go(cluster)

    def _add(self, cluster: LiveCluster) -> LiveCluster:
        """A cluster that is new or was read back, and whoever attends to it."""
        self._clusters.add(cluster)
        if cluster.state.terminated_at is None:
            self.context.spawn(attend, cluster)
        return cluster

    async def _close(self) -> None:
        """Stop trainings and nodes; stored rows keep saying what ran."""
        for cluster in self._clusters.live():
            if cluster.run is not None:
                cluster.run.interrupt()
        async with anyio.create_task_group() as group:
            for cluster in self._clusters.live():
                group.start_soon(stop_nodes, cluster)
            group.start_soon(self.context.runtime.aclose)


async def _close_store(store: Store, offload: Offload) -> None:
    with anyio.CancelScope(shield=True):
        await offload(store.close)
