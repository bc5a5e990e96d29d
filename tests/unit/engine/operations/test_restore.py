"""Clusters come back as they were stored, what ran is told to be interrupted, and a bad one costs one."""

import sqlite3
from contextlib import closing

import pytest

from flow_nexus_neural.engine.operations.restore import files_in_use, restore
from flow_nexus_neural.errors import StoreUnavailable
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def read_back(w):
    return await restore(w.engine.context)


async def test_a_cluster_without_nodes_comes_back_empty(tmp_path):
    async with running(tmp_path, 0) as w:
        (only,), refused = await read_back(w)
        assert (only.cluster_id, refused) == (w.cluster_id, {})
        assert (len(only.slots), only.committed, only.trainings) == (0, None, [])
        assert files_in_use([only]) == set()


async def test_a_cluster_comes_back_with_its_settings_its_slots_and_its_version(tmp_path):
    async with running(tmp_path, 3, init={"topology": "ring", "consensus": "raft"}) as w:
        await w.train()
        (found,), _ = await read_back(w)
        lived = w.cluster.state
        assert found.spec == lived.spec
        assert found.created_at == lived.created_at
        assert [s.name for s in found.slots] == [s.name for s in lived.slots]
        assert [s.spec for s in found.slots] == [s.spec for s in lived.slots]
        assert found.committed.version == lived.committed.version == 2
        assert found.committed.digests == lived.committed.digests
        assert found.committed.bundle.sha == lived.committed.bundle.sha
        held = found.committed.networks["c0"].state.params
        assert held.tobytes() == lived.committed.networks["c0"].state.params.tobytes()


async def test_a_node_that_came_before_the_restart_and_one_after_it_share_their_network(tmp_path):
    async with running(tmp_path, 1) as w:
        cluster_id = w.cluster_id
    async with running(tmp_path, 0) as w:
        w.cluster = w.engine.cluster(cluster_id)
        await w.deploy()
        training = await w.train()
        assert training.status == "completed"
        (group,) = w.committed.networks.values()
        assert group.slots == ("worker-0", "worker-1")


async def test_no_process_outlives_a_server_so_slots_recover_on_first_use(tmp_path):
    async with running(tmp_path, 2) as w:
        (found,), _ = await read_back(w)
        assert [(s.state, s.handle, s.durable) for s in found.slots] == [
            ("recovering", None, True)
        ] * 2
        assert [s.incarnation for s in found.slots] == [1, 1]


async def test_the_ledger_goes_on_where_it_ended(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        (found,), _ = await read_back(w)
        assert found.ledger_head == w.cluster.state.ledger_head
        assert found.ledger_head.next_seq == len(await w.ledger())
        assert found.ledger_head.versions == {"c0": 2}


async def test_a_training_that_ran_is_interrupted_durably_at_its_last_round(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=3600, nth=2)
    async with running(tmp_path, 1, faults=faults) as w:
        await w.engine.train(w.train_request(epochs=5))
        while w.committed is None:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        (found,), _ = await read_back(w)
        (training,) = found.trainings
        assert (training.status, training.advance.rounds_done) == ("stopped", 1)
        assert len(training.history) == 1
        assert "interrupted" in training.error
        assert training.ended_at is not None
        (row,) = (await w.engine.context.store.load()).trainings
        assert (row.status, row.ended_at) == ("stopped", training.ended_at)


async def test_a_training_that_had_ended_stays_as_it_was(tmp_path):
    async with running(tmp_path, 2) as w:
        lived = await w.train()
        (found,), _ = await read_back(w)
        (training,) = found.trainings
        assert (training.status, training.error) == ("completed", None)
        assert (training.ended_at, training.config) == (lived.ended_at, lived.config)
        assert training.history == lived.history
        assert training.data == lived.data


async def test_an_interruption_that_cannot_be_recorded_is_an_error_and_not_a_lie(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=3600)
    async with running(tmp_path, 1, faults=faults) as w:
        await w.engine.train(w.train_request())
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await read_back(w)


async def test_an_ended_cluster_is_read_without_its_weights(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        accuracy = w.committed.accuracy
        await w.engine.terminate(_end(w))
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.unlink()  # so that reading them would fail
        (found,), refused = await read_back(w)
        assert refused == {}
        assert found.end_recorded
        assert found.terminated_at == w.cluster.state.terminated_at
        assert found.final.global_accuracy == accuracy
        assert len(found.slots) == 0


def _end(w):
    from flow_nexus_neural.engine.requests import TerminateRequest

    return TerminateRequest(cluster_id=w.cluster_id)


async def test_a_cluster_that_cannot_be_read_is_named_and_costs_no_other(tmp_path, caplog):
    async with running(tmp_path, 1) as w:
        await w.train()
        broken = w.cluster_id
        await w.begin(1)
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.write_bytes(b"nonsense")
        found, refused = await read_back(w)
        assert [cluster.cluster_id for cluster in found] == [w.cluster_id]
        assert set(refused) == {broken}
        assert refused[broken]
        assert broken in caplog.text


async def test_a_ledger_that_was_tampered_with_refuses_its_cluster(tmp_path):
    async with running(tmp_path, 1) as w:
        with closing(sqlite3.connect(tmp_path / "state.db")) as journal, journal:
            changed = journal.execute("UPDATE ledger SET body = replace(body, 'joined', 'failed')")
            assert changed.rowcount == 1
        found, refused = await read_back(w)
        assert found == []
        assert set(refused) == {w.cluster_id}


async def test_files_of_versions_and_of_the_latest_rows_are_in_use_and_no_others(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        first = w.cluster.state.latest_training.data.sha256
        await w.train(
            seed=9,
            dataset={
                "X": [[i % 3, i % 5, 1] for i in range(60)],
                "y": [float(i % 7) for i in range(60)],
            },
        )
        states, _ = await read_back(w)
        latest = w.cluster.state.latest_training.data.sha256
        used = files_in_use(states)
        assert used == {*w.committed.blobs, latest}
        assert first not in used
