"""What a server that just started says of clusters whose nodes it has not started yet, and their links."""

import anyio
import anyio.lowlevel
import pytest

from flow_nexus_neural.coordination.ledger import verify_chain
from tests.sim.simulated import world

pytestmark = pytest.mark.anyio


async def topologies(w, cluster):
    stored = await w.engine.context.store.load(cluster)
    chain = stored.ledgers[cluster]
    assert verify_chain(chain).ok
    return [
        (entry["topology"], entry["topology_epoch"], entry.get("event"), len(entry["edges"]))
        for entry in chain
        if entry["kind"] == "topology"
    ]


@pytest.mark.parametrize("consensus", ["raft", "proof-of-learning"])
async def test_nodes_of_a_server_that_just_started_are_recovering_and_not_failed(
    tmp_path, consensus
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus=consensus)
        await w.train(cluster, epochs=1)
        before = (await w.status(cluster)).guarantees
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert (status.status, status.active_nodes) == ("recovering", 0)
        assert (status.failed_nodes, status.recovering_nodes, status.total_nodes) == (0, 3, 3)
        assert status.guarantees.holds is None
        assert (status.guarantees.n, status.guarantees.f_tolerated) == (
            before.n,
            before.f_tolerated,
        )
        told = f"{status.guarantees.reason} {status.consensus_report} {status.warnings}".lower()
        assert "deploy" not in told
        assert "lost" not in told
        assert (await w.predict(cluster)).nodes_used >= 1
        status = await w.until(cluster, lambda s: s.active_nodes == 3)
        assert (status.failed_nodes, status.recovering_nodes) == (0, 0)
        assert status.guarantees.holds is True


async def test_a_raft_cluster_that_just_started_trains_without_a_deploy(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        await w.train(cluster, epochs=1)
    async with world(tmp_path) as w:
        assert not (await w.status(cluster)).consensus_report["available"]
        await w.train(cluster, epochs=1)
        assert (await w.status(cluster)).model_version == 2


async def test_links_come_back_with_the_nodes_as_they_were_and_as_a_new_epoch(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4, topology="star")
        await w.train(cluster, epochs=1)
        assert (await w.connect(cluster, topology="ring")).topology_epoch == 2
        version = (await w.status(cluster)).model_version
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert (status.topology, status.features.connections_active) == ("ring", 0)
        assert await topologies(w, cluster) == [("star", 1, None, 4), ("ring", 2, None, 4)]
        await w.predict(cluster)
        status = await w.until(cluster, lambda s: s.features.connections_active == 4)
        assert (status.topology, status.declared_topology) == ("ring", "star")
        assert status.model_version == version, "nothing was averaged for it"
        assert (await topologies(w, cluster))[2:] == [("ring", 3, "linked_again", 4)]
        again = await w.connect(cluster, topology="ring")
        assert (again.changed, again.previous_topology) == (False, "ring")


async def test_a_training_after_a_restart_goes_over_the_former_links(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        await w.connect(cluster, topology="ring")
    async with world(tmp_path) as w:
        started = await w.train(cluster, epochs=1)
        assert not any("not connected" in warning for warning in started.warnings)
        assert (await topologies(w, cluster))[-1] == ("ring", 2, "linked_again", 3)


async def test_nodes_that_never_were_linked_are_not_linked_by_a_restart(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert status.topology == status.declared_topology
        await w.deploy(cluster)
        await anyio.lowlevel.checkpoint()
        assert await topologies(w, cluster) == []
