"""Links the nodes in a topology: at once, or during a training between two rounds.

After a start of the server nodes are linked again as they were, once they are up: that is a new epoch, whose
ledger entry says so, and the model stays as it is.
"""

import logging

import anyio

from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.registry import find_policy
from flow_nexus_neural.coordination.topology import Graph
from flow_nexus_neural.engine.links.report import (
    Applied,
    connect_report,
    not_performed,
    planned_graph,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.reports import ConnectReport
from flow_nexus_neural.engine.requests import ConnectRequest
from flow_nexus_neural.engine.storage.ledger_writer import LINKED_AGAIN
from flow_nexus_neural.engine.surface import Progress
from flow_nexus_neural.engine.versions.exact_aggregation import aggregate_exactly
from flow_nexus_neural.errors import NeuralError, UnsupportedCombination
from flow_nexus_neural.vocabulary import Topology

log = logging.getLogger(__name__)


async def connect(
    cluster: LiveCluster,
    request: ConnectRequest,
    progress: Progress | None = None,
) -> ConnectReport:
    """Link the healthy nodes; during a training, at the next boundary between rounds.

    A change of topology or of members, and every connect as star, includes an exact aggregation: all serving
    workers deliver their weights, which are averaged by rows and committed as a version.

    Raises:
        NoWorkers: If the cluster has no healthy node.
        InvalidTopology: If this number of nodes cannot form the topology; the former links stay.
        RoundFailed: If no worker delivered its weights; the former links stay.
        UnsupportedCombination: If a training mixes along a ring and the topology is another one.
    """
    topology = request.topology or cluster.spec.topology
    _refuse_other_than_a_ring(cluster, topology)
    await revive(cluster)
    # Planned before waiting, to refuse an impossible topology now and not at the round boundary.
    graph = planned_graph(cluster, topology)
    previous = _previous(cluster)
    waiting = _Waiting(cluster, topology)
    # Under the lock, so that no training starts while the links change.
    async with cluster.changing:
        if cluster.run is None:
            if topology != "star" and topology == cluster.state.last_topology:
                await _link_as_before(cluster)  # else it would count as a change
            applied = await _apply(cluster, topology)
            return connect_report(cluster, topology, applied)
        cluster.run.at_next_boundary(waiting.apply)
    with anyio.move_on_after(request.wait_seconds):
        await _wait(cluster, waiting, progress)
    if waiting.failure is not None:
        raise waiting.failure
    if waiting.applied is not None:
        return connect_report(cluster, topology, waiting.applied, next_round=True)
    queued = Applied(previous, previous != topology, not_performed("queued"), 0)
    return connect_report(cluster, topology, queued, planned=graph)


def _refuse_other_than_a_ring(cluster: LiveCluster, topology: Topology) -> None:
    """Push-sum mixes along a directed ring, and a training keeps the method that it began with."""
    run = cluster.run
    policy = None if run is None else find_policy(run.training.config.aggregation_method)
    if isinstance(policy, GossipPolicy) and policy.push_sum and topology != "ring":
        raise UnsupportedCombination(
            f"a training mixes by {policy.name}, along a directed ring, and {topology} is none",
            hint="wait for its end, or stop it with neural_cluster_terminate and its training_id",
        )


async def connect_for_training(cluster: LiveCluster) -> list[str]:
    """Link unlinked nodes in the declared topology; returns warnings. The caller holds `changing`."""
    await _link_as_before(cluster)
    if cluster.state.links is not None:
        return []
    await _apply(cluster, cluster.spec.topology)
    return [f"the nodes were not connected; they are now, as {cluster.spec.topology}"]


async def link_again(cluster: LiveCluster) -> None:
    """Link the healthy nodes as they were before the server ended, and leave the model as it is.

    Nothing where they are linked, or never were.

    Raises:
        NoWorkers, InvalidTopology, StoreUnavailable: As `connect`.
    """
    async with cluster.changing:
        cluster.state.refuse_ended()
        topology = cluster.state.last_topology
        if topology is not None and cluster.state.links is None:
            graph = planned_graph(cluster, topology)
            await _link(cluster, topology, graph, event=LINKED_AGAIN)


async def link_as_before(cluster: LiveCluster) -> None:
    """As `link_again`, for a call that needs no links; what fails is logged and tried by the next one."""
    async with cluster.changing:
        await _link_as_before(cluster)


async def _link_as_before(cluster: LiveCluster) -> None:
    """The caller holds `changing`."""
    topology, state = cluster.state.last_topology, cluster.state
    if topology is None or state.links is not None or state.terminated_at is not None:
        return
    try:
        await _link(cluster, topology, planned_graph(cluster, topology), event=LINKED_AGAIN)
    except NeuralError as failure:
        log.warning("%s is not linked as %s again: %s", cluster.cluster_id, topology, failure)


def _previous(cluster: LiveCluster) -> Topology | None:
    """How the nodes are linked, or were before the server ended."""
    links = cluster.state.links
    return links.topology if links is not None else cluster.state.last_topology


class _Waiting:
    """A connect that is queued for the boundary between two rounds."""

    def __init__(self, cluster: LiveCluster, topology: Topology) -> None:
        self._cluster, self._topology = cluster, topology
        self.applied: Applied | None = None
        self.failure: NeuralError | None = None
        self.done = anyio.Event()

    async def apply(self) -> None:
        """Run at the boundary; an error is kept for the caller and does not end the training."""
        try:
            self._cluster.state.refuse_ended()
            self.applied = await _apply(self._cluster, self._topology)
        except NeuralError as failure:
            self.failure = failure
        self.done.set()


async def _wait(cluster: LiveCluster, waiting: _Waiting, progress: Progress | None) -> None:
    if progress is not None and cluster.state.latest_training is not None:
        done, total = (
            cluster.state.latest_training.advance.rounds_done,
            cluster.state.latest_training.config.rounds,
        )
        await progress(done, total, f"waiting for the end of round {done + 1}/{total}")
    await waiting.done.wait()


async def _apply(cluster: LiveCluster, topology: Topology) -> Applied:
    graph = planned_graph(cluster, topology)
    former = cluster.state.links
    members = tuple(slot.name for slot in cluster.slots.healthy())
    previous = _previous(cluster)
    same = former is not None and former.topology == topology and former.members == members
    if same and topology != "star" and not cluster.wiring.faults():
        return Applied(
            topology, changed=False, aggregation=not_performed("unchanged"), moved_shards=0
        )
    aggregation = not_performed("not_trained")
    # Before the links change: if no worker delivers, this raises and the former links stay.
    if cluster.committed is not None:
        aggregation = await aggregate_exactly(cluster, cluster.committed)
    moved = await _rebalance(cluster)
    await _link(cluster, topology, graph)
    return Applied(
        previous=previous,
        changed=True,
        aggregation=aggregation,
        moved_shards=moved,
    )


async def _link(
    cluster: LiveCluster, topology: Topology, graph: Graph, event: str | None = None
) -> None:
    members = tuple(slot.name for slot in cluster.slots.healthy())
    # Shielded: interrupted in the middle, incomplete links would be reported as complete.
    with anyio.CancelScope(shield=True):
        epoch = cluster.state.link(topology, graph, members)
        await cluster.wiring.rewire(graph, epoch)
        await cluster.ledger.record_topology(event)
    cluster.changed()


async def _rebalance(cluster: LiveCluster) -> int:
    """During a training, deal the rows of dead workers to live ones; returns the number of changed shards."""
    run = cluster.run
    if run is None:
        return 0
    healthy = [s for s in cluster.slots.healthy("worker") if run.network_of(s.name) is not None]
    owners = {name for name, rows in run.shards.items() if rows.size}
    if not healthy or owners <= {slot.name for slot in healthy}:
        return 0
    return await run.reshard(healthy)
