"""Versions that are kept, listed, and put in force again."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.storage.kept_rows import write_kept
from flow_nexus_neural.errors import (
    ClusterExists,
    InvalidArguments,
    NotTrained,
    StoreCorrupt,
    StoreUnavailable,
    TrainingRunning,
)
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.sim.simulated import RECORD, blobs, world

pytestmark = pytest.mark.anyio

NAMED = ("accuracy", "loss", "digest")


async def versions(w, cluster):
    status = await w.status(cluster, detail="versions")
    assert status.nodes == []
    return {line.version: line for line in status.versions}


async def restore(w, cluster, version, **more):
    request = InitRequest(restore=cluster, version=version, **more)
    return (await w.engine.init_cluster(request)).restored


async def ledger(w, cluster):
    return (await w.engine.context.store.load(cluster)).ledgers[cluster]


async def retrained(w, times=2):
    """A cluster, and by version what it predicted and what status said of it, after each training."""
    cluster = await w.cluster(2)
    seen = {}
    for ordinal in range(times):
        data = blobs(240, seed=ordinal)
        status = await w.train(cluster, data, epochs=2, learning_rate=0.05, federated=True)
        reply = await w.predict(cluster)
        seen[reply.model_version] = (reply.prediction, status)
    return cluster, seen


async def test_the_last_versions_and_the_best_are_kept_with_what_was_measured_of_them(tmp_path):
    async with world(tmp_path, checkpoint_keep=3) as w:
        cluster, seen = await retrained(w, 3)
        lines = await versions(w, cluster)
        newest = max(seen)
        assert sorted(lines)[-3:] == [newest - 2, newest - 1, newest]
        assert len(lines) <= 4
        serving = lines[newest]
        assert [v for v, line in lines.items() if line.serving] == [newest]
        assert any(line.best for line in lines.values())
        status = seen[newest][1]
        assert (serving.accuracy, serving.loss) == (status.global_accuracy, status.global_loss)
        assert all(
            line.committed_at and line.digest and line.training_id for line in lines.values()
        )
        kept = (await w.whole(cluster)).committed.blobs
        for line in (await w.whole(cluster)).committed.kept:
            assert line.blobs <= kept
            assert all(w.engine.context.checkpoints.path(name).exists() for name in line.blobs)
        rows = w.engine.context.store._journal.read(
            lambda c: c.execute("SELECT version FROM versions ORDER BY version").fetchall()
        )
        assert [row[0] for row in rows] == sorted(lines)


async def test_a_restored_version_answers_and_reports_what_it_did(tmp_path):
    async with world(tmp_path) as w:
        cluster, seen = await retrained(w)
        first, last = seen
        assert seen[first][0] != seen[last][0]
        before = await versions(w, cluster)
        made = await restore(w, cluster, first)
        assert (made.model_version, made.restored_version) == (last + 1, first)
        assert made.terminated_at is None
        reply = await w.predict(cluster)
        assert (reply.prediction, reply.model_version) == (seen[first][0], last + 1)
        status = await w.status(cluster)
        was = seen[first][1]
        # The training that ended last keeps its own numbers, and answers with none of its rounds.
        assert was.training.served_round is not None
        assert (status.training.training_id, status.training.served_round) == (
            seen[last][1].training.training_id,
            None,
        )
        assert status.training.best_round == seen[last][1].training.best_round
        assert status.evaluation == was.evaluation
        assert (status.global_accuracy, status.global_loss) == (
            was.global_accuracy,
            was.global_loss,
        )
        assert status.dataset_info == was.dataset_info
        after = await versions(w, cluster)
        assert after[last + 1].restored_from == first
        assert after[last + 1].best == after[first].best
        assert after[last].best
        for name in NAMED:
            assert getattr(after[last + 1], name) == getattr(before[first], name)
        entries = await ledger(w, cluster)
        (rolled,) = [entry for entry in entries if entry.get("event") == "rollback"]
        assert (rolled["kind"], rolled["restored"], rolled["replaced"]) == ("control", first, last)
        assert [e["version"] for e in entries if e["kind"] == "version"] == list(
            range(1, len([e for e in entries if e["kind"] == "version"]) + 1)
        )
        # And forward again, and on with a training.
        assert (await restore(w, cluster, last)).model_version == last + 2
        assert (await w.predict(cluster)).prediction == seen[last][0]
        assert (await w.status(cluster)).training == seen[last][1].training
        status = await w.train(cluster, blobs(240, seed=7), epochs=1)
        assert status.training_status == "completed"


async def test_a_restored_version_survives_the_server(tmp_path):
    async with world(tmp_path) as w:
        cluster, seen = await retrained(w)
        first, last = seen
        await restore(w, cluster, first)
        listed = await versions(w, cluster)
    async with world(tmp_path) as w:
        reply = await w.predict(cluster, deadline_ms=20_000)
        assert (reply.prediction, reply.model_version) == (seen[first][0], last + 1)
        assert await versions(w, cluster) == listed
        await restore(w, cluster, last)
        assert (await w.predict(cluster)).prediction == seen[last][0]


async def test_an_ended_cluster_comes_back_with_a_version_of_its_past(tmp_path):
    async with world(tmp_path) as w:
        cluster, seen = await retrained(w)
        first = min(seen)
        await w.terminate(cluster)
        made = await restore(w, cluster, first)
        assert made.terminated_at is not None
        assert made.restored_version == first
        assert (await w.predict(cluster)).prediction == seen[first][0]


async def test_what_cannot_be_restored_is_refused_and_changes_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        with pytest.raises(NotTrained, match="no version to go back to"):
            await restore(w, cluster, 1)
        await w.train(cluster)
        serving = (await w.predict(cluster)).model_version
        before = len(await ledger(w, cluster))
        with pytest.raises(InvalidArguments, match=r"version 77 .* is not kept; kept are "):
            await restore(w, cluster, 77)
        with pytest.raises(InvalidArguments, match="version belongs to restore"):
            await w.engine.init_cluster(InitRequest(name="new", version=1))
        with pytest.raises(ClusterExists, match="pass version too"):
            await w.engine.init_cluster(InitRequest(restore=cluster))
        assert (await restore(w, cluster, serving)).model_version == serving
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await restore(w, cluster, serving - 1)
        assert len(await ledger(w, cluster)) == before
        assert (await w.predict(cluster)).model_version == serving
        await w.start(cluster, epochs=30)
        with pytest.raises(TrainingRunning, match="its next round would replace"):
            await restore(w, cluster, serving - 1)


@pytest.mark.parametrize("damage", ["row", "file", "another"])
async def test_a_version_that_was_altered_is_refused_and_the_present_one_answers_on(
    tmp_path, damage
):
    async with world(tmp_path) as w:
        cluster, seen = await retrained(w)
        first, last = seen
        store, committed = w.engine.context.store, (await w.whole(cluster)).committed
        if damage == "file":
            (line,) = [one for one in committed.kept if one.version == first]
            path = w.engine.context.checkpoints.path(next(iter(line.blobs)))
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4")
        elif damage == "row":
            change = "UPDATE versions SET body=replace(body, '\"loss\":', '\"lost\":')"
            store._journal.write(lambda c: c.execute(change))
        else:
            another, kept = replace(committed, version=first), [first, last]
            store._journal.write(write_kept(cluster, another, kept))
        with pytest.raises(StoreCorrupt):
            await restore(w, cluster, first)
        assert (await w.predict(cluster, RECORD)).prediction == seen[last][0]


async def test_a_removed_node_does_not_come_back_with_an_old_version(tmp_path):
    async with world(tmp_path) as w:
        cluster, seen = await retrained(w)
        await w.terminate(cluster, node_id="worker-1")
        await w.deploy(cluster)
        await restore(w, cluster, min(seen))
        reply = await w.predict(cluster)
        assert reply.prediction == pytest.approx(seen[min(seen)][0])
        assert {one.slot for one in reply.individual_predictions} == {"worker-0", "worker-2"}


async def test_under_raft_voters_agree_on_going_back(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        await w.train(cluster)
        reply = await w.predict(cluster)
        lines = await versions(w, cluster)
        await restore(w, cluster, min(lines))
        after = await versions(w, cluster)
        assert after[reply.model_version + 1].digest == lines[min(lines)].digest
        assert "raft" in (await w.status(cluster)).consensus_report


async def test_a_training_goes_on_after_a_roll_back_to_a_version_that_was_refitted(tmp_path):
    adam = {"epochs": 2, "federated": True, "optimizer": "adam"}
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        refitted = await w.train(cluster, blobs(240), refit=True, **adam)
        await w.train(cluster, blobs(240, seed=5), **adam)
        await restore(w, cluster, refitted.model_version)
        status = await w.train(cluster, blobs(240, seed=7), **adam)
        assert (status.training_status, status.training_error) == ("completed", None)
