"""Parameter servers hold the served model in networks of their own, and answer where workers do not."""

import numpy as np
import pytest

from flow_nexus_neural.errors import NoServingNode
from tests.sim.simulated import RECORD, blobs, world
from tests.sim.stacked import BTC, LAYERS, SERVER, opposed, opposed_cluster, trained

WORKERS = ("worker-0", "worker-1")


async def taught(w, *, servers=1, data=None, **more):
    cluster = await w.cluster(2, **more)
    for _ in range(servers):
        await w.deploy(cluster, "parameter_server", layers=SERVER)
    status = await w.train(cluster, data or blobs(1000), epochs=3, learning_rate=0.05)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def without_workers(w, cluster):
    for slot in WORKERS:
        w.kill(slot)
    await w.until(cluster, lambda s: s.failed_nodes == len(WORKERS))


async def test_a_student_answers_nearly_as_its_teacher_where_no_worker_is_left(tmp_path):
    async with world(tmp_path) as w:
        cluster, status = await taught(w)
        gate = status.evaluation.roles["student"]
        assert gate["state"] == "net"
        assert gate["rival"] - gate["own"] <= 0.02
        learnt = status.learnt["parameter_server-0"]
        assert (learnt["purpose"], learnt["trained"]) == ("student", True)
        ablation = status.evaluation.roles["ablation"]
        assert ablation["student"]["accuracy"] > 0.7
        assert ablation["ensemble_with_aggregators"] is None, "there is no aggregator"
        records = [[a, a, a] for a in np.linspace(-2, 3, 11)]
        before = await w.predict(cluster, records)
        assert (before.source, before.degraded) == ("nodes", False)
        await without_workers(w, cluster)
        after = await w.predict(cluster, records)
        assert (after.source, after.degraded, after.nodes_used) == ("student", True, 0)
        assert after.prediction_set is None, "nothing was measured of it on calibration rows"
        assert list(after.node_predictions) == [w.node("parameter_server-0").spec.node_id]
        assert np.abs(np.array(after.predictions) - before.predictions).mean() < 0.1
        assert any("0 of 2 serving nodes answered, so the distilled" in t for t in after.warnings)
        w.kill("parameter_server-0")
        await w.until(cluster, lambda s: s.failed_nodes == 3)
        with pytest.raises(NoServingNode, match="0 of 2"):
            await w.predict(cluster, RECORD)


async def test_one_server_alone_never_answers_where_nodes_may_lie(tmp_path):
    async with world(tmp_path) as w:
        cluster, _ = await taught(w, consensus="byzantine")
        await without_workers(w, cluster)
        with pytest.raises(NoServingNode):
            await w.predict(cluster, RECORD)


async def test_a_worker_that_answers_for_all_is_asked_before_a_student(tmp_path):
    async with world(tmp_path) as w:
        cluster, _ = await taught(w)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        reply = await w.predict(cluster, RECORD)
        assert (reply.source, reply.nodes_used) == ("nodes", 1), "both workers serve one model"


async def test_a_student_of_shuffled_labels_is_at_chance(tmp_path):
    data = blobs(1000)
    np.random.Generator(np.random.PCG64(8)).shuffle(data["y"])
    async with world(tmp_path) as w:
        _, status = await taught(w, data=data)
        width = np.diff(status.evaluation.accuracy_interval)[0]
        assert abs(status.evaluation.roles["ablation"]["student"]["accuracy"] - 0.5) < width


async def test_it_is_one_more_column_for_the_aggregators_and_its_absence_is_felt(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, *LAYERS)
        status = await trained(w, cluster, opposed(2400))
        assert set(status.learnt) == {"aggregator-0", "validator-0", "parameter_server-0"}
        roles = status.evaluation.roles
        assert (roles["student"]["state"], roles["stacker"]["state"]) == ("net", "net")
        assert all(line is not None for line in roles["ablation"].values())
        with_student = roles["ablation"]["ensemble_with_aggregators"]
        assert with_student != roles["ablation"]["ensemble_without_student"]
        assert with_student["accuracy"] > roles["ablation"]["weighted"]["accuracy"] + 0.1
        all_there = await w.predict(cluster, BTC, aggregation="ensemble")
        w.kill("parameter_server-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        without = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (all_there.stacker, without.stacker) == ("net", "net")
        assert without.prediction != all_there.prediction
        entries = (await w.stored()).ledgers[cluster]
        (bundled,) = [entry for entry in entries if "roles" in entry]
        assert bundled["roles"] == {slot: one["digest"] for slot, one in status.learnt.items()}


async def test_of_too_few_rows_no_student_is_made_and_the_reason_is_told(tmp_path):
    async with world(tmp_path) as w:
        _, status = await taught(w, data=blobs(120))
        assert "too few select rows" in status.learnt["parameter_server-0"]["reason"]
