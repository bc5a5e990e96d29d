"""Every edge is tried and measured; what does not work is told; what was taken away stays away."""

import os
import signal
from dataclasses import replace

import pytest

from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.protocol.messages import Announce, Observed, Sight
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService
from tests.doubles.runtimes import descriptors, until
from tests.fault.linked import connections, linked, state_of

pytestmark = pytest.mark.anyio

N = 5
CALM = Patience(link=Deadline(HANG_S, None))
"""Whoever is slow is waited for, however busy the machine is."""
EDGES = {"mesh": 10, "ring": 5, "star": 5, "hierarchical": 4}


def near(status, *counts):
    return sorted(connections(status)) == sorted(counts)


@pytest.fixture
async def five(tmp_path, anyio_backend):
    async with linked(tmp_path, N, patience=CALM) as cluster:
        yield cluster


@pytest.fixture
async def brief_five(tmp_path, anyio_backend):
    """Of these a frozen one costs a change of links three seconds, and is not ended for that."""
    patience = Patience(silence_s=HANG_S, link=Deadline(3.0, None))
    async with linked(tmp_path, N, patience=patience) as cluster:
        yield cluster


async def test_connect_measures_every_edge(five):
    for topology, n_edges in EDGES.items():
        report = await five.connect(topology)
        assert report.connections == len(report.edges) == n_edges
        assert all(0 < edge.latency_ms < 10_000 for edge in report.edges), report.edges
        assert report.connected
        assert not [w for w in report.warnings if "does not work" in w or "relays" in w]
        status = await five.status()
        assert status.features.connections_active == n_edges
        assert sum(connections(status)) == 2 * n_edges - (N if topology == "star" else 0)


async def test_without_shared_memory_the_engine_relays_and_says_so(tmp_path):
    async with linked(tmp_path, 3, faults=FaultPlan()) as cluster:
        report = await cluster.connect("mesh")
        assert report.connections == 3
        assert all(edge.latency_ms > 0 for edge in report.edges)
        assert any("relays" in warning for warning in report.warnings)


class Blind(LinearService):
    """Claims to read what nobody wrote, and in no time that could be true."""

    def on_observe(self, request, arrays, poll):
        return Observed(sights=tuple(Sight(token=1, read_ms=1e9) for _ in request.keys)), {}


class Slow(LinearService):
    """Reads well, and claims that it took years."""

    def on_observe(self, request, arrays, poll):
        reply, _ = super().on_observe(request, arrays, poll)
        sights = [sight.model_copy(update={"read_ms": 1e12}) for sight in reply.sights]
        return Observed(sights=tuple(sights)), {}


def one_is(kind, slot="worker-1"):
    return lambda spec: kind() if spec.slot == slot else LinearService()


async def test_an_edge_that_does_not_work_is_told_and_not_drawn(tmp_path):
    async with linked(tmp_path, 3, service=one_is(Blind)) as cluster:
        report = await cluster.connect("mesh")
        assert [(e.from_slot, e.to_slot) for e in report.edges] == [("worker-0", "worker-2")]
        assert (report.connections, report.connected, report.diameter) == (1, False, None)
        told = [warning for warning in report.warnings if "does not work" in warning]
        assert len(told) == 2
        assert "worker-1 does not read what worker-0 was told to announce" in told[0]
        assert near(await cluster.status(), 0, 1, 1)
        again = await cluster.connect("mesh")
        assert (again.changed, again.topology_epoch) == (True, 2)


async def test_a_time_that_cannot_be_true_is_no_latency(tmp_path):
    async with linked(tmp_path, 3, service=one_is(Slow)) as cluster:
        runtime = cluster.engine.context.runtime
        runtime.capabilities = replace(runtime.capabilities, peer_views=True)
        report = await cluster.connect("ring")
        known = {(e.from_slot, e.to_slot): e.latency_ms is not None for e in report.edges}
        assert known == {
            ("worker-0", "worker-1"): False,
            ("worker-0", "worker-2"): True,
            ("worker-1", "worker-2"): False,
        }


async def test_a_dead_node_has_no_edges_and_the_next_connect_closes_the_ring(five):
    assert (await five.connect("ring")).connections == 5
    dead = five.key("worker-2")
    status = await five.kill("worker-2")
    assert near(status, 0, 1, 1, 2, 2)
    assert status.features.connections_active == 3
    await until(lambda: dead not in five.wiring.held("worker-1"))
    assert await five.sights("worker-1", dead) == [None]
    report = await five.connect("ring")
    assert (report.connections, report.topology_epoch, report.connected) == (4, 2, True)
    assert {"worker-1", "worker-3"} in [{e.from_slot, e.to_slot} for e in report.edges]
    assert near(await five.status(), 0, 2, 2, 2, 2)


async def test_a_replacement_has_the_edges_of_its_slot_when_it_is_deployed(five):
    await five.connect("mesh")
    former = {name: five.key(name) for name in ("worker-0", "worker-2")}
    await five.kill("worker-2")
    report = await five.deploy()
    assert (report.slot, report.incarnation) == ("worker-2", 2)
    assert near(await five.status(), 4, 4, 4, 4, 4)
    assert five.key("worker-0") == former["worker-0"]
    assert five.key("worker-2") != former["worker-2"]
    token = five.wiring.token("worker-2")
    assert await five.sights("worker-0", five.key("worker-2")) == [token]
    again = await five.connect("mesh")
    assert (again.changed, again.connections, again.topology_epoch) == (False, 10, 1)


async def test_all_edges_are_back_when_the_zygote_was_lost(five):
    await five.connect("mesh")
    os.kill(five.engine.context.runtime.zygote_info().pid, signal.SIGKILL)
    await five.until(lambda s: all(node.incarnation == 2 for node in s.nodes))
    status = await five.until(lambda s: near(s, 4, 4, 4, 4, 4))
    assert {state_of(status, node.slot) for node in status.nodes} == {"healthy"}
    assert status.features.connections_active == 10


async def test_a_change_of_topology_gives_new_buffers_and_hides_what_is_written_then(five):
    await five.connect("mesh")
    old = {name: five.key(name) for name in ("worker-0", "worker-2")}
    assert None not in await five.sights("worker-0", old["worker-2"])
    await five.connect("ring")
    assert five.key("worker-2") != old["worker-2"]
    assert await five.sights("worker-0", old["worker-2"], five.key("worker-2")) == [None, None]
    assert None not in await five.sights("worker-1", five.key("worker-2"))


async def test_a_living_node_that_is_taken_out_sees_nothing_new(five):
    await five.connect("mesh")
    outcast = five.slot("worker-1")
    before = five.key("worker-0")
    await five.wiring.leave(outcast, outcast.node_id)
    keys = [five.key(name) for name in ("worker-0", "worker-2", "worker-3", "worker-4")]
    assert before not in keys
    assert await five.sights("worker-1", *keys, before) == [None] * 5
    assert near(await five.status(), 0, 3, 3, 3, 3)
    announced = Announce(key=keys[0], token=77)
    await five.slot("worker-0").handle.call(announced)
    assert await five.sights("worker-2", keys[0]) == [77]
    assert await five.sights("worker-1", keys[0]) == [None]


async def test_the_end_of_an_old_incarnation_takes_nothing_from_its_successor(five):
    await five.connect("mesh")
    former = five.slot("worker-2").node_id
    await five.kill("worker-2")
    await five.deploy()
    await five.wiring.leave(five.slot("worker-2"), former)
    assert near(await five.status(), 4, 4, 4, 4, 4)


async def test_a_frozen_node_costs_a_connect_its_deadline_and_its_own_edges(brief_five):
    five = brief_five
    five.signal("worker-3", signal.SIGSTOP)
    report = await five.connect("mesh")
    assert report.connections == 6
    broken = [warning for warning in report.warnings if "does not work" in warning]
    assert len(broken) == sum("worker-3" in warning for warning in broken) == 4
    five.signal("worker-3", signal.SIGCONT)
    assert (await five.connect("mesh")).connections == 10


async def test_a_neighbour_that_was_frozen_once_takes_later_links(brief_five):
    five = brief_five
    await five.connect("mesh")
    for name in ("worker-1", "worker-2"):
        await five.kill(name)
    five.signal("worker-3", signal.SIGSTOP)
    await five.deploy()
    assert near(await five.status(), 0, 2, 2, 3, 3)
    five.signal("worker-3", signal.SIGCONT)
    await five.deploy()
    # What was missed is granted and tried now too; nothing waits for the next connect.
    assert near(await five.status(), 4, 4, 4, 4, 4)


async def test_fifty_changes_of_topology_leave_as_many_descriptors_as_one(five):
    await five.connect("ring")
    held = sorted(descriptors().values())
    for round_ in range(50):
        report = await five.connect(("mesh", "ring")[round_ % 2])
        assert report.connections == (10, 5)[round_ % 2]
    assert len(descriptors()) == len(held)
    assert {len(five.wiring.held(f"worker-{n}")) for n in range(N)} == {3}
    await five.engine.terminate(TerminateRequest(cluster_id=five.cluster_id))
    assert not [name for name in descriptors().values() if "memfd" in name]


async def test_a_mesh_of_thirty_two_works(tmp_path):
    async with linked(tmp_path, 32, max_nodes=32, patience=CALM) as cluster:
        before = len(descriptors())
        report = await cluster.connect("mesh")
        assert (report.connections, report.edges, report.diameter) == (496, None, 1)
        assert len(descriptors()) == before + 32
        assert set(connections(await cluster.status())) == {31}
