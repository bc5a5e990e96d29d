"""The engine: clusters by id, and the seven operations on them."""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio

from flow_nexus_neural.engine.calls.core_slots import TrainingTurns
from flow_nexus_neural.engine.context import EngineContext, new_id, timestamp
from flow_nexus_neural.engine.links.connect import connect
from flow_nexus_neural.engine.nodes.deploy import deploy
from flow_nexus_neural.engine.operations.restore import restore
from flow_nexus_neural.engine.operations.status import (
    cluster_config,
    cluster_line,
    guarantees,
    isolation_preview,
    status_report,
)
from flow_nexus_neural.engine.operations.terminate import stop_nodes, terminate
from flow_nexus_neural.engine.operations.wait import wait_for_change
from flow_nexus_neural.engine.prediction.predict import predict
from flow_nexus_neural.engine.reports import (
    ClusterList,
    ClusterReport,
    ConnectReport,
    HistoryReport,
    NodeReport,
    PredictionReport,
    StatusReport,
    TerminateReport,
    TrainingReport,
)
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    PredictRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.engine.state.cluster import Cluster, ClusterSpec, refuse_ended
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.engine.training.start import start_training
from flow_nexus_neural.errors import (
    AmbiguousCluster,
    ClusterExists,
    ClusterNotFound,
    LimitExceeded,
    StoreCorrupt,
)
from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.runtime.choice import runtime_of_this_system
from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess

WORKER_THREADS = 2


class Engine:
    """Clusters of neural nodes on this machine; an `EngineSurface`. Open one with `Engine.open`."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._clusters: dict[str, Cluster] = {}
        self._refused: dict[str, str] = {}
        self._creating = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Settings,
        *,
        zygote: "ZygoteProcess | None" = None,
        runtime: NodeRuntime | None = None,
    ) -> AsyncIterator[Self]:
        """Lock the state directory, read the clusters back, and serve until the block ends.

        On leaving, every node is stopped and the store closed.

        Args:
            settings: Limits and places.
            zygote: An already launched process that forks nodes; only used without `runtime`.
            runtime: Where nodes live, opened by the caller; local processes by default.

        Raises:
            StateDirLocked, StoreUnavailable, StoreCorrupt: The state directory cannot be used.
        """
        async with AsyncExitStack() as stack:
            store = await anyio.to_thread.run_sync(Store.open, settings.state_dir)
            stack.push_async_callback(_close_store, store)
            settings.data_root.mkdir(parents=True, exist_ok=True)
            if runtime is None:
                opened = runtime_of_this_system(settings, zygote)
                runtime = await stack.enter_async_context(opened)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            engine = cls(
                EngineContext(
                    settings=settings,
                    runtime=runtime,
                    store=store,
                    checkpoints=CheckpointFiles(settings.state_dir),
                    tasks=tasks,
                    workers=anyio.CapacityLimiter(WORKER_THREADS),
                    turns=TrainingTurns(runtime.capabilities.places),
                    listeners=[],
                )
            )
            try:
                await engine._restore()
                yield engine
            finally:
                with anyio.CancelScope(shield=True):
                    await engine._close()
                tasks.cancel_scope.cancel()

    async def init_cluster(self, request: InitRequest) -> ClusterReport:
        """Create a cluster; its row is durable when this returns."""
        async with self._creating:
            return await self._init_cluster(request)

    async def _init_cluster(self, request: InitRequest) -> ClusterReport:
        twins = [c for c in self._live() if c.spec.name == request.name]
        if request.reuse and twins:
            return self._reused(twins[-1], request)
        if len(self._live()) >= self._context.settings.max_clusters:
            raise LimitExceeded(
                f"this server has {len(self._live())} live clusters;"
                f" the limit is {self._context.settings.max_clusters}",
                hint="end one with neural_cluster_terminate, or start the server with --max-clusters",
            )
        seed = request.seed if request.seed is not None else secrets.randbits(48)
        cluster = Cluster(
            cluster_id=new_id("dnc"),
            spec=ClusterSpec.of(request, seed),
            created_at=timestamp(),
            clock=self._context.clock,
            created_at_s=self._context.clock(),
        )
        await self._context.store.put_cluster(cluster.to_row())
        self._clusters[cluster.cluster_id] = cluster
        self._context.changed(cluster)
        warnings = []
        if twins:
            ids = ", ".join(twin.cluster_id for twin in twins[:8])
            warnings.append(f"a live cluster of this name exists already: {ids}")
        return self._cluster_report(cluster, created=True, warnings=warnings)

    async def deploy_node(self, request: DeployRequest) -> NodeReport:
        """Start a node; it is healthy and its row durable when this returns."""
        return await deploy(self._context, self._find_live(request.cluster_id), request)

    async def connect(
        self, request: ConnectRequest, progress: Progress | None = None
    ) -> ConnectReport:
        """Link the nodes; during a training at the next round boundary."""
        cluster = self._find_live(request.cluster_id)
        return await connect(self._context, cluster, request, progress)

    async def train(self, request: TrainRequest) -> TrainingReport:
        """Start a training and return at once; it outlives the call."""
        return await start_training(self._context, self._find_live(request.cluster_id), request)

    async def status(
        self, request: StatusRequest, progress: Progress | None = None
    ) -> StatusReport:
        """Report a cluster, optionally after waiting for a change."""
        cluster = self._find(request.cluster_id)
        changed, timed_out = await wait_for_change(cluster, request, progress)
        return await status_report(
            self._context, cluster, request, changed=changed, timed_out=timed_out
        )

    async def predict(self, request: PredictRequest) -> PredictionReport:
        """Ask the serving nodes under a deadline."""
        return await predict(self._context, self._find_live(request.cluster_id), request)

    async def terminate(self, request: TerminateRequest) -> TerminateReport:
        """Stop every node of a cluster, or one training. Idempotent; shielded from cancellation."""
        return await terminate(self._context, self._find(request.cluster_id), request)

    async def clusters(self) -> ClusterList:
        """All clusters, in the order in which they were created."""
        return ClusterList(clusters=[cluster_line(c) for c in self._clusters.values()])

    async def history(self, cluster_id: str) -> HistoryReport:
        """Every committed round of the latest training."""
        cluster = self._find(cluster_id)
        training = cluster.latest_training
        return HistoryReport(
            cluster_id=cluster.cluster_id,
            training_id=training.training_id if training else None,
            rounds=list(training.history) if training else [],
        )

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call `listener(cluster_id)` on the event loop whenever that cluster's status changed."""
        self._context.listeners.append(listener)

    async def _restore(self) -> None:
        clusters, self._refused = await restore(self._context)
        now_s = self._context.clock()
        for cluster in clusters:
            cluster.created_at_s = now_s
            self._clusters[cluster.cluster_id] = cluster
        keep = {name for c in clusters if c.committed for name in c.committed.blobs}
        if not self._refused:
            await self._context.offload(self._context.checkpoints.sweep, keep, time.time())  # noqa: TID251  compared with file times

    async def _close(self) -> None:
        """Stop trainings and nodes; stored rows keep saying what ran."""
        for cluster in self._live():
            if cluster.run is not None:
                cluster.run.interrupted = True
                cluster.run.scope.cancel()
        async with anyio.create_task_group() as group:
            for cluster in self._live():
                group.start_soon(stop_nodes, cluster)
            group.start_soon(self._context.runtime.aclose)

    def _live(self) -> list[Cluster]:
        return [c for c in self._clusters.values() if c.terminated_at is None]

    def _find(self, text: str) -> Cluster:
        """A cluster by id, or by its name when exactly one live cluster has it."""
        if text in self._clusters:
            return self._clusters[text]
        if text in self._refused:
            raise StoreCorrupt(
                f"cluster {text} does not verify: {self._refused[text]}",
                hint="restore the state directory from a copy, or create a cluster with"
                " neural_cluster_init",
            )
        named = [c for c in self._live() if c.spec.name == text]
        if len(named) == 1:
            return named[0]
        if named:
            ids = ", ".join(c.cluster_id for c in named[:8])
            raise AmbiguousCluster(
                f"{len(named)} live clusters are named {text!r}: {ids}",
                hint="pass one of these ids as cluster_id",
            )
        raise self._unknown(text)

    def _find_live(self, text: str) -> Cluster:
        cluster = self._find(text)
        refuse_ended(cluster)
        return cluster

    def _unknown(self, text: str) -> ClusterNotFound:
        for cluster in self._clusters.values():
            ids = [s.node_id for s in cluster.slots] + [t.training_id for t in cluster.trainings]
            if text in ids:
                return ClusterNotFound(
                    f"{text!r} is a node or training of cluster {cluster.cluster_id}, not a cluster",
                    hint=f"pass cluster_id {cluster.cluster_id}",
                )
        ended = [c.cluster_id for c in self._clusters.values() if c.spec.name == text]
        if ended:
            return ClusterNotFound(
                f"no live cluster is named {text[:80]!r}; ended with this name: {', '.join(ended[-8:])}",
                hint="pass the id of one that has ended, or create a cluster with neural_cluster_init",
            )
        known = [f"{c.cluster_id} ({c.spec.name})" for c in self._live()]
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        return ClusterNotFound(
            f"no cluster {text[:80]!r}. Known: {', '.join(known[:8]) or 'none'}{more}",
            hint="create one with neural_cluster_init",
        )

    def _reused(self, cluster: Cluster, request: InitRequest) -> ClusterReport:
        differences = cluster.spec.differences(request)
        if differences:
            listed = ", ".join(
                f"{name}: has {mine!r}, asked {asked!r}"
                for name, (mine, asked) in differences.items()
            )
            raise ClusterExists(
                f"cluster {cluster.cluster_id} has this name and other settings ({listed})",
                hint="ask for its settings, choose another name, or leave reuse out",
            )
        return self._cluster_report(cluster, created=False, warnings=[])

    def _cluster_report(
        self, cluster: Cluster, *, created: bool, warnings: list[str]
    ) -> ClusterReport:
        config = cluster_config(self._context, cluster)
        return ClusterReport(
            cluster_id=cluster.cluster_id,
            name=cluster.spec.name,
            topology=cluster.spec.topology,
            architecture=cluster.spec.architecture,
            consensus=cluster.spec.consensus,
            status="initialized" if created else "ready",
            created=created,
            config=config,
            daa_enabled=cluster.spec.daa_enabled,
            wasm_enabled=False,
            guarantees=guarantees(cluster),
            isolation=isolation_preview(self._context),
            max_nodes=self._context.settings.max_nodes,
            created_at=cluster.created_at,
            warnings=warnings,
        )


async def _close_store(store: Store) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(store.close)
