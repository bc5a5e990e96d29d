"""Linking the nodes: the graph, the exact aggregation that goes with a change, and the boundary of rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.topology import Graph, Vertex, plan
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.calls.deadlines import LOAD
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.reports import (
    AggregationReport,
    ConnectReport,
    Edge,
    Exclusion,
    Rebalanced,
)
from flow_nexus_neural.engine.requests import ConnectRequest, Topology
from flow_nexus_neural.engine.state.cluster import Cluster, Links, refuse_ended
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import Committed
from flow_nexus_neural.engine.storage.ledger_writer import note_topology
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.engine.versions.commit import install, recent_files, store_blobs
from flow_nexus_neural.engine.versions.loading import serving_name, serving_slots
from flow_nexus_neural.errors import NeuralError, NodeError, NoWorkers, RoundFailed
from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.protocol.messages import GetWeights

MAX_EDGES_SHOWN = 16
MAX_FAULTS_TOLD = 8
SKIPPED = AggregationReport(
    performed=False,
    reason="not_trained",
    version=None,
    contributors=None,
    excluded=[],
    weights_digest=None,
    accuracy_before=None,
    accuracy_after=None,
    bytes=None,
    ms=None,
)


@dataclass(frozen=True)
class Applied:
    """What a connect did."""

    previous: Topology | None
    changed: bool
    aggregation: AggregationReport
    moved_shards: int


async def connect(
    context: EngineContext,
    cluster: Cluster,
    request: ConnectRequest,
    progress: Progress | None = None,
) -> ConnectReport:
    """Link the healthy nodes; during a training at the next boundary between rounds.

    A change of topology or of members, and every connect as star, is an exact aggregation too: all serving
    workers deliver, their weights are averaged by rows, and the result is committed as a version.

    Raises:
        NoWorkers: The cluster has no healthy node.
        InvalidTopology: This many nodes cannot form the topology; the former links stay.
        RoundFailed: Nobody delivered; the former links stay.
    """
    topology = request.topology or cluster.spec.topology
    await revive(context, cluster)
    graph = _graph(cluster, topology)
    previous = cluster.links.topology if cluster.links else None
    waiting = _Waiting(context, cluster, topology)
    async with cluster.changing:
        if cluster.run is None:
            applied = await _apply(context, cluster, topology)
            return _report(context, cluster, topology, applied)
        cluster.run.boundary.append(waiting.apply)
    with anyio.move_on_after(request.wait_seconds):
        await _wait(cluster, waiting, progress)
    if waiting.failure is not None:
        raise waiting.failure
    if waiting.applied is not None:
        return _report(context, cluster, topology, waiting.applied, next_round=True)
    queued = Applied(previous, previous != topology, replace_reason("queued"), 0)
    return _report(context, cluster, topology, queued, planned=graph)


def replace_reason(reason: str) -> AggregationReport:
    """An aggregation that was not performed, and why."""
    return SKIPPED.model_copy(update={"reason": reason})


async def connect_for_training(context: EngineContext, cluster: Cluster) -> list[str]:
    """Connect as declared when nobody did; returns what the caller should know. Needs `changing`."""
    if cluster.links is not None:
        return []
    await _apply(context, cluster, cluster.spec.topology)
    return [f"the nodes were not connected; they are now, as {cluster.spec.topology}"]


class _Waiting:
    """A connect that waits for the boundary between two rounds."""

    def __init__(self, context: EngineContext, cluster: Cluster, topology: Topology) -> None:
        self._context, self._cluster, self._topology = context, cluster, topology
        self.applied: Applied | None = None
        self.failure: NeuralError | None = None
        self.done = anyio.Event()

    async def apply(self) -> None:
        """Run at the boundary; a failure belongs to the caller, not to the training."""
        try:
            refuse_ended(self._cluster)
            self.applied = await _apply(self._context, self._cluster, self._topology)
        except NeuralError as failure:
            self.failure = failure
        self.done.set()


async def _wait(cluster: Cluster, waiting: _Waiting, progress: Progress | None) -> None:
    if progress is not None and cluster.latest_training is not None:
        done, total = (
            cluster.latest_training.advance.rounds_done,
            cluster.latest_training.config.rounds,
        )
        await progress(done, total, f"waiting for the end of round {done + 1}/{total}")
    await waiting.done.wait()


def _graph(cluster: Cluster, topology: Topology) -> Graph:
    healthy = cluster.slots.healthy()
    if not healthy:
        raise NoWorkers(
            f"connecting needs at least 1 healthy node and 0 are present; healthy nodes:"
            f" {cluster.slots.census()}",
            hint="deploy nodes with neural_node_deploy, then connect",
        )
    return plan(topology, [Vertex(s.name, s.spec.role, _group(s)) for s in healthy])


def _group(slot: Slot) -> str:
    """Capability group of a slot: the symbol that it analyses, if any."""
    tags = sorted(tag for tag in slot.spec.capabilities if tag.endswith("_analysis"))
    return tags[0].removesuffix("_analysis") if tags else ""


async def _apply(context: EngineContext, cluster: Cluster, topology: Topology) -> Applied:
    graph = _graph(cluster, topology)
    former = cluster.links
    members = tuple(slot.name for slot in cluster.slots.healthy())
    same = former is not None and former.topology == topology and former.members == members
    if same and topology != "star" and not cluster.wiring.faults():
        return Applied(
            topology, changed=False, aggregation=replace_reason("unchanged"), moved_shards=0
        )
    aggregation = SKIPPED
    if cluster.committed is not None:
        aggregation = await _aggregate(context, cluster, cluster.committed)
    moved = await _rebalance(cluster)
    with anyio.CancelScope(shield=True):  # links that are half made would be reported as whole
        cluster.topology_epoch += 1
        cluster.links = Links(topology, cluster.topology_epoch, graph, members)
        await cluster.wiring.rewire(context, graph, cluster.topology_epoch)
        await note_topology(context, cluster)
    context.changed(cluster)
    return Applied(
        previous=former.topology if former else None,
        changed=True,
        aggregation=aggregation,
        moved_shards=moved,
    )


async def _rebalance(cluster: Cluster) -> int:
    """During a training, give the shards of dead workers to living ones; returns how many changed."""
    run = cluster.run
    if run is None:
        return 0
    healthy = [s for s in cluster.slots.healthy("worker") if run.network_of(s.name) is not None]
    owners = {name for name, rows in run.exchange.shards.items() if rows.size}
    if not healthy or owners <= {slot.name for slot in healthy}:
        return 0
    return await run.reshard(healthy)


async def _aggregate(
    context: EngineContext, cluster: Cluster, committed: Committed
) -> AggregationReport:
    """Average the weights that the serving workers hold, by rows, and commit the result.

    Between trainings an honest worker holds the committed weights and nothing else, so that their average has
    the accuracy of the former version; a worker with others is left out and told of.
    """
    began_s, bytes_before = context.clock(), cluster.metrics.communication_bytes
    serving = serving_slots(cluster)
    held, excluded = await _deliver(cluster, committed, serving)
    networks: dict[str, NetworkGroup] = {}
    for key, network in committed.networks.items():
        own = {
            slot.name: held[slot.name]
            for slot in serving
            if slot.name in held and slot.name in network.slots
        }
        if not own or network.state is None:
            continue
        rows = [max(1, network.rows.get(name, 1)) for name in own]
        params = await context.offload(federated_average, [s.params for s in own.values()], rows)
        buffers = await context.offload(federated_average, [s.buffers for s in own.values()], rows)
        state = replace(network.state, params=params, buffers=buffers)
        networks[key] = replace(network, state=state, digest=network.digest_of(state))
    if not networks:
        raise RoundFailed(
            f"none of {len(serving)} serving workers delivered its weights; the former links stay",
            hint="call neural_cluster_status for the nodes' errors",
        )
    version = committed.version + 1
    stored, blobs = await store_blobs(
        context, cluster, committed.schema, {**committed.networks, **networks}, frozenset(networks)
    )
    digests = {key: network.digest or "" for key, network in stored.items()}
    bundle = replace(committed.bundle, version=version, digests=digests, parity=version % 2)
    aggregated = replace(
        committed if digests == committed.digests else committed.unmeasured(),
        version=version,
        networks=stored,
        bundle=bundle,
        recent=recent_files(committed, stored, context.settings.checkpoint_keep),
    )
    entries = [_entry(cluster, stored[key], version, held, excluded) for key in sorted(networks)]
    await install(context, cluster, aggregated, entries, [], blobs)
    return AggregationReport(
        performed=True,
        reason=None,
        version=version,
        contributors=len(held),
        excluded=[
            Exclusion(node_id=cluster.slots[name].node_id, reason=why)
            for name, why in excluded.items()
        ],
        weights_digest=next(iter(digests.values())) if len(digests) == 1 else bundle.sha,
        accuracy_before=committed.accuracy,
        accuracy_after=aggregated.accuracy,
        bytes=cluster.metrics.communication_bytes - bytes_before,
        ms=(context.clock() - began_s) * 1e3,
    )


async def _deliver(
    cluster: Cluster, committed: Committed, serving: Sequence[Slot]
) -> tuple[dict[str, ModelState], dict[str, str]]:
    """The weights each serving worker really holds, and why some are missing."""
    calls = NodeCalls(cluster, "train")
    held: dict[str, ModelState] = {}
    excluded: dict[str, str] = {}

    async def deliver(slot: Slot) -> None:
        network = committed.network_of(slot.name)
        request = GetWeights(network=serving_name(committed.bundle.parity))
        try:
            _, arrays = await calls.ask(slot, request, LOAD)
        except NodeError as failure:
            excluded[slot.name] = f"{failure.code}: {failure.message}"
            return
        params, buffers = arrays.get("params"), arrays.get("buffers")
        if (
            network is None
            or params is None
            or buffers is None
            or params.shape != (network.plan.n_params,)
            or buffers.shape != (network.plan.n_buffers,)
        ):
            excluded[slot.name] = "its weights have the wrong shape"
            return
        state = ModelState(params, buffers, {}, 0)
        if network.digest_of(state) != network.digest:
            excluded[slot.name] = f"it holds other weights than version {committed.version}"
            return
        held[slot.name] = state

    async with anyio.create_task_group() as group:
        for slot in serving:
            group.start_soon(deliver, slot)
    return held, excluded


def _entry(
    cluster: Cluster,
    network: NetworkGroup,
    version: int,
    held: dict[str, ModelState],
    excluded: dict[str, str],
) -> dict[str, JsonValue]:
    return {
        "kind": "version",
        "cohort": network.key,
        "version": network.version,
        "parent": network.version - 1,
        "model_version": version,
        "rule": "exact_aggregation",
        "contributors": [{"slot": name} for name in held if name in network.slots],
        "excluded": [{"slot": slot, "reason": why} for slot, why in excluded.items()],
        "weights_digest": network.digest,
        "blob": network.blob,
        "topology_epoch": cluster.topology_epoch,
    }


def _report(
    context: EngineContext,
    cluster: Cluster,
    topology: Topology,
    applied: Applied,
    *,
    next_round: bool = False,
    planned: Graph | None = None,
) -> ConnectReport:
    """What is linked and works; with a `planned` graph, what is going to be."""
    graph = planned or (cluster.links.graph if cluster.links else _graph(cluster, topology))
    shown = graph if planned else graph.reduced_to(cluster.wiring.working())
    edges = None
    if len(shown.vertices) <= MAX_EDGES_SHOWN:
        edges = [
            Edge(
                from_slot=edge[0],
                to_slot=edge[1],
                latency_ms=None if planned else cluster.wiring.latency_ms(edge),
            )
            for edge in shown.edges
        ]
    return ConnectReport(
        cluster_id=cluster.cluster_id,
        topology=topology,
        declared_topology=cluster.spec.topology,
        previous_topology=applied.previous,
        status="pending" if planned else "connected",
        pending=planned is not None,
        changed=applied.changed,
        applied="next_round" if planned or next_round else "now",
        topology_epoch=cluster.topology_epoch,
        connections=len(shown.edges),
        edges=edges,
        nodes_connected=len(cluster.slots.healthy()),
        connected=shown.connected,
        diameter=shown.diameter,
        spectral_gap=shown.spectral_gap,
        aggregation=applied.aggregation,
        rebalanced=Rebalanced(moved_shards=applied.moved_shards),
        advice=list(shown.advice),
        warnings=_warnings(context, cluster, planned=planned is not None),
    )


def _warnings(context: EngineContext, cluster: Cluster, *, planned: bool) -> list[str]:
    if planned:
        return ["the change waits for the end of the running round"]
    warnings = ["in this version weights pass through the engine, not over the links"]
    if not context.runtime.capabilities.peer_views:
        warnings.append(
            "nodes cannot share memory here: the engine relays what they tell each other"
        )
    faults = cluster.wiring.faults()
    for (one, other), why in list(faults.items())[:MAX_FAULTS_TOLD]:
        warnings.append(f"the link {one} - {other} does not work: {why}")
    if len(faults) > MAX_FAULTS_TOLD:
        warnings.append(f"{len(faults) - MAX_FAULTS_TOLD} more links do not work")
    return warnings
