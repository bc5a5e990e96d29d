"""Connecting: at once between trainings, at a boundary between rounds during one."""

from types import SimpleNamespace

import anyio
import pytest

from flow_nexus_neural.engine.links.connect import (
    connect,
    connect_for_training,
    link_again,
    link_as_before,
)
from flow_nexus_neural.engine.requests import ConnectRequest
from flow_nexus_neural.errors import NeuralError, NoWorkers, UnsupportedCombination
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
    cluster.recorded, cluster.events = [], []

    async def record_topology(event=None):
        cluster.events.append(event)
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


async def test_nodes_are_linked_again_as_they_were_before_the_server_ended_and_that_is_recorded():
    cluster = cluster_of()
    cluster.state.last_topology, cluster.state.topology_epoch = "mesh", 4
    await link_as_before(cluster)
    await link_as_before(cluster)
    await link_again(cluster)
    assert cluster.state.links.topology == "mesh"
    assert (cluster.recorded, cluster.events) == ([5], ["linked_again"])
    assert not (await connect(cluster, request("mesh"))).changed


async def test_nodes_that_never_were_linked_are_not_linked_by_a_restart():
    cluster = cluster_of()
    await link_as_before(cluster)
    await link_again(cluster)
    assert (cluster.state.links, cluster.recorded) == (None, [])


async def test_a_training_after_a_restart_finds_the_former_links_and_not_the_declared_ones():
    cluster = cluster_of()
    cluster.state.last_topology = "star"
    assert await connect_for_training(cluster) == []
    assert (cluster.state.links.topology, cluster.events) == ("star", ["linked_again"])


async def test_a_connect_right_after_a_restart_says_how_nodes_were_linked_before():
    cluster = cluster_of()
    cluster.state.last_topology = "mesh"
    report = await connect(cluster, request("ring"))
    assert (report.previous_topology, report.topology, report.changed) == ("mesh", "ring", True)
    assert cluster.events == [None]
    again = cluster_of()
    again.state.last_topology = "mesh"
    assert (await connect(again, request("mesh"))).changed is False
    assert again.events == ["linked_again"]


async def test_links_that_cannot_be_made_again_cost_nothing_and_are_tried_by_the_next_call():
    cluster = cluster_of()
    cluster.state.last_topology = "mesh"
    for one in list(cluster.slots):
        one.move("recovering")
    await link_as_before(cluster)
    assert (cluster.state.links, cluster.recorded) == (None, [])
    with pytest.raises(NoWorkers):
        await link_again(cluster)
    for one in list(cluster.slots):
        one.move("syncing")
        one.move("healthy")
    await link_as_before(cluster)
    assert cluster.recorded == [1]
