"""Training without `federated`: which way it took is said, and one process survives the loss of its node."""

from collections import Counter

import pytest

from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import blobs, node_of, slots, world
from tests.sim.test_left_out import refusing

pytestmark = pytest.mark.anyio

LITTLE = {"federated": False, "epochs": 4}


async def test_little_work_is_done_by_one_process_that_has_all_rows(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        report = await w.start(cluster, blobs(200), **LITTLE)
        assert report.config.strategy == "single_process"
        assert "not worth sharing" in report.config.strategy_reason
        assert report.config.sync_every_steps is None
        assert report.nodes_training == 1
        status = await w.done(cluster)
        assert status.training.strategy == "single_process"
        assert status.training.strategy_reason == report.config.strategy_reason
        train = report.dataset_info.split.train
        assert [node_of(status, f"worker-{n}").rows for n in range(3)] == [train, 0, 0]
        for entry in await w.round_versions(cluster):
            assert slots(entry, "contributors") == ["worker-0"]
        answer = await w.predict(cluster)
        assert answer.nodes_used == 3, "the others serve what the one has learnt"
    async with world(tmp_path) as w:
        again = (await w.status(cluster)).training
        assert again.strategy_reason == report.config.strategy_reason


async def test_one_process_of_three_workers_learns_what_a_lone_worker_learns(tmp_path):
    digests = []
    for workers in (1, 3):
        async with world(tmp_path / str(workers)) as w:
            cluster = await w.cluster(workers)
            await w.train(cluster, blobs(200), **LITTLE)
            digests.append([entry["weights_digest"] for entry in await w.versions(cluster)])
    assert digests[0] == digests[1]


async def test_much_work_is_shared_where_several_may_compute_at_a_time(tmp_path):
    layers = ({"type": "dense", "units": 64}, {"type": "dense", "units": 1})
    async with world(tmp_path, modes={"places": 4}) as w:
        cluster = await w.cluster(4, layers=layers)
        report = await w.start(
            cluster, blobs(20_000), federated=False, epochs=1, batch_size=8, optimizer="sgd"
        )
        assert report.config.strategy == "local_sgd"
        assert "worth sharing" in report.config.strategy_reason
        assert report.nodes_training == 4
        assert (await w.done(cluster)).training_status == "completed"


async def test_another_worker_takes_over_where_the_only_one_dies(tmp_path):
    faults = FaultPlan().kill("worker-0", "train", nth=2)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, blobs(200), **LITTLE)
        assert status.training_status == "completed", status.training_error
        entries = await w.versions(cluster)
        assert slots(entries[0], "contributors") == ["worker-0"]
        assert slots(entries[1], "contributors") == ["worker-1"]
        train = status.dataset_info.rows
        assert entries[1]["contributors"][0]["rows"] == entries[0]["contributors"][0]["rows"]
        assert entries[1]["contributors"][0]["rows"] < train


async def test_another_worker_takes_over_where_the_only_one_refuses(tmp_path):
    asked = Counter()
    async with world(tmp_path, service=refusing(asked, "worker-0", nth=2)) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, blobs(200), **LITTLE)
        assert status.training_status == "completed", status.training_error
        who = [slots(entry, "contributors") for entry in await w.round_versions(cluster)]
    assert who == [["worker-0"], *[["worker-1"]] * 3]
    assert asked.total() == 2


async def test_what_needs_several_workers_is_shared_however_little_it_is(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4, consensus="byzantine")
        report = await w.start(cluster, blobs(200), **LITTLE)
        assert (report.config.strategy, report.nodes_training) == ("local_sgd", 4)
        assert (await w.done(cluster)).training_status == "completed"
