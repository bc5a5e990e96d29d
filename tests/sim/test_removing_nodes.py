"""A node taken out on purpose: what it blocked goes on, what it did is kept, and it does not come back."""

from contextlib import suppress

import anyio
import pytest

from flow_nexus_neural.engine.prediction import predict as prediction
from flow_nexus_neural.errors import (
    ClusterTerminated,
    InvalidArchitecture,
    InvalidArguments,
    NodeNotFound,
    NoServingNode,
    StoreUnavailable,
    TrainingRunning,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.sim.simulated import node_of, world

WIDE = ({"type": "dense", "units": 9, "activation": "relu"}, {"type": "dense", "units": 1})
NO_SEQUENCE = ({"type": "conv1d", "filters": 4, "kernel_size": 5}, {"type": "dense", "units": 1})


async def test_a_worker_whose_layers_do_not_fit_blocks_training_until_it_is_removed(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        misfit = await w.deploy(cluster, layers=NO_SEQUENCE)
        with pytest.raises(InvalidArchitecture, match="worker-2"):
            await w.start(cluster)
        report = await w.terminate(cluster, node_id=misfit.node_id)
        assert (report.status, report.node_id) == ("node_removed", misfit.node_id)
        assert (report.nodes_terminated, report.already_terminated) == (1, False)
        assert "worker-2" in report.message
        assert (await w.train(cluster)).training_status == "completed"
        status = await w.status(cluster)
        assert [node.slot for node in status.nodes] == ["worker-0", "worker-1"]


@pytest.mark.parametrize("how", ["id", "slot"])
async def test_a_removed_node_has_no_process_no_links_and_no_slot(tmp_path, how):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        await w.connect(cluster)
        node_id = node_of(await w.status(cluster), "worker-1").node_id
        process = w.node("worker-1")
        report = await w.terminate(cluster, node_id=node_id if how == "id" else "worker-1")
        assert process.gone
        status = await w.status(cluster)
        assert (status.total_nodes, status.active_nodes, status.failed_nodes) == (2, 2, 0)
        assert [node.connections for node in status.nodes] == [1, 1]
        assert any("neural_cluster_connect links the others anew" in x for x in report.warnings)
        assert (await w.connect(cluster)).nodes_connected == 2


async def test_removing_a_node_again_says_that_it_was_removed(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        first = await w.terminate(cluster, node_id="worker-0")
        again = await w.terminate(cluster, node_id="worker-0")
        assert (again.already_terminated, again.nodes_terminated) == (True, 0)
        assert again.node_id == first.node_id
        assert (await w.status(cluster)).total_nodes == 1


async def test_what_is_no_node_is_not_removed(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        with pytest.raises(NodeNotFound, match="worker-9"):
            await w.terminate(cluster, node_id="worker-9")
        with pytest.raises(InvalidArguments, match="training_id"):
            await w.terminate(cluster, node_id="worker-0", training_id="trn_0")
        with pytest.raises(InvalidArguments, match="delete_artifacts"):
            await w.terminate(cluster, node_id="worker-0", delete_artifacts=True)
        assert (await w.status(cluster)).total_nodes == 1
        await w.terminate(cluster)
        with pytest.raises(ClusterTerminated):
            await w.terminate(cluster, node_id="worker-0")


async def test_a_removal_during_a_training_is_refused_with_what_to_do(tmp_path):
    faults = FaultPlan().freeze("worker-1", "train")
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        started = await w.start(cluster)
        with pytest.raises(TrainingRunning, match="worker-0") as refusal:
            await w.terminate(cluster, node_id="worker-0")
        assert "neural_cluster_terminate (training_id)" in refusal.value.hint
        assert (await w.status(cluster)).total_nodes == 2
        await w.terminate(cluster, training_id=started.training_id)
        assert (await w.terminate(cluster, node_id="worker-0")).status == "node_removed"


async def test_a_failed_node_can_be_removed_and_is_not_replaced_afterwards(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        report = await w.terminate(cluster, node_id="worker-0")
        assert report.nodes_terminated == 0
        assert (await w.status(cluster)).failed_nodes == 0
        deployed = await w.deploy(cluster, layers=None)
        assert (deployed.slot, deployed.replaces) == ("worker-2", None)


async def test_equal_nodes_that_are_left_answer_as_before_with_the_numbers_of_before(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        before = await w.train(cluster)
        told = await w.predict(cluster)
        report = await w.terminate(cluster, node_id="worker-1")
        assert report.warnings == [
            "the links of worker-1 are gone; neural_cluster_connect links the others anew"
        ]
        answer = await w.predict(cluster)
        assert answer.predictions == pytest.approx(told.predictions)
        assert (answer.nodes_used, answer.nodes_expected, answer.degraded) == (2, 2, False)
        after = await w.status(cluster)
        assert after.evaluation == before.evaluation
        assert after.model_version == before.model_version


async def test_numbers_of_an_ensemble_do_not_outlive_its_members(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.deploy(cluster, layers=WIDE)
        before = await w.train(cluster)
        assert before.global_accuracy is not None
        report = await w.terminate(cluster, node_id="worker-1")
        assert any("unknown until the next training" in line for line in report.warnings)
        after = await w.status(cluster)
        assert (after.global_accuracy, after.global_loss, after.evaluation) == (None, None, None)
        answer = await w.predict(cluster)
        for told in (answer, after):
            assert any("gone until the next training" in line for line in told.warnings)
        assert (answer.nodes_used, answer.calibrated) == (1, False)
        assert answer.node_predictions.keys() == {node_of(after, "worker-0").node_id}
        again = await w.train(cluster)
        assert again.global_accuracy is not None
        assert not any("gone until the next training" in line for line in again.warnings)


async def test_the_last_serving_node_can_go_and_a_training_goes_on_from_its_weights(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        version = (await w.train(cluster)).model_version
        report = await w.terminate(cluster, node_id="worker-0")
        assert any("no node serves model version" in line for line in report.warnings)
        with pytest.raises(NoServingNode):
            await w.predict(cluster)
        await w.deploy(cluster)
        await w.train(cluster, epochs=1)
        entries = await w.versions(cluster)
        assert [entry["version"] for entry in entries][-1] == version + 1
        assert (await w.predict(cluster)).nodes_used == 1


async def test_a_removed_node_stays_away_after_a_restart_and_its_name_is_not_used_again(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        told = await w.predict(cluster)
        await w.terminate(cluster, node_id="worker-2")
    async with world(tmp_path) as w:
        assert [n.slot for n in (await w.status(cluster)).nodes] == ["worker-0", "worker-1"]
        answer = await w.predict(cluster)
        assert answer.predictions == pytest.approx(told.predictions)
        assert answer.nodes_expected == 2
        assert (await w.terminate(cluster, node_id="worker-2")).already_terminated
        assert (await w.deploy(cluster)).slot == "worker-3"


async def test_a_removal_that_could_not_be_recorded_is_recorded_by_the_same_call(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        process = w.node("worker-1")
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await w.terminate(cluster, node_id="worker-1")
        assert process.gone
        assert not (await w.terminate(cluster, node_id="worker-1")).already_terminated
        assert (await w.terminate(cluster, node_id="worker-1")).already_terminated
    async with world(tmp_path) as w:
        assert (await w.status(cluster)).total_nodes == 1


@pytest.mark.parametrize("head_start", range(0, 30, 3))
async def test_a_removal_that_meets_a_replacement_of_its_node_ends_in_one_of_both(
    tmp_path, head_start
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)

        async def replace():
            with suppress(NodeNotFound):
                await w.deploy(cluster, layers=None, replace_node_id="worker-0")

        async with anyio.create_task_group() as group:
            group.start_soon(replace)
            for _ in range(head_start):
                await anyio.lowlevel.checkpoint()
            await w.terminate(cluster, node_id="worker-0")
        status = await w.status(cluster)
        assert [node.slot for node in status.nodes] == ["worker-1"]
        assert all(node.gone for node in w.runtime.nodes if node.spec.slot == "worker-0")


async def test_a_prediction_under_way_loses_no_more_than_the_removed_node(tmp_path):
    faults = FaultPlan()
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        faults.ignore("worker-1", "predict", nth=faults.met("worker-1", "predict") + 1)
        answers = []

        async def ask():
            answers.append(await w.predict(cluster))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await w.terminate(cluster, node_id="worker-1")
        (answer,) = answers
        assert answer.nodes_used == 2


async def test_the_answer_of_a_node_that_is_removed_before_the_reply_is_made_counts(
    tmp_path, monkeypatch
):
    ask_all = prediction.ask_all

    async def ask_and_remove(*arguments):
        found = await ask_all(*arguments)
        await w.terminate(cluster, node_id="worker-0")
        return found

    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        expected = await w.predict(cluster)
        monkeypatch.setattr(prediction, "ask_all", ask_and_remove)
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.nodes_expected) == (1, 1)
        assert answer.prediction == expected.prediction
