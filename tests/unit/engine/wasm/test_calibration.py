"""A node is measured against its twin, and what is slower or wrong is not used."""

from flow_nexus_neural.engine.wasm import calibration
from flow_nexus_neural.wasm import machine
from tests.unit.engine.wasm.trained import measured, trained


async def test_wasm_that_is_not_faster_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "choose", lambda timings: calibration.Choice(reason="slower"))
    async with trained(tmp_path) as (w, cluster_id):
        assert (await measured(w, cluster_id)).wasm.reason == "slower"
        assert (await w.predict(cluster_id)).backends == {"torch": 2}


async def test_wasm_whose_outputs_differ_from_the_nodes_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(
        machine.LoadedNetwork, "infer", lambda self, rows: 2 + 0 * rows[:, :1].astype("f4")
    )
    async with trained(tmp_path) as (w, cluster_id):
        assert "differ" in (await measured(w, cluster_id)).wasm.reason
        assert (await w.predict(cluster_id)).backends == {"torch": 2}


async def test_calibration_leaves_weights_and_metrics_as_they_are(tmp_path):
    async with trained(tmp_path / "with") as (w, cluster_id):
        await measured(w, cluster_id)
        one = w.engine.cluster(cluster_id).committed
    async with trained(tmp_path / "without", wasm_optimization=False) as (w, cluster_id):
        other = w.engine.cluster(cluster_id).committed
    assert (one.digests, one.evaluation) == (other.digests, other.evaluation)


async def test_a_node_that_does_not_answer_keeps_its_own_back_end(tmp_path, monkeypatch):
    async with trained(tmp_path) as (w, cluster_id):
        await measured(w, cluster_id)
        cluster = w.engine.cluster(cluster_id)
        slot, version = cluster.slots["worker-0"], cluster.committed
        twin = cluster.backends._twins.get(version.loaded_into(slot.name).digest)
        monkeypatch.setattr(calibration, "ANSWER", calibration.Deadline(0.0, None))
        choice = await calibration.calibrate(cluster, slot, version, twin)
        assert not choice.active
        assert "could not be measured" in choice.reason
