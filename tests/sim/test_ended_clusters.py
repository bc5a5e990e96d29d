"""A cluster that has ended is a line in memory; whatever is asked of it is read from disk."""

import gc
import weakref

import anyio
import pytest

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.errors import ClusterNotFound, ClusterTerminated, StoreCorrupt
from tests.doubles.limits import HANG_S
from tests.sim.simulated import IMPATIENT, world

PASSING = ("latency", "avg_latency", "error_rate", "performance", "training")
"""Windows over the last minutes, and seconds per round of this server's life."""


def living():
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is LiveCluster]


async def test_nothing_but_a_line_is_kept_of_clusters_that_ended(tmp_path):
    of_other_tests = {
        id(cluster) for cluster in living()
    }  # of the same process; they stay as they are

    def of_this_test():
        return [c.cluster_id for c in living() if id(c) not in of_other_tests]

    async with world(tmp_path, ports=IMPATIENT) as w:
        stays = await w.cluster(1)
        watched = []
        for _ in range(3):
            cluster = await w.cluster(2)
            await w.connect(cluster)
            await w.train(cluster, epochs=1)
            await w.predict(cluster)
            watched.append(weakref.ref(w.engine.cluster(cluster)))
            await w.terminate(cluster)
            await w.status(cluster)
        with anyio.fail_after(HANG_S):  # who looked after the nodes notices that they are gone
            while any(reference() is not None for reference in watched):
                await anyio.sleep(0.05)
                gc.collect()
        assert of_this_test() == [stays]
    async with world(tmp_path) as w:
        assert of_this_test() == [stays]
        assert len((await w.engine.clusters()).clusters) == 4


async def test_the_status_of_an_ended_cluster_is_what_it_was(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.connect(cluster, "ring")
        await w.train(cluster)
        before = (await w.status(cluster)).model_dump(mode="json")
        waiting = {}

        async def wait():
            waiting["report"] = await w.status(cluster, wait_seconds=20)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            report = await w.terminate(cluster)
        assert waiting["report"].status == "terminated"
        after = (await w.status(cluster)).model_dump(mode="json")
        kept = ("name", "topology", "model_version", "evaluation", "global_accuracy", "history")
        kept += ("serving", "dataset_info", "training_sessions")
        changes = {"serving": "effective_ensemble_size"}
        for name in kept:
            left, right = before[name], after[name]
            if name in changes:
                left, right = ({**d, changes[name]: None} for d in (left, right))
            assert left == right, name
        assert after["status"] == "terminated"
        assert (await w.engine.history(cluster)).rounds
        again = await w.terminate(cluster)
        assert again.already_terminated
        assert (again.final_metrics, again.terminated_at) == (
            report.final_metrics,
            report.terminated_at,
        )
        told = {k: v for k, v in after.items() if k not in PASSING}
    async with world(tmp_path) as w:
        now = (await w.status(cluster)).model_dump(mode="json")
        assert {k: v for k, v in now.items() if k not in PASSING} == told


async def test_an_ended_cluster_is_found_by_everything_by_which_it_was_found(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        node = w.engine.cluster(cluster).slots["worker-0"].node_id
        training = (await w.train(cluster)).training.training_id
        await w.terminate(cluster)
        for call in (w.predict, w.connect, w.deploy, w.start):
            with pytest.raises(ClusterTerminated):
                await call(cluster)
        for text in (node, training):
            with pytest.raises(ClusterNotFound, match=f"of cluster {cluster}"):
                await w.status(text)
        with pytest.raises(ClusterNotFound, match=f"ended with this name: {cluster}"):
            await w.status("sim")
        lines = (await w.engine.clusters()).clusters
        assert [(line.cluster_id, line.name, line.status) for line in lines] == [
            (cluster, "sim", "terminated")
        ]


async def test_an_ended_cluster_whose_rows_are_altered_is_refused_when_it_is_asked_for(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.terminate(cluster)
        w.engine.context.store._journal.write(
            lambda c: c.execute("UPDATE slots SET incarnation=7 WHERE cluster_id=?", (cluster,))
        )
        with pytest.raises(StoreCorrupt, match=cluster):
            await w.status(cluster)


async def test_files_of_an_ended_cluster_can_be_deleted_by_many_at_once(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        files = set((tmp_path / "blobs").rglob("*.safetensors"))
        assert files
        await w.terminate(cluster)
        reports = []

        async def delete():
            reports.append(await w.terminate(cluster, delete_artifacts=True))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(delete)
        assert [report.checkpoints_kept for report in reports] == [0] * 4
        assert not set((tmp_path / "blobs").rglob("*.safetensors"))
        assert (await w.stored()).refused == {}
