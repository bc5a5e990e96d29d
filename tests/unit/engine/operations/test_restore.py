"""Clusters come back as they were stored, what ran can go on, and a bad one costs one."""

import os
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.coordination.ledger import GENESIS, make_entry
from flow_nexus_neural.engine.operations.restore import files_in_use, restore, sweep
from flow_nexus_neural.engine.storage.row_digests import ROWS
from flow_nexus_neural.engine.storage.schema import json_text
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import StoreUnavailable
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time

OLDER = Path(__file__).parents[3] / "fixtures" / "state_dirs" / "2" / "state"
"""Written by a version whose ledgers named no rows."""


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def read_back(w):
    return await restore(w.engine.context)


def altered(tmp_path, statement, *values):
    with closing(sqlite3.connect(tmp_path / "state.db")) as journal, journal:
        assert journal.execute(statement, values).rowcount == 1


def stored_files(tmp_path):
    return {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}


@asynccontextmanager
async def unresumable(tmp_path):
    """A training in its second round, stored as a version did that kept no start of it."""
    faults = FaultPlan().slow("worker-0", "train", delay_s=3600, nth=2)
    async with running(tmp_path, 1, faults=faults) as w:
        await w.engine.train(w.train_request(epochs=5))
        w.cluster.state.latest_training.starts = {}
        while w.committed is None:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        yield w


def left_over(w):
    """Add a file that no row names; all are older than those that a sweep spares for being new."""
    w.engine.context.checkpoints.write({"x": np.zeros(1, "f4")}, {})
    for path in (w.engine.context.settings.state_dir / "blobs").rglob("*.safetensors"):
        os.utime(path, (1, 1))


async def test_a_cluster_without_nodes_comes_back_empty(tmp_path):
    async with running(tmp_path, 0) as w:
        read = await read_back(w)
        (only,) = read.clusters
        assert (only.cluster_id, read.refused, read.doubts) == (w.cluster_id, {}, [])
        assert (len(only.slots), only.committed, only.trainings) == (0, None, [])
        assert files_in_use([only]) == set()


async def test_a_cluster_comes_back_with_its_settings_its_slots_and_its_version(tmp_path):
    async with running(tmp_path, 3, init={"topology": "ring", "consensus": "raft"}) as w:
        await w.train()
        (found,) = (await read_back(w)).clusters
        lived = w.cluster.state
        assert found.spec == lived.spec
        assert found.created_at == lived.created_at
        assert [s.name for s in found.slots] == [s.name for s in lived.slots]
        assert [s.spec for s in found.slots] == [s.spec for s in lived.slots]
        assert found.committed.version == lived.committed.version == 2
        assert found.committed.digests == lived.committed.digests
        assert found.committed.sha == lived.committed.sha
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
        (found,) = (await read_back(w)).clusters
        assert [(s.state, s.handle, s.durable) for s in found.slots] == [
            ("recovering", None, True)
        ] * 2
        assert [s.incarnation for s in found.slots] == [1, 1]


async def test_the_ledger_goes_on_where_it_ended(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        (found,) = (await read_back(w)).clusters
        assert found.ledger_head == w.cluster.state.ledger_head
        assert found.ledger_head.next_seq == len(await w.ledger())
        assert found.ledger_head.versions == {"c0": 2}


async def test_a_training_that_ran_is_read_with_all_that_it_goes_on_from(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=3600, nth=2)
    async with running(tmp_path, 1, faults=faults) as w:
        await w.engine.train(w.train_request(epochs=5))
        while w.committed is None:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        (found,) = (await read_back(w)).clusters
        (training,) = found.trainings
        assert (training.status, training.ended_at) == ("running", None)
        lived = w.cluster.state.latest_training
        assert training.can_resume
        assert training.advance == lived.advance
        assert training.advance.continuation.dealt == ("worker-0",)
        assert training.starts == lived.starts
        assert found.last_topology == w.cluster.state.topology
        assert files_in_use([found]) >= training.files


async def test_a_training_of_an_older_version_is_interrupted_durably_at_its_last_round(tmp_path):
    async with unresumable(tmp_path) as w:
        (found,) = (await read_back(w)).clusters
        (training,) = found.trainings
        assert (training.status, training.advance.rounds_done) == ("stopped", 1)
        assert len(training.history) == 1
        assert "interrupted" in training.error
        assert training.ended_at is not None
        stored = await w.engine.context.store.load()
        (row,) = stored.trainings
        assert (row.status, row.ended_at) == ("stopped", training.ended_at)
        last = stored.ledgers[w.cluster_id][-1]
        assert (last["event"], last["training_id"]) == (
            "training_interrupted",
            training.training_id,
        )
        assert stored.refused == {}  # the ledger names the row as it is now


async def test_a_training_that_had_ended_stays_as_it_was(tmp_path):
    async with running(tmp_path, 2) as w:
        lived = await w.train()
        (found,) = (await read_back(w)).clusters
        (training,) = found.trainings
        assert (training.status, training.error) == ("completed", None)
        assert (training.ended_at, training.config) == (lived.ended_at, lived.config)
        assert training.history == lived.history
        assert training.data == lived.data


async def test_an_interruption_that_cannot_be_recorded_is_an_error_and_not_a_lie(tmp_path):
    async with unresumable(tmp_path) as w:
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
        read = await read_back(w)
        (found,) = read.clusters
        assert (read.refused, read.doubts) == ({}, [])
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
        read = await read_back(w)
        assert [cluster.cluster_id for cluster in read.clusters] == [w.cluster_id]
        assert set(read.refused) == {broken}
        assert "has changed: its content hashes to" in read.refused[broken]
        (doubt,) = read.doubts
        assert doubt.startswith(f"cluster {broken} ('unit') cannot be read and is left out: ")
        assert doubt in caplog.text


async def test_a_ledger_that_was_tampered_with_refuses_its_cluster(tmp_path):
    async with running(tmp_path, 1) as w:
        with closing(sqlite3.connect(tmp_path / "state.db")) as journal, journal:
            changed = journal.execute(
                "UPDATE ledger SET body = replace(body, 'joined', 'failed')"
                " WHERE instr(body, 'joined')"
            )
            assert changed.rowcount == 1
        read = await read_back(w)
        assert read.clusters == []
        assert set(read.refused) == {w.cluster_id}


async def test_a_row_that_is_not_the_one_in_the_ledger_refuses_its_cluster(tmp_path):
    async with running(tmp_path, 1) as w:
        altered(tmp_path, "UPDATE slots SET node_id = 'node_x'")
        read = await read_back(w)
        assert read.clusters == []
        assert "'slots worker-0' has changed" in read.refused[w.cluster_id]


async def test_a_ledger_rewritten_so_that_it_names_no_rows_refuses_its_cluster(tmp_path):
    """Its chain verifies, so this is the only thing that tells."""
    async with running(tmp_path, 1) as w:
        prev = GENESIS
        for entry in await w.ledger():
            left = {k: v for k, v in entry.items() if k not in (ROWS, "prev_sha", "entry_sha")}
            forged = make_entry(prev, left)
            prev = forged["entry_sha"]
            altered(
                tmp_path,
                "UPDATE ledger SET entry_sha = ?, body = ? WHERE seq = ?",
                prev,
                json_text(forged),
                entry["seq"],
            )
        altered(tmp_path, "UPDATE slots SET node_id = 'node_x'")
        read = await read_back(w)
        assert read.clusters == []
        assert read.refused == {w.cluster_id: "no ledger entry names its rows"}


async def test_rows_of_an_older_format_are_named_in_the_ledger_when_they_are_read(tmp_path):
    shutil.copytree(OLDER, tmp_path, dirs_exist_ok=True)
    store = Store.open(tmp_path)
    found = await store.load()
    store.close()
    old = {row.cluster_id for row in found.clusters}
    assert old
    assert not found.sealed
    async with running(tmp_path, 0) as w:  # a server that starts reads back
        stored = await w.engine.context.store.load()
        assert (stored.refused, stored.sealed) == ({}, {*old, w.cluster_id})
        for cluster_id in old:
            first = stored.ledgers[cluster_id][len(found.ledgers.get(cluster_id, ()))]
            assert first["event"] == "rows_named"
            assert first[ROWS] == found.digests[cluster_id]


async def test_files_that_nothing_names_are_removed_and_no_others(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        used = stored_files(tmp_path)
        left_over(w)
        assert stored_files(tmp_path) > used
        await sweep(w.engine.context, await read_back(w))
        assert stored_files(tmp_path) == used


async def test_no_file_is_removed_while_rows_that_may_name_it_are_missing(tmp_path, caplog):
    async with running(tmp_path, 1) as w:
        await w.train()
        broken = w.cluster_id
        await w.begin(1)
        altered(tmp_path, "UPDATE slots SET node_id = 'node_x' WHERE cluster_id = ?", broken)
        left_over(w)
        before = stored_files(tmp_path)
        await sweep(w.engine.context, await read_back(w))
        assert stored_files(tmp_path) == before
        assert "no checkpoint file is removed" in caplog.text


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
        states = (await read_back(w)).clusters
        latest = w.cluster.state.latest_training.data.sha256
        used = files_in_use(states)
        assert used == {*w.committed.blobs, latest}
        assert first not in used
