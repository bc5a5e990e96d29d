"""A connect links now or at the next boundary, and aggregates where links or members changed."""

import anyio
import pytest

from flow_nexus_neural.coordination.topology import MESH_LIMIT
from flow_nexus_neural.engine.links.connect import connect, connect_for_training
from flow_nexus_neural.engine.requests import ConnectRequest
from flow_nexus_neural.errors import (
    ClusterTerminated,
    InvalidTopology,
    NoWorkers,
    RoundFailed,
    StoreUnavailable,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def request(topology=None, wait_seconds=20):
    return ConnectRequest(cluster_id="dnc", topology=topology, wait_seconds=wait_seconds)


def slow_training(*slots, delay_s=5.0):
    """The first training request of each of these takes its time, which gives a round a known length."""
    faults = FaultPlan()
    for slot in slots or ("worker-0", "worker-1", "worker-2"):
        faults.slow(slot, "train", delay_s=delay_s)
    return faults


async def in_round_one(w, **more):
    """Start a training and be in the middle of its first round."""
    await w.engine.train(w.train_request(**more))
    await anyio.sleep(1)


async def test_the_declared_topology_is_taken_when_none_is_asked_for(tmp_path):
    async with running(tmp_path, 3, init={"topology": "ring"}) as w:
        report = await connect(w.cluster, request())
        assert (report.topology, report.changed, report.applied) == ("ring", True, "now")
        assert (report.previous_topology, report.connections) == (None, 3)
        assert w.cluster.state.links.topology == "ring"


async def test_a_change_of_the_links_is_a_ledger_entry_with_its_edges(tmp_path):
    async with running(tmp_path, 3) as w:
        await connect(w.cluster, request("ring"))
        await connect(w.cluster, request("mesh"))
        first, second = await w.ledger("topology")
        assert (first["topology"], first["topology_epoch"]) == ("ring", 1)
        assert (second["topology"], second["topology_epoch"]) == ("mesh", 2)
        links = {frozenset(edge) for edge in second["edges"]}
        pairs = [("worker-0", "worker-1"), ("worker-0", "worker-2"), ("worker-1", "worker-2")]
        assert links == {frozenset(pair) for pair in pairs}


async def test_the_same_again_changes_nothing(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        await connect(w.cluster, request("mesh"))
        version, epoch = w.committed.version, w.cluster.state.topology_epoch
        report = await connect(w.cluster, request("mesh"))
        assert (report.changed, report.aggregation.reason) == (False, "unchanged")
        assert (w.committed.version, w.cluster.state.topology_epoch) == (version, epoch)


async def test_a_star_aggregates_every_time(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        versions = []
        for _ in range(2):
            report = await connect(w.cluster, request("star"))
            assert report.aggregation.performed
            versions.append(report.aggregation.version)
        assert versions == [3, 4]
        assert w.committed.version == 4


async def test_a_change_of_members_is_a_change_though_the_topology_is_the_same(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        await connect(w.cluster, request("mesh"))
        await w.deploy()
        report = await connect(w.cluster, request("mesh"))
        assert (report.changed, report.connections) == (True, 6)
        assert report.aggregation.contributors == 4


async def test_before_the_first_version_there_is_nothing_to_aggregate(tmp_path):
    async with running(tmp_path, 2) as w:
        report = await connect(w.cluster, request("star"))
        assert (report.aggregation.performed, report.aggregation.reason) == (False, "not_trained")
        assert w.committed is None


async def test_what_is_refused_leaves_the_former_links(tmp_path):
    async with running(tmp_path, MESH_LIMIT, max_nodes=MESH_LIMIT + 1) as w:
        await connect(w.cluster, request("ring"))
        links = w.cluster.state.links
        await w.deploy()
        with pytest.raises(InvalidTopology):
            await connect(w.cluster, request("mesh"))
        assert w.cluster.state.links is links
        for each in w.slots:
            each.fail("dead")
        with pytest.raises(NoWorkers):
            await connect(w.cluster, request("star"))
        assert w.cluster.state.links is links


async def test_an_aggregation_that_fails_leaves_the_former_links(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        await w.train()
        links = w.cluster.state.links
        for name in ("worker-0", "worker-1"):
            faults.kill(name, "get_weights", nth=faults.met(name, "get_weights") + 1)
        with pytest.raises(RoundFailed, match="the former links stay"):
            await connect(w.cluster, request("star"))
        assert w.cluster.state.links is links


async def test_a_full_disk_is_told_and_no_version_is_made(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train()
        version = w.committed
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await connect(w.cluster, request("star"))
        assert w.committed is version
        assert (await connect(w.cluster, request("star"))).aggregation.performed


async def test_a_training_connects_as_declared_once_and_says_so(tmp_path):
    async with running(tmp_path, 3, init={"topology": "ring"}) as w:
        (note,) = await connect_for_training(w.cluster)
        assert note == "the nodes were not connected; they are now, as ring"
        links = w.cluster.state.links
        assert await connect_for_training(w.cluster) == []
        assert w.cluster.state.links is links


async def test_during_a_training_it_waits_for_the_boundary_and_tells_how_far_that_is(tmp_path):
    told = []

    async def progress(done, total, message):
        told.append((done, total, message))

    async with running(tmp_path, 3, faults=slow_training()) as w:
        await in_round_one(w, epochs=3)
        began_s = anyio.current_time()
        report = await connect(w.cluster, request("ring"), progress)
        assert anyio.current_time() - began_s == pytest.approx(4.0, abs=0.1)
        assert (report.applied, report.status, report.topology) == (
            "next_round",
            "connected",
            "ring",
        )
        assert report.aggregation.performed  # of the version that the round just made
        assert told == [(0, 3, "waiting for the end of round 1/3")]
        await w.ended()
        rounds = [entry for entry in await w.ledger("version") if "round" in entry]
        assert [entry["topology_epoch"] for entry in rounds] == [1, 2, 2]


async def test_who_does_not_wait_gets_the_plan_and_the_change_comes_all_the_same(tmp_path):
    async with running(tmp_path, 3, faults=slow_training()) as w:
        await in_round_one(w, epochs=2)
        report = await connect(w.cluster, request("ring", wait_seconds=1))
        assert (report.status, report.changed) == ("pending", True)
        assert report.aggregation.reason == "queued"
        assert w.cluster.state.links.topology == "mesh"
        await w.ended()
        assert w.cluster.state.links.topology == "ring"


async def test_a_change_that_waits_while_the_cluster_ends_is_refused_and_not_lost(tmp_path):
    failures = []

    async with running(tmp_path, 3, faults=slow_training(delay_s=10)) as w:
        await in_round_one(w, epochs=2)

        async def ask():
            try:
                await connect(w.cluster, request("ring"))
            except ClusterTerminated as failure:
                failures.append(failure.code)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1)
            w.cluster.state.end("noon")
            w.cluster.run.stop()
        assert failures == ["cluster_terminated"]
        assert w.cluster.state.links.topology == "mesh"


@pytest.mark.usefixtures("workers_share")
async def test_shards_of_the_dead_go_to_the_living_at_a_connect_in_a_training(tmp_path):
    faults = slow_training("worker-0", "worker-1").kill("worker-2", "train")
    async with running(tmp_path, 3, faults=faults) as w:
        await in_round_one(w, epochs=3)
        report = await connect(w.cluster, request("mesh"))
        assert report.rebalanced.moved_shards == 3  # two got other rows, and one has none any more
        while w.cluster.state.latest_training.advance.rounds_done < 2:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        second = [entry for entry in await w.ledger("version") if "round" in entry][1]
        rows = {one["slot"]: one["rows"] for one in second["contributors"]}
        assert set(rows) == {"worker-0", "worker-1"}
        assert sum(rows.values()) == w.committed.dataset.split.train
        await w.ended()
        assert w.cluster.state.latest_training.status == "completed"


async def test_nodes_that_a_former_server_left_are_started_first(tmp_path):
    async with running(tmp_path, 3) as w:
        node = w.node("worker-1")
        node.kill()
        await node.wait_exit()
        await anyio.wait_all_tasks_blocked()
        w.slots["worker-1"].move("recovering")
        report = await connect(w.cluster, request("ring"))
        assert (report.nodes_connected, report.connections) == (3, 3)
        assert w.slots["worker-1"].incarnation == 2
