"""WebAssembly answers for nodes that live, where it is faster; and nothing changes where it cannot."""

from dataclasses import replace

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S, Question
from flow_nexus_neural.engine.wasm import serving
from flow_nexus_neural.wasm import machine
from tests.sim.simulated import RECORD
from tests.unit.engine.wasm.trained import measured, trained

MANY = [[x / 10, 1.0, -1.0] for x in range(8)]


def beside_torch(w, cluster_id):
    """Predictions by the nodes themselves from now on."""
    w.engine.cluster(cluster_id).backends = None


async def test_a_trained_cluster_is_answered_by_wasm_as_by_its_nodes(tmp_path):
    async with trained(tmp_path) as (w, cluster_id):
        status = await measured(w, cluster_id)
        assert status.wasm.active
        assert status.features.wasm_enabled
        assert status.wasm.reason is None
        node = status.wasm.nodes["worker-0"]
        assert node.backend["1"] == "wasm"
        assert node.speedup_measured["1"] >= 1.1
        one, many = await w.predict(cluster_id), await w.predict(cluster_id, MANY)
        assert one.backends == many.backends == {"wasm": 2}
        alone = [await w.predict(cluster_id, record) for record in MANY]
        assert [p.prediction for p in alone] == many.predictions
        # Weights of the next version answer as soon as they are in force.
        await w.train(cluster_id, epochs=2)
        await measured(w, cluster_id)
        after = await w.predict(cluster_id)
        assert after.backends == {"wasm": 2}
        assert after.model_version > one.model_version
        assert after.prediction != one.prediction
        # What an export is held against is computed by the nodes, also where they answer nothing else.
        rows = np.ones((2, 3), np.float32)
        asked = Question(w.engine.cluster(cluster_id).committed, rows, usual=True)
        slots = [w.engine.cluster(cluster_id).slots[name] for name in ("worker-0", "worker-1")]
        for question, backend in ((asked, "wasm"), (replace(asked, by_nodes=True), "torch")):
            fan_out = FanOut(w.engine.cluster(cluster_id), question)
            await fan_out.ask(slots, MAX_DEADLINE_S, None, 2)
            assert set(fan_out.backends.values()) == {backend}
        beside_torch(w, cluster_id)
        plain = await w.predict(cluster_id)
        assert plain.backends == {"torch": 2}
        assert plain.prediction == pytest.approx(after.prediction, abs=1e-5)


async def test_a_node_that_was_killed_or_withholds_its_answer_counts_as_gone(tmp_path):
    async with trained(tmp_path) as (w, cluster_id):
        await measured(w, cluster_id)
        w.kill("worker-0")
        await w.until(cluster_id, lambda s: s.failed_nodes == 1)
        answer = await w.predict(cluster_id)
        assert (answer.backends, answer.nodes_used, answer.degraded) == ({"wasm": 1}, 1, True)
        assert (await w.status(cluster_id)).wasm.nodes["worker-0"].backend == {}
        # Silent for longer than a moment: it has to answer a ping first, and does not.
        slot = w.engine.cluster(cluster_id).slots["worker-1"]
        slot.heard(slot.heard_at_s - 10)
        asked = []
        ask = slot.handle.call

        async def silent(request, *more, **given):
            asked.append(request.kind)
            await anyio.sleep(30)

        slot.handle.call = silent
        with pytest.raises(Exception, match="0 of 2 serving nodes answered"):
            await w.predict(cluster_id, deadline_ms=50)
        assert asked[0] == "ping"
        slot.handle.call = ask


async def test_a_node_that_joins_is_measured_and_answered_for_too(tmp_path):
    async with trained(tmp_path) as (w, cluster_id):
        await measured(w, cluster_id)
        await w.deploy(cluster_id)
        status = await measured(w, cluster_id)
        assert status.wasm.nodes["worker-2"].backend["1"] == "wasm"
        assert (await w.predict(cluster_id)).backends == {"wasm": 3}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"wasm_optimization": False}, serving.NOT_REQUESTED),
        ({"consensus": "byzantine"}, serving.MAY_LIE),
    ],
)
async def test_nodes_answer_where_wasm_is_not_asked_for_or_nodes_may_lie(tmp_path, more, reason):
    async with trained(tmp_path, **more) as (w, cluster_id):
        status = await w.status(cluster_id)
        assert (status.wasm.active, status.features.wasm_enabled) == (False, False)
        assert status.wasm.reason == reason
        assert (await w.predict(cluster_id)).backends == {"torch": 2}


async def test_without_the_extra_the_nodes_answer_and_the_reason_says_how_to_get_it(
    tmp_path, monkeypatch
):
    gone = machine.Availability(machine.MISSING, fast_call=False)
    monkeypatch.setattr(serving, "availability", lambda: gone)
    async with trained(tmp_path) as (w, cluster_id):
        assert (await w.status(cluster_id)).wasm.reason == machine.MISSING
        assert (await w.predict(cluster_id)).backends == {"torch": 2}


async def test_without_memory_for_a_module_the_nodes_answer_and_the_reason_says_so(
    tmp_path, monkeypatch
):
    assert machine.availability().reason is None
    monkeypatch.setattr(machine, "FOREIGN_PAGES", 0)
    async with trained(tmp_path) as (w, cluster_id):
        status = await measured(w, cluster_id)
        assert "memory" in status.wasm.nodes["worker-0"].reason
        assert (status.wasm.active, status.features.wasm_enabled) == (False, False)
        assert (await w.predict(cluster_id)).backends == {"torch": 2}


async def test_a_trap_is_answered_by_the_node(tmp_path, monkeypatch):
    async with trained(tmp_path) as (w, cluster_id):
        await measured(w, cluster_id)
        right = await w.predict(cluster_id)

        def trap(self, rows):
            raise machine.WasmTrap("unreachable")

        monkeypatch.setattr(machine.LoadedNetwork, "infer", trap)
        answer = await w.predict(cluster_id, [*RECORD])
        assert answer.backends == {"torch": 2}
        assert answer.prediction == pytest.approx(right.prediction, abs=1e-5)
