"""A training is durable before its start is reported, one runs at a time, and a refusal changes nothing."""

import anyio
import pytest

from flow_nexus_neural.engine.training.start import start_training
from flow_nexus_neural.errors import (
    ClusterTerminated,
    InvalidArguments,
    InvalidDataset,
    NoWorkers,
    StoreUnavailable,
    TrainingRunning,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import FILES, JOURNAL, disk_is_full
from tests.unit.engine.running import OTHER_LAYERS, rows, running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def started(w, **more):
    return await start_training(w.cluster, w.train_request(**more))


def slow(*names, delay_s=60.0):
    faults = FaultPlan()
    for name in names:
        faults.slow(name, "train", delay_s=delay_s)
    return faults


def blobs(tmp_path):
    return {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}


async def trainings(w):
    return (await w.engine.context.store.load()).trainings


def assert_nothing_started(w):
    assert w.cluster.run is None
    assert not w.cluster.is_training
    assert w.cluster.state.trainings == []


async def test_the_row_and_its_data_are_durable_before_the_report(tmp_path):
    async with running(tmp_path, 2, faults=slow("worker-0", "worker-1")) as w:
        report = await started(w, seed=5)
        (row,) = await trainings(w)
        assert (row.training_id, row.status, row.ordinal) == (report.training_id, "running", 0)
        training = w.cluster.state.latest_training
        assert training.data.sha256 in {path.partition(".")[0] for path in blobs(tmp_path)}
        assert training.request["seed"] == 5
        assert "'X'" not in str(training.request)  # the rows are in their file, not in the row
        assert w.cluster.is_training


async def test_the_report_says_who_trains_on_what_and_how(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.deploy("validator")
        await w.deploy(layers=OTHER_LAYERS)
        report = await started(w, federated=True, rounds=7)
        assert report.status == "running"
        ids = [w.slots[name].node_id for name in ("worker-0", "worker-1", "worker-2")]
        assert (report.nodes_training, report.participating_nodes) == (3, ids)
        assert (report.total_rounds, report.config.rounds) == (7, 7)
        assert [info.slots for info in report.networks] == [
            ["worker-0", "worker-1"],
            ["worker-2"],
        ]
        assert report.guarantees.n == 3
        assert report.dataset_info.rows == 64
        assert "the nodes were not connected; they are now, as mesh" in report.warnings


async def test_slots_know_their_network_and_their_rows_at_once(tmp_path):
    async with running(tmp_path, 2, faults=slow("worker-0", "worker-1")) as w:
        await started(w)
        found = [(slot.parameters, slot.rows) for slot in w.slots]
        assert [parameters for parameters, _ in found] == [4, 4]
        own = [len(w.cluster.run.shards[slot.name]) for slot in w.slots]
        assert [n for _, n in found] == own
        assert w.cluster.state.networks_made == 1


async def test_a_second_training_is_refused_with_how_far_the_first_is(tmp_path):
    async with running(tmp_path, 1, faults=slow("worker-0")) as w:
        report = await started(w)
        with pytest.raises(TrainingRunning, match=f"{report.training_id} is at 0 %") as refusal:
            await started(w)
        assert "neural_cluster_terminate (training_id)" in refusal.value.hint
        assert len(w.cluster.state.trainings) == 1


async def test_of_two_starts_at_one_time_one_is_refused(tmp_path):
    async with running(tmp_path, 2, faults=slow("worker-0", "worker-1")) as w:
        refused = []

        async def start():
            try:
                await started(w)
            except TrainingRunning as refusal:
                refused.append(refusal.message)

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            group.start_soon(start)
        (message,) = refused
        assert "another training is being prepared" in message
        assert len(await trainings(w)) == 1


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"rounds": 3}, InvalidArguments),
        ({"dataset": {"X": [[1, 2]] * 40, "y": ["a"] * 40}}, InvalidDataset),
        ({"federated": True, "min_nodes_per_round": 9}, NoWorkers),
    ],
)
async def test_a_refusal_leaves_the_cluster_free_to_train(tmp_path, more, error):
    async with running(tmp_path, 1) as w:
        with pytest.raises(error):
            await started(w, **more)
        assert_nothing_started(w)
        assert await trainings(w) == ()
        assert (await w.train()).status == "completed"


@pytest.mark.parametrize("point", [JOURNAL, FILES])
async def test_what_cannot_be_made_durable_does_not_run(tmp_path, point):
    faults = FaultPlan()
    async with running(tmp_path, 1, faults=faults) as w:
        await w.connect()
        with w.disk.failing(point, disk_is_full()), pytest.raises(StoreUnavailable):
            await started(w)
        assert_nothing_started(w)
        assert faults.met("worker-0", "train") == 0
        assert (await w.train()).status == "completed"


async def test_a_cluster_that_ends_while_a_training_is_prepared_does_not_train(tmp_path):
    async with running(tmp_path, 1) as w:
        w.cluster.state.end("noon")
        with pytest.raises(ClusterTerminated):
            await started(w)
        assert_nothing_started(w)


async def test_only_the_rows_of_the_latest_training_are_kept(tmp_path):
    async with running(tmp_path, 2) as w:
        first = (await w.train()).data.sha256
        assert any(name.startswith(first) for name in blobs(tmp_path))
        second = (await w.train(dataset=rows(80))).data.sha256
        names = blobs(tmp_path)
        assert any(name.startswith(second) for name in names)
        assert not any(name.startswith(first) for name in names)
        third = (await w.train(dataset=rows(80))).data.sha256
        assert third == second
        assert any(name.startswith(third) for name in blobs(tmp_path))  # equal rows are one file


async def test_trainings_are_counted_so_that_none_repeats_the_draws_of_another(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        await w.train()
        assert [training.ordinal for training in w.cluster.state.trainings] == [0, 1]
        assert [row.ordinal for row in await trainings(w)] == [0, 1]
        assert w.cluster.state.networks_made == 1  # the second goes on with the first one's network


async def test_a_version_that_the_connect_made_is_the_one_that_the_training_starts_from(tmp_path):
    async with running(tmp_path, 2, init={"topology": "star"}) as w:
        await w.train()
        w.cluster.state.links = None  # as after a restart
        training = await w.train()
        rounds = [entry for entry in await w.ledger("version") if "round" in entry]
        exact = [entry for entry in await w.ledger("version") if "round" not in entry]
        assert [entry["version"] for entry in exact] == [3]
        assert [entry["parent"] for entry in rounds] == [0, 1, 3, 4]
        assert training.advance.digest_before == exact[0]["weights_digest"]


async def test_nodes_that_a_former_server_left_are_started_first(tmp_path):
    async with running(tmp_path, 1) as w:
        node = w.node("worker-0")
        node.kill()
        await node.wait_exit()
        await anyio.wait_all_tasks_blocked()
        w.slots["worker-0"].move("recovering")
        report = await started(w)
        assert report.nodes_training == 1
        assert w.slots["worker-0"].incarnation == 2
