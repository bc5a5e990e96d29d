"""What is left of a cluster without a node, and what is no longer known of it."""

from dataclasses import replace

import anyio
import pytest

from flow_nexus_neural.engine.nodes.removal import remove_node, retire
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.errors import (
    InvalidArguments,
    NodeNotFound,
    StoreUnavailable,
    TrainingRunning,
)
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import OTHER_LAYERS, running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_a_removal_is_one_membership_entry_and_a_retired_row(tmp_path):
    async with running(tmp_path, 2) as w:
        removal = await remove_node(w.cluster, "worker-1")
        assert (removal.already, removal.stopped, removal.warnings) == (False, True, [])
        entry = (await w.ledger("membership"))[-1]
        assert (entry["event"], entry["slot"]) == ("left", "worker-1")
        stored = await w.engine.context.store.load()
        assert {row.slot: row.state for row in stored.slots}["worker-1"] == "retired"
        again = await remove_node(w.cluster, "worker-1")
        assert (again.already, again.stopped) == (True, False)
        assert (await w.ledger("membership"))[-1] == entry


async def test_measured_numbers_stay_only_while_all_nodes_give_one_answer(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.train()
        assert w.committed.evaluation is not None
        parity = w.committed.bundle.parity
        removal = await remove_node(w.cluster, "worker-2")
        assert any("unknown until the next training" in line for line in removal.warnings)
        assert (w.committed.evaluation, w.committed.accuracy, w.committed.loss) == (None,) * 3
        assert w.committed.bundle.parity == parity
        assert w.committed.bundle.slot_weights == {"worker-0": 0.5, "worker-1": 0.5}
        assert any("gone until the next training" in line for line in w.cluster.state.cautions)
        await w.train()
        measured = w.committed.evaluation
        assert measured is not None
        await remove_node(w.cluster, "worker-1")
        assert w.committed.evaluation == measured
        assert w.committed.bundle.slot_weights == {"worker-0": 1.0}


async def test_a_node_that_joins_several_models_makes_a_mix_that_nobody_measured(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.train()
        measured = w.committed.evaluation
        assert measured is not None
        made = await w.deploy()
        assert any("another mix of models" in line for line in made.warnings)
        assert (w.committed.evaluation, w.committed.accuracy) == (None, None)
        await remove_node(w.cluster, made.slot)
        assert w.committed.evaluation == measured
        await remove_node(w.cluster, "worker-0")
        number = w.committed.version
        await w.train()
        asked = InitRequest(restore=w.cluster_id, version=number)
        back = await w.engine.init_cluster(asked)
        assert any("fewer or other nodes answer" in line for line in back.warnings)
        assert (w.committed.evaluation, w.committed.accuracy) == (None, None)


async def test_a_node_that_somebody_is_starting_is_not_removed(tmp_path):
    async with running(tmp_path, 1) as w:
        w.slots["worker-0"].state = "syncing"
        with pytest.raises(InvalidArguments, match="being started by another call"):
            await remove_node(w.cluster, "worker-0")
        w.slots["worker-0"].state = "healthy"
        assert (await remove_node(w.cluster, "worker-0")).stopped


async def test_a_removal_waits_for_a_restart_under_way(tmp_path):
    async with running(tmp_path, 1) as w:
        slot = w.slots["worker-0"]
        async with anyio.create_task_group() as group, slot.restarting:
            group.start_soon(remove_node, w.cluster, "worker-0")
            await anyio.wait_all_tasks_blocked()
            assert slot.state == "healthy"
            group.cancel_scope.cancel()


async def test_while_a_training_is_prepared_nothing_is_removed(tmp_path):
    async with running(tmp_path, 1) as w:
        with w.cluster.state.preparing_training(), pytest.raises(TrainingRunning):
            await remove_node(w.cluster, "worker-0")
        with pytest.raises(NodeNotFound):
            await remove_node(w.cluster, "worker-7")
        assert len(w.slots) == 1


async def test_a_process_ends_even_where_its_removal_cannot_be_recorded(tmp_path):
    async with running(tmp_path, 1) as w:
        slot = w.slots["worker-0"]
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await retire(w.cluster, slot)
        assert all(node.gone for node in w.runtime.nodes)
        assert (slot.state, slot.removal_recorded) == ("retired", False)


async def test_the_weights_of_the_others_are_scaled_and_stay_those_that_were_measured(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.train()
        own = {"worker-0": 0.2, "worker-1": 0.3, "worker-2": 0.5}
        bundle = replace(w.committed.bundle, slot_weights=own, weights_source="validation loss")
        w.cluster.state.committed = replace(w.committed, bundle=bundle)
        await remove_node(w.cluster, "worker-1")
        left = w.committed.bundle
        assert left.slot_weights == pytest.approx({"worker-0": 2 / 7, "worker-2": 5 / 7})
        assert (left.weights_source, left.calibrators) == ("validation loss", {})
