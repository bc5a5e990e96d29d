"""What a connect reports: the graph as it works, and what was averaged."""

from dataclasses import dataclass

from flow_nexus_neural.coordination.consensus import gossip
from flow_nexus_neural.coordination.topology import Graph, Vertex, plan
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import (
    AggregationReport,
    ConnectReport,
    Edge,
    LinkStatus,
    Rebalanced,
)
from flow_nexus_neural.engine.state.advice import next_step
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NoWorkers
from flow_nexus_neural.vocabulary import Topology, symbols_of

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


def not_performed(reason: str) -> AggregationReport:
    """An aggregation that was not performed, and why."""
    return SKIPPED.model_copy(update={"reason": reason})


def planned_graph(cluster: LiveCluster, topology: Topology) -> Graph:
    """The graph of a topology over the healthy nodes.

    Raises:
        NoWorkers: There is no healthy node.
        InvalidTopology: This many nodes cannot form it.
    """
    healthy = cluster.slots.healthy()
    if not healthy:
        raise NoWorkers(
            f"connecting needs at least 1 healthy node and 0 are present; healthy nodes:"
            f" {cluster.slots.census()}",
            hint=next_step(cluster.slots, "deploy nodes with neural_node_deploy, then connect"),
        )
    return plan(topology, [vertex_of(slot) for slot in healthy])


def vertex_of(slot: Slot) -> Vertex:
    """A slot as a vertex; its capability group is the symbol that it analyses, if any."""
    symbol = next(iter(symbols_of(slot.spec.capabilities)), "")
    return Vertex(slot.name, slot.spec.role, symbol)


def connect_report(
    cluster: LiveCluster,
    topology: Topology,
    applied: Applied,
    *,
    next_round: bool = False,
    planned: Graph | None = None,
) -> ConnectReport:
    """The reply to a connect: what is linked and works; with a `planned` graph, what is going to be."""
    graph = planned or (
        cluster.state.links.graph if cluster.state.links else planned_graph(cluster, topology)
    )
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
        topology_epoch=cluster.state.topology_epoch,
        connections=len(shown.edges),
        edges=edges,
        nodes_connected=len(cluster.slots.healthy()),
        connected=shown.connected,
        diameter=shown.diameter,
        spectral_gap=shown.spectral_gap,
        aggregation=applied.aggregation,
        rebalanced=Rebalanced(moved_shards=applied.moved_shards),
        advice=_advice(cluster, shown),
        warnings=_warnings(cluster, planned=planned is not None),
    )


def link_lines(cluster: LiveCluster) -> list[LinkStatus] | None:
    """Every link that is meant to be there, and whether it works; None before the first connect."""
    links, faults = cluster.state.links, cluster.wiring.faults()
    if links is None:
        return None
    return [
        LinkStatus(
            from_slot=edge[0],
            to_slot=edge[1],
            latency_ms=None if edge in faults else cluster.wiring.latency_ms(edge),
            fault=faults.get(edge),
        )
        for edge in links.graph.edges
    ]


def _advice(cluster: LiveCluster, shown: Graph) -> list[str]:
    """Under gossip the workers' own graph counts, in which the engine and other roles have no part."""
    if cluster.spec.consensus != "gossip":
        return list(shown.advice)
    workers = [vertex_of(slot) for slot in cluster.slots.healthy("worker")]
    return list(gossip.advice(shown.topology, workers))


def _warnings(cluster: LiveCluster, *, planned: bool) -> list[str]:
    if planned:
        return ["the change waits for the end of the running round"]
    warnings = []
    if not cluster.context.runtime.capabilities.peer_views:
        warnings.append(
            "nodes cannot share memory here: the engine relays what they tell each other"
        )
    faults = cluster.wiring.faults()
    for (one, other), why in list(faults.items())[:MAX_FAULTS_TOLD]:
        warnings.append(f"the link {one} - {other} does not work: {why}")
    if len(faults) > MAX_FAULTS_TOLD:
        warnings.append(f"{len(faults) - MAX_FAULTS_TOLD} more links do not work")
    return warnings
