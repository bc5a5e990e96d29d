"""A terminated cluster whose files stay comes back as it was: its nodes, links, model and answers."""

import shutil
from dataclasses import replace

import anyio
import pytest

from flow_nexus_neural.engine.engine import _Turn
from flow_nexus_neural.engine.requests import InitRequest, ListRequest
from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.engine.storage.verification import verify
from flow_nexus_neural.errors import (
    AmbiguousCluster,
    ClusterExists,
    ClusterNotFound,
    ClusterTerminated,
    LimitExceeded,
    StoreCorrupt,
    StoreUnavailable,
)
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.sim.simulated import LAYERS, RECORD, world
from tests.sim.test_state_directories import FIXTURES, FORMATS

OTHER = ({"type": "dense", "units": 4, "activation": "tanh"}, {"type": "dense", "units": 1})
RECORDS = [RECORD, [0.2, -1.0, 3.5], [None, 0.1, 0.1]]
WAYS = ("mean", "majority", "weighted", "ensemble")
OF_THE_CALL = ("prediction_id", "latency_ms", "node_predictions")


async def trained(w, topology="ring"):
    """Two networks on three workers, a validator, and a worker that was removed before the training."""
    cluster = await w.cluster(2, topology=topology)
    await w.deploy(cluster, layers=OTHER, capabilities=("training", "btc_analysis"))
    await w.deploy(cluster, role="validator")
    removed = await w.deploy(cluster)
    await w.terminate(cluster, node_id=removed.node_id)
    await w.connect(cluster, "ring")
    await w.train(cluster)
    return cluster


async def answers(w, cluster):
    made = [await w.predict(cluster, RECORDS, aggregation=way) for way in WAYS]
    told = [report.model_dump(mode="json") for report in made]
    return [{k: v for k, v in one.items() if k not in OF_THE_CALL} for one in told]


async def restore(w, text, **more):
    return await w.engine.init_cluster(InitRequest(restore=text, **more))


def slots(status):
    same = ("slot", "role", "model", "capabilities", "autonomy", "connections", "parameters")
    return [{name: getattr(node, name) for name in same} for node in status.nodes]


async def lines(w):
    listed = await w.engine.clusters(ListRequest(include_ended=True))
    return {line.cluster_id: line for line in listed.clusters}


@pytest.mark.parametrize("restarted", [False, True], ids=["same server", "server started anew"])
async def test_a_restored_cluster_gives_the_answers_that_it_gave_to_the_bit(tmp_path, restarted):
    async with world(tmp_path) as w:
        cluster = await trained(w)
        before, status = await answers(w, cluster), await w.status(cluster)
        layers = {s.name: s.spec for s in w.engine.cluster(cluster).slots}
        ended = await w.terminate(cluster)
        assert "neural_cluster_init (restore" in ended.warnings[0]
        assert cluster in ended.warnings[0]
        if not restarted:
            await looked_at(w, cluster, (before, status, layers))
    if restarted:
        async with world(tmp_path) as w:
            await looked_at(w, cluster, (before, status, layers))


async def looked_at(w, cluster, was):
    answered, status, specs = was
    version = status.model_version
    report = await restore(w, cluster)
    assert (report.cluster_id, report.name, report.created) == (cluster, "sim", False)
    came = report.restored
    assert (came.nodes, came.healthy_nodes, came.topology) == (4, 4, "ring")
    assert (came.model_version, report.warnings) == (version, [])
    assert await answers(w, cluster) == answered
    now = await w.status(cluster)
    assert slots(now) == slots(status)
    assert {s.name: s.spec for s in w.engine.cluster(cluster).slots} == specs
    same = ("evaluation", "global_accuracy", "history", "training_sessions", "dataset_info")
    assert all(getattr(now, name) == getattr(status, name) for name in same)
    assert (now.status, now.topology, now.model_version) == ("ready", "ring", version)
    assert now.created_at == status.created_at


async def test_a_restored_cluster_goes_on_and_its_ledger_says_that_it_was_restored(tmp_path):
    async with world(tmp_path) as w:
        cluster = await trained(w)
        await w.terminate(cluster)
        version = (await restore(w, "sim")).restored.model_version
        status = await w.train(cluster, epochs=1)
        assert status.training_status == "completed"
        assert status.model_version > version
        await w.deploy(cluster, layers=LAYERS)
        before = await answers(w, cluster)
        await w.terminate(cluster)
        assert (await restore(w, cluster)).restored.nodes == 5
        assert await answers(w, cluster) == before
        stored = await w.stored()
        assert stored.refused == {}
        events = [e["event"] for e in stored.ledgers[cluster] if e["kind"] == "control"]
        assert events.count("restored") == events.count("terminated") == 2
        assert (await w.status(cluster)).uptime_seconds < 3600
    async with world(tmp_path) as w:  # as every live cluster it is there after a restart
        assert await answers(w, cluster) == before


@pytest.mark.parametrize("number", FORMATS)
async def test_a_cluster_that_ended_under_an_earlier_format_comes_back(tmp_path, number):
    shutil.copytree(FIXTURES / str(number) / "state", tmp_path / "state")
    async with world(tmp_path / "state") as w:
        listed = await lines(w)
        (cluster,) = [name for name, line in listed.items() if line.status == "terminated"]
        report = await restore(w, "ended")
        assert report.cluster_id == cluster
        assert report.restored.healthy_nodes == report.restored.nodes > 0
        if report.restored.model_version is not None:
            assert (await w.predict(cluster, [[0.1, 0.2]])).model_version


async def test_a_cluster_without_a_model_comes_back_with_its_nodes(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.terminate(cluster)
        assert (await lines(w))[cluster].restorable is True
        restored = (await restore(w, cluster, name="again")).restored
        assert (restored.nodes, restored.topology, restored.model_version) == (2, None, None)
        assert (await w.status("again")).cluster_id == cluster
        assert (await lines(w))[cluster].restorable is None


async def test_the_list_says_which_ended_clusters_can_be_restored(tmp_path):
    async with world(tmp_path) as w:
        ids = [await trained(w), await trained(w), await trained(w)]
        kept, deleted, damaged = ids
        for cluster in ids:
            await w.terminate(cluster, delete_artifacts=cluster == deleted)
        for name in (await w.whole(damaged)).committed.blobs:
            w.engine.context.checkpoints.path(name).unlink(missing_ok=True)
        told = {kept: True, deleted: False, damaged: False}
        assert {name: line.restorable for name, line in (await lines(w)).items()} == told
    async with world(tmp_path) as w:
        assert {name: line.restorable for name, line in (await lines(w)).items()} == told


async def a_file_of(w, cluster):
    """One of the checkpoint files of an ended cluster."""
    (row,) = [row for row in (await w.stored()).clusters if row.cluster_id == cluster]
    (network, *_) = row.state["committed"]["networks"].values()
    return w.engine.context.checkpoints.path(network["blob"])


async def test_a_cluster_whose_files_were_deleted_is_refused_and_stays_ended(tmp_path):
    async with world(tmp_path) as w:
        cluster = await trained(w)
        await w.terminate(cluster)
        await w.terminate(cluster, delete_artifacts=True)
        with pytest.raises(ClusterTerminated, match="files were deleted"):
            await restore(w, cluster)
        with pytest.raises(ClusterTerminated, match="files were deleted") as refusal:
            await w.predict(cluster)
        assert "restore" not in refusal.value.hint
    async with world(tmp_path) as w:
        with pytest.raises(ClusterTerminated, match="files were deleted"):
            await restore(w, cluster)
        assert (await lines(w))[cluster].restorable is False


def spoil(file, damage):
    if damage == "gone":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


@pytest.mark.parametrize("damage", ["gone", "altered"])
async def test_where_voters_decide_a_damaged_file_is_named_and_nothing_comes_back(tmp_path, damage):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, consensus="raft")
        await w.train(cluster)
        await w.terminate(cluster)
        file = await a_file_of(w, cluster)
        whole = file.read_bytes()
        spoil(file, damage)
        entries = len((await w.stored()).ledgers[cluster])
        with pytest.raises(StoreCorrupt, match=file.stem):
            await restore(w, cluster)
        assert len((await w.stored()).ledgers[cluster]) == entries
        assert (await lines(w))[cluster].status == "terminated"
        assert w.runtime.nodes == [] or all(node.gone for node in w.runtime.nodes)
        file.write_bytes(whole)  # put back from a copy
        assert (await restore(w, cluster)).restored.healthy_nodes == 2


@pytest.mark.parametrize("damage", ["gone", "altered"])
async def test_a_damaged_newest_file_is_named_and_the_newest_whole_version_comes_back(
    tmp_path, damage
):
    async with world(tmp_path) as w:
        cluster = await trained(w)
        await w.terminate(cluster)
        present = (await w.whole(cluster)).committed
        file = await a_file_of(w, cluster)
        spoil(file, damage)
        whole = [line for line in present.kept if file.stem not in line.blobs][-1]
        assert (await lines(w))[cluster].restorable is True
        with w.disk.failing(JOURNAL, disk_is_full(), after=1), pytest.raises(StoreUnavailable):
            await restore(w, cluster)  # it goes on, but what takes the place could not be recorded
        with pytest.raises(ClusterTerminated):
            await w.predict(cluster)
        report = await restore(w, cluster)
        (told,) = [text for text in report.warnings if "is lost" in text]
        assert file.stem[:12] in told
        assert f"version {whole.version} was put in force again" in told
        assert report.restored.healthy_nodes == 4
        answer = await w.predict(cluster)
        assert answer.model_version == report.restored.model_version == present.version + 1
        assert (tmp_path / "damaged" / file.name).is_file() == (damage == "altered")
        before = await answers(w, cluster)
        assert model_digest((await w.whole(cluster)).committed.digests) == whole.digest
    assert verify(tmp_path).damages == []
    async with world(tmp_path) as w:
        assert await answers(w, cluster) == before
        assert any("is lost" in text for text in (await w.status(cluster)).warnings)


async def test_what_cannot_be_restored_is_refused_with_what_to_do(tmp_path):
    async with world(tmp_path, max_clusters=2, max_nodes=5) as w:
        cluster = await w.cluster(1)
        with pytest.raises(ClusterNotFound):
            await restore(w, "dnc_000000000000")
        with pytest.raises(ClusterExists, match="has not ended"):
            await restore(w, cluster)
        assert (await restore(w, cluster, reuse=True)).restored is None
        await w.terminate(cluster)
        twin = await w.cluster(1)
        with pytest.raises(ClusterExists, match=f"{twin} has the name 'sim'") as refusal:
            await restore(w, cluster)
        assert "another name" in refusal.value.hint
        with pytest.raises(ClusterExists, match="seed: has 1, asked 2"):
            await restore(w, cluster, name="x", seed=2)
        full = await w.engine.init_cluster(InitRequest(name="full"))
        with pytest.raises(LimitExceeded, match="2 live clusters"):
            await restore(w, cluster, name="x")
        await w.terminate(full.cluster_id)
        await w.terminate(twin)
        with pytest.raises(AmbiguousCluster, match=cluster):
            await restore(w, "sim")
        report = await restore(w, cluster, name="x", seed=1)
        assert (report.name, report.created) == ("x", False)
    async with world(tmp_path, max_nodes=1) as w:
        await w.terminate("x")
        assert (await restore(w, "x")).name == "x"
        await w.terminate("x")
    async with world(tmp_path, max_nodes=4) as w:
        several = await w.cluster(3)
        await w.terminate(several)
    async with world(tmp_path, max_nodes=2) as w:
        with pytest.raises(LimitExceeded, match="had 3 nodes; the limit is 2"):
            await restore(w, several)
        assert (await lines(w))[several].status == "terminated"


async def test_a_restore_that_the_disk_refuses_changes_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.terminate(cluster)
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await restore(w, cluster)
        with pytest.raises(ClusterTerminated):
            await w.predict(cluster)
        assert (await restore(w, cluster)).restored.healthy_nodes == 1


async def test_of_two_that_restore_one_cluster_at_one_time_one_is_told_that_it_lives(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.terminate(cluster)
        outcomes = []

        async def try_it():
            try:
                outcomes.append((await restore(w, cluster)).restored.healthy_nodes)
            except ClusterExists as failure:
                outcomes.append(failure.code)

        async with anyio.create_task_group() as group:
            group.start_soon(try_it)
            group.start_soon(try_it)
        assert sorted(map(str, outcomes)) == ["2", "cluster_exists"]
        assert len([node for node in w.runtime.nodes if not node.gone]) == 2


async def test_a_restore_that_waits_for_a_deletion_is_refused(tmp_path):
    async with world(tmp_path) as w:
        cluster = await trained(w)
        await w.terminate(cluster)
        outcomes = []

        async def try_it():
            try:
                outcomes.append(await restore(w, cluster))
            except ClusterTerminated as failure:
                outcomes.append(failure.code)

        async with anyio.create_task_group() as group:
            turn = w.engine._turns.setdefault(cluster, _Turn())
            async with turn.lock:  # as a deletion holds it
                group.start_soon(try_it)
                await anyio.wait_all_tasks_blocked()
                ended = w.engine._clusters.ended(cluster)
                w.engine._clusters._known[cluster] = replace(ended, deleted=True)
        assert outcomes == ["cluster_terminated"]
