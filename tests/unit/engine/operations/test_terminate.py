"""An end is durable, whole and the same however often it is asked for."""

import anyio
import pytest

from flow_nexus_neural.engine.operations.terminate import stop_nodes, terminate
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.engine.storage.cluster_rows import training_of
from flow_nexus_neural.errors import ClusterTerminated, StoreUnavailable, TrainingNotFound
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def request(**more):
    return TerminateRequest(cluster_id="dnc", **more)


async def ended(w, **more):
    return await terminate(w.cluster, request(**more))


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file())


async def events(w):
    return [entry["event"] for entry in await w.ledger("control")]


TRAINED = ["created", "training_started", "training_ended"]


def living(w):
    return [node.spec.slot for node in w.runtime.nodes if not node.gone]


def long_training(*slots):
    """Each of these needs a minute for its first training request."""
    faults = FaultPlan()
    for slot in slots:
        faults.slow(slot, "train", delay_s=60)
    return faults


async def test_every_node_ends_and_every_slot_is_retired(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("ring")
        report = await ended(w)
        assert (report.status, report.nodes_terminated) == ("terminated", 3)
        assert report.already_terminated is False
        assert living(w) == []
        assert [slot.state for slot in w.slots.with_retired()] == ["retired"] * 3
        assert w.cluster.wiring.working() == []
        assert report.message == "Cluster unit terminated"


async def test_a_second_call_gives_the_same_report_and_ends_nothing_more(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        first = await ended(w)
        await anyio.sleep(100)
        again = await ended(w)
        assert (again.already_terminated, again.nodes_terminated) == (True, 0)
        same = {"already_terminated", "nodes_terminated"}
        assert again.model_dump(exclude=same) == first.model_dump(exclude=same)
        assert await events(w) == [*TRAINED, "terminated"]


async def test_two_calls_at_one_time_end_it_once(tmp_path):
    async with running(tmp_path, 2) as w:
        reports = []

        async def ask():
            reports.append(await ended(w))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
        assert sorted(report.nodes_terminated for report in reports) == [0, 2]
        assert await events(w) == ["created", "terminated"]


async def test_what_had_been_reached_is_reported_and_stays(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train(epochs=3)
        version = w.committed
        await anyio.sleep(90)
        report = await ended(w)
        final = report.final_metrics
        assert final.rounds == 3
        assert (final.global_accuracy, final.global_loss) == (version.accuracy, version.loss)
        assert final.communication_bytes > 0
        assert final.uptime_seconds == int(w.cluster.state.uptime_s()) >= 90
        assert report.checkpoints_kept == len(files(tmp_path)) - 1  # and the prepared rows


async def test_of_a_cluster_that_never_trained_nothing_is_claimed(tmp_path):
    async with running(tmp_path, 1) as w:
        report = await ended(w)
        final = report.final_metrics
        assert (final.rounds, final.global_accuracy, final.global_loss) == (None, None, None)
        assert (report.checkpoints_kept, report.artifacts_path) == (0, None)


async def test_the_end_is_in_the_journal_before_it_is_reported(tmp_path):
    async with running(tmp_path, 1) as w:
        report = await ended(w)
        stored = await w.engine.context.store.load()
        (row,) = stored.clusters
        assert row.terminated_at == report.terminated_at is not None
        assert [slot.state for slot in stored.slots] == ["retired"]
        assert await events(w) == ["created", "terminated"]
        named = (await w.ledger())[-1]["rows"]
        assert set(named) == {"clusters", "slots worker-0"}


async def test_an_end_that_could_not_be_recorded_is_recorded_by_the_next_call(tmp_path):
    async with running(tmp_path, 2) as w:
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await ended(w)
        assert living(w) == []  # nothing runs on, whatever the disk says
        with pytest.raises(ClusterTerminated):
            w.cluster.state.refuse_ended()
        report = await ended(w)
        assert report.already_terminated is False
        assert await events(w) == ["created", "terminated"]
        assert (await ended(w)).already_terminated is True


async def test_a_running_training_ends_with_its_cluster_and_keeps_its_rounds(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.engine.train(w.train_request(epochs=4))
        while w.cluster.state.latest_training.advance.rounds_done < 1:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        report = await ended(w)
        training = w.cluster.state.latest_training
        assert training.status == "stopped"
        assert training.ended_at is not None
        assert report.final_metrics.rounds == training.advance.rounds_done >= 1
        assert w.cluster.run is None


async def test_who_cancels_the_call_does_not_keep_the_nodes_alive(tmp_path):
    async with running(tmp_path, 2) as w:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ended(w)
        assert living(w) == []
        assert w.cluster.state.end_recorded


async def test_files_are_kept_until_they_are_given_up(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        await ended(w)
        assert files(tmp_path)
        report = await ended(w, delete_artifacts=True)
        assert (report.already_terminated, report.checkpoints_kept) == (True, 0)
        assert report.artifacts_path is None
        assert files(tmp_path) == []
        assert await events(w) == [*TRAINED, "terminated", "artifacts_deleted"]
        await ended(w, delete_artifacts=True)  # the model is gone; the prepared rows' name is not
        assert w.committed is None


async def test_files_stay_when_their_end_could_not_be_recorded(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        await ended(w)
        before = files(tmp_path)
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await ended(w, delete_artifacts=True)
        assert files(tmp_path) == before
        assert w.committed is not None


async def test_one_training_is_stopped_and_the_cluster_lives_on(tmp_path):
    async with running(tmp_path, 2, faults=long_training("worker-0", "worker-1")) as w:
        started = await w.engine.train(w.train_request())
        await anyio.sleep(1)
        began_s = anyio.current_time()
        report = await ended(w, training_id=started.training_id)
        assert anyio.current_time() - began_s < 30
        assert (report.status, report.already_terminated) == ("training_stopped", False)
        assert report.message == f"Training {started.training_id} of cluster unit stopped"
        assert w.cluster.state.latest_training.status == "stopped"
        assert report.terminated_at == w.cluster.state.latest_training.ended_at
        assert w.cluster.state.terminated_at is None


async def test_a_training_that_had_ended_is_told_to_have(tmp_path):
    async with running(tmp_path, 1) as w:
        training = await w.train()
        report = await ended(w, training_id=training.training_id)
        assert (report.already_terminated, report.nodes_terminated) == (True, 0)
        assert report.message == f"Training {training.training_id} had already ended: completed"
        assert living(w) == ["worker-0"]


async def stopped_on_a_full_disk(w):
    """A training that the caller stops while nothing can be stored; what the caller is told."""
    started = await w.engine.train(w.train_request())
    await anyio.sleep(1)
    with w.disk.failing(JOURNAL, disk_is_full()):
        return await ended(w, training_id=started.training_id)


async def stored_training(w):
    (row,) = (await w.engine.context.store.load()).trainings
    return training_of(row, [])


async def test_an_end_that_is_not_durable_is_told_and_recorded_when_asked_again(tmp_path):
    async with running(tmp_path, 1, faults=long_training("worker-0")) as w:
        report = await stopped_on_a_full_disk(w)
        (warning,) = report.warnings
        assert warning.startswith("its end is not recorded: store_unavailable")
        assert "another server would go on" in warning
        assert (await stored_training(w)).status == "running"
        again = await ended(w, training_id=report.training_id)
        assert (again.already_terminated, again.warnings) == (True, [])
        stored = await stored_training(w)
        assert (stored.status, stored.error) == ("stopped", None)
        assert w.cluster.state.latest_training.error is None


async def test_the_end_of_a_cluster_records_that_of_its_training(tmp_path):
    async with running(tmp_path, 1, faults=long_training("worker-0")) as w:
        await stopped_on_a_full_disk(w)
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await ended(w)
        assert "not recorded" in w.cluster.state.latest_training.error
        await ended(w)
        stored = await stored_training(w)
        assert (stored.status, stored.error) == ("stopped", None)


async def test_an_unknown_training_ends_nothing(tmp_path):
    async with running(tmp_path, 1) as w:
        with pytest.raises(TrainingNotFound, match="no training 'trn_x'"):
            await ended(w, training_id="trn_x")
        assert living(w) == ["worker-0"]


async def test_stopping_nodes_counts_those_that_lived_and_closes_their_links(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("mesh")
        node = w.node("worker-2")
        node.kill()
        await node.wait_exit()
        await anyio.wait_all_tasks_blocked()
        assert await stop_nodes(w.cluster) == 2
        assert all(slot.handle is None for slot in w.slots)
        assert w.cluster.wiring.working() == []
        assert await stop_nodes(w.cluster) == 0
