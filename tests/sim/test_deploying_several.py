"""Several nodes in one deploy: all of them, or none."""

import pytest

from flow_nexus_neural.engine.nodes.removal import retire
from flow_nexus_neural.errors import InvalidArguments, LimitExceeded, NeuralError, NodeNotFound
from tests.sim.simulated import honest, node_of, world


def breaking(broken):
    def service(spec):
        if spec.slot in broken:
            raise RuntimeError("no luck")
        return honest(spec)

    return service


async def test_a_count_deploys_so_many_equal_nodes_and_names_them_all(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        report = await w.deploy(cluster, count=3)
        assert report.slots == ["worker-1", "worker-2", "worker-3"]
        assert (report.slot, report.node_id) == ("worker-1", report.node_ids[0])
        status = await w.status(cluster)
        assert status.active_nodes == 4
        assert [node_of(status, slot).node_id for slot in report.slots] == report.node_ids
        assert len({node.pid for node in status.nodes if node.pid}) in (0, 4)
        assert (await w.train(cluster)).training_status == "completed"
        assert (await w.predict(cluster)).nodes_used == 4


async def test_without_a_count_the_lists_have_the_one_node(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        report = await w.deploy(cluster)
        assert (report.node_ids, report.slots) == ([report.node_id], [report.slot])


async def test_default_networks_of_a_hybrid_go_by_the_number_of_each_node(tmp_path):
    async with world(tmp_path / "one") as w:
        cluster = await w.cluster(0, architecture="hybrid")
        single = [(await w.deploy(cluster, layers=None)).layers for _ in range(3)]
    async with world(tmp_path / "many") as w:
        cluster = await w.cluster(0, architecture="hybrid")
        report = await w.deploy(cluster, layers=None, count=3)
        slots = w.engine.cluster(cluster).slots
        assert [
            [dict(layer) for layer in slots[name].layers_for("hybrid", None)]
            for name in report.slots
        ] == single


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("worker-1", "node 1 of 3 did not come up: "),
        ("worker-2", "node 2 of 3 did not come up; the 1 before it were removed again: "),
        ("worker-3", "node 3 of 3 did not come up; the 2 before it were removed again: "),
    ],
)
async def test_where_one_does_not_come_up_none_is_left(tmp_path, broken, says):
    luck = {broken}
    async with world(tmp_path, service=breaking(luck)) as w:
        cluster = await w.cluster(1)
        before = await w.status(cluster)
        with pytest.raises(NeuralError) as caught:
            await w.deploy(cluster, count=3)
        assert caught.value.message.startswith(says)
        assert broken in caught.value.message
        after = await w.status(cluster)
        assert [n.node_id for n in after.nodes] == [n.node_id for n in before.nodes]
        assert after.status == before.status
        assert all(n.gone for n in w.runtime.nodes if n.spec.slot != "worker-0")
        luck.clear()
        made = (await w.deploy(cluster, count=2)).slots
        assert not {"worker-0", broken} & set(made)
    async with world(tmp_path) as w:
        assert [node.slot for node in (await w.status(cluster)).nodes] == ["worker-0", *made]


async def test_what_is_undone_during_a_training_leaves_no_row_untrained(tmp_path):
    """A node that came up may have been dealt rows before its neighbours failed to."""
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        training = await w.start(cluster, epochs=1000)
        status = await w.rounds(cluster, 1)
        n_rows = sum(node.rows for node in status.nodes)
        await w.deploy(cluster)
        await w.until(cluster, lambda s: node_of(s, "worker-2").rows)
        live = w.engine.cluster(cluster)
        await retire(live, live.slots["worker-2"])
        status = await w.until(cluster, lambda s: sum(node.rows for node in s.nodes) == n_rows)
        assert [node.slot for node in status.nodes] == ["worker-0", "worker-1"]
        await w.terminate(cluster, training_id=training.training_id)


async def test_more_than_fit_are_refused_before_one_is_started(tmp_path):
    async with world(tmp_path, max_nodes=3) as w:
        cluster = await w.cluster(1)
        with pytest.raises(LimitExceeded, match="has 1 nodes and 3 more were asked for"):
            await w.deploy(cluster, count=3)
        assert len(w.runtime.nodes) == 1
        assert (await w.deploy(cluster, count=2)).slots == ["worker-1", "worker-2"]


async def test_a_count_does_not_replace_a_failed_node_and_says_so(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        report = await w.deploy(cluster, layers=None, count=2)
        assert report.slots == ["worker-1", "worker-2"]
        assert any("worker-0 failed and was not replaced" in line for line in report.warnings)
        with pytest.raises(InvalidArguments, match="replace_node_id names one node"):
            await w.deploy(cluster, layers=None, count=2, replace_node_id="worker-0")
        with pytest.raises(NodeNotFound):
            await w.deploy(cluster, replace_node_id="worker-9")
