"""Connecting: at once between trainings, at a boundary between rounds during one."""

from types import SimpleNamespace

import anyio
import pytest

from flow_nexus_neural.engine.links.connect import connect, connect_for_training
from flow_nexus_neural.engine.requests import ConnectRequest
from flow_nexus_neural.errors import NeuralError, UnsupportedCombination
from tests.unit.engine.building import cluster_state, live, slot

pytestmark = pytest.mark.anyio


class Table:
    """Links that always work; counts how often they were made."""

    def __init__(self):
        self.graph, self.epochs, self.broken = None, [], {}

    async def rewire(self, graph, epoch):
        self.graph = graph
        self.epochs.append(epoch)

    def working(self):
        return list(self.graph.edges)

    def latency_ms(self, edge):
        return 1.0

    def faults(self):
        return self.broken


class Run:
    """A training that reaches a boundary when it is told to."""

    def __init__(self, method="federated_averaging"):
        self.waiting = []
        self.training = SimpleNamespace(config=SimpleNamespace(aggregation_method=method))

    def at_next_boundary(self, change):
        self.waiting.append(change)


def cluster_of(n=3):
    cluster = live(cluster_state(topology="ring"))
    for number in range(n):
        cluster.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    cluster.context.runtime = SimpleNamespace(capabilities=SimpleNamespace(peer_views=True))
    cluster.wiring = Table()
    cluster.recorded = []

    async def record_topology():
        cluster.recorded.append(cluster.state.topology_epoch)

    cluster.ledger = SimpleNamespace(record_topology=record_topology)
    return cluster


def request(topology=None, wait_seconds=0.0):
    return ConnectRequest(cluster_id="dnc_1", topology=topology, wait_seconds=wait_seconds)


async def test_a_connect_links_the_nodes_as_declared_and_records_it():
    cluster = cluster_of()
    report = await connect(cluster, request())
    assert (report.topology, report.previous_topology, report.changed) == ("ring", None, True)
    assert (report.applied, report.connections) == ("now", 3)
    assert cluster.wiring.epochs == cluster.recorded == [1]


async def test_the_same_links_are_made_again_only_when_one_does_not_work():
    cluster = cluster_of()
    await connect(cluster, request("mesh"))
    assert not (await connect(cluster, request("mesh"))).changed
    assert cluster.wiring.epochs == [1]
    cluster.wiring.broken = {("worker-0", "worker-1"): "it was cut"}
    assert (await connect(cluster, request("mesh"))).changed
    assert cluster.wiring.epochs == [1, 2]


async def test_during_a_training_a_connect_waits_for_the_boundary_and_says_so():
    cluster = cluster_of()
    run = Run()
    cluster.begin_run(run)
    report = await connect(cluster, request("mesh"))
    assert (report.status, report.applied) == ("pending", "next_round")
    assert cluster.wiring.epochs == []
    run.network_of, run.shards = lambda name: None, {}
    await run.waiting[0]()
    assert cluster.wiring.epochs == [1]


async def test_a_connect_that_fails_at_the_boundary_fails_its_caller_and_not_the_training():
    cluster = cluster_of()
    run = Run()
    cluster.begin_run(run)
    failures = []

    async def caller():
        with pytest.raises(NeuralError) as refused:
            await connect(cluster, request("mesh", wait_seconds=20.0))
        failures.append(refused.value)

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await anyio.wait_all_tasks_blocked()
        cluster.state.end("2026-01-01T00:00:00Z")
        await run.waiting[0]()
    assert len(failures) == 1
    assert cluster.wiring.epochs == []


async def test_a_training_along_a_ring_keeps_it():
    cluster = cluster_of()
    cluster.run = Run("push_sum")
    with pytest.raises(UnsupportedCombination, match="mesh is none"):
        await connect(cluster, ConnectRequest(cluster_id="c", topology="mesh"))
    assert cluster.run.waiting == []


async def test_a_training_connects_what_nobody_connected_and_says_so_once():
    cluster = cluster_of()
    (told,) = await connect_for_training(cluster)
    assert "as ring" in told
    assert await connect_for_training(cluster) == []
    assert cluster.wiring.epochs == [1]
