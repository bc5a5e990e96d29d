"""Nodes that answer pings and no prediction that can be used: doubted, ended, named and replaceable."""

import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.versions.loading import serving_slots
from flow_nexus_neural.errors import NoServingNode
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Failed, Predict
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import until
from tests.sim.simulated import IMPATIENT, RECORD, world

pytestmark = pytest.mark.anyio

LIAR = "worker-1"
SOON = Ports(patience=replace(IMPATIENT.patience, prediction_s=0.2))
CALM = Ports(patience=Patience(silence_s=60.0, prediction_s=0.2))
"""Nobody is pinged for silence alone."""
FAR = [1e6, 1.0, 1.0]


def lying(lie):
    """Services of which the first incarnation of LIAR answers predictions by `lie(n, request, reply, y)`.

    n counts its predictions from 0; the honest reply is given where `lie` gives None.
    """

    class Liar(NodeService):
        asked = 0

        def handle(self, request, arrays, poll):
            reply, brought = super().handle(request, arrays, poll)
            if not isinstance(request, Predict):
                return reply, brought
            n, self.asked = self.asked, self.asked + 1
            return lie(n, reply, brought["y"]) or (reply, brought)

    def make(spec):
        kind = Liar if (spec.slot, spec.incarnation) == (LIAR, 1) else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    return make


def not_finite(n, reply, y):
    return reply, {"y": np.full_like(y, np.nan)}


def infinite(n, reply, y):
    return reply, {"y": np.full_like(y, np.inf)}


def other_weights(n, reply, y):
    return reply.model_copy(update={"digest": "ab" * 32}), {"y": y}


def failing(n, reply, y):
    return Failed(type="RuntimeError", message="All is well'. Trust me.\x1b[2J"), {}


def fenced(n, reply, y):
    return Failed(type="fenced", message="not I"), {}


def right_for_the_engine_only(n, reply, y):
    """Callers' questions are the even ones: each lie is followed by one of the engine's own."""
    return not_finite(n, reply, y) if n % 2 == 0 else None


async def node_of(w, cluster, slot=LIAR):
    return next(node for node in (await w.status(cluster)).nodes if node.slot == slot)


async def ended(w, cluster):
    await w.until(cluster, lambda s: next(n for n in s.nodes if n.slot == LIAR).status == "failed")
    return await node_of(w, cluster)


@pytest.mark.parametrize("lie", [not_finite, infinite, other_weights, failing, fenced])
async def test_a_node_whose_answers_are_refused_is_ended_named_and_replaceable(tmp_path, lie):
    async with world(tmp_path, service=lying(lie), ports=SOON) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.nodes_expected) == (2, 3)
        node = await ended(w, cluster)
        assert node.last_error.startswith("predictions_refused: ")
        assert "3 refused" in node.last_error
        assert node.last_error.isprintable()
        report = await w.deploy(cluster, layers=None)
        assert (report.slot, report.replaces) == (LIAR, node.node_id)
        assert (await w.predict(cluster)).nodes_used == 3


async def test_a_node_that_answers_pings_and_no_prediction_is_ended_named_and_replaceable(tmp_path):
    faults = FaultPlan()
    # The next incarnation answers: one that does not is not called healthy.
    for n in range(1, 4):
        faults.ignore(LIAR, "predict", nth=n)
    async with world(tmp_path, faults, ports=SOON) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        assert (await w.predict(cluster, deadline_ms=1000)).nodes_used == 2
        node = await ended(w, cluster)
        assert node.last_error.startswith("predictions_unanswered: ")
        assert "3 not answered" in node.last_error
        assert faults.met(LIAR, "predict") == 3  # one of a caller, two of the engine
        assert (await w.deploy(cluster, layers=None)).replaces == node.node_id


async def test_the_only_node_is_ended_too_when_it_withholds_its_predictions(tmp_path):
    faults = FaultPlan()
    for n in range(1, 200):
        faults.ignore("worker-0", "predict", nth=n)
    async with world(tmp_path, faults, ports=SOON) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        with pytest.raises(NoServingNode):
            await w.predict(cluster, deadline_ms=50)
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        with pytest.raises(NoServingNode, match="predictions_unanswered"):
            await w.predict(cluster, deadline_ms=50)


async def test_a_node_that_is_honest_only_when_no_caller_asks_is_ended(tmp_path):
    async with world(tmp_path, service=lying(right_for_the_engine_only), ports=SOON) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        for n in range(1, 6):
            assert (await w.predict(cluster)).nodes_used == 2
            if n < 5:
                await w.until(cluster, lambda s: s.active_nodes == 3)
        assert "5 refused" in (await ended(w, cluster)).last_error


async def test_an_honest_node_that_is_late_for_every_caller_is_neither_doubted_nor_ended(tmp_path):
    faults = FaultPlan()
    for n in range(1, 12):
        faults.slow(LIAR, "predict", nth=n, delay_s=0.5)
    async with world(tmp_path, faults, ports=CALM) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        late = w.engine.cluster(cluster).slots[LIAR]
        for _ in range(10):
            with suppress(NoServingNode):
                await w.predict(cluster, deadline_ms=20)
        assert late.watched is not None
        await until(lambda: late.watched is None)
        assert (late.state, late.incarnation) == ("healthy", 1)
        assert (late.conduct.refused, late.conduct.unanswered) == (0, 0)
        assert faults.met(LIAR, "ping") > 0  # it was found to be slow, not mute
        assert (await w.predict(cluster, deadline_ms=20_000)).nodes_used == 3


async def test_what_a_caller_asks_for_cannot_make_an_honest_node_suspect(tmp_path):
    def overflows(n, reply, y):
        return None if np.isfinite(y).all() and abs(y).max() < 1e3 else not_finite(n, reply, y)

    async with world(tmp_path, service=lying(overflows), ports=SOON) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        for _ in range(8):
            await w.predict(cluster, FAR)
        assert (await node_of(w, cluster)).status == "healthy"
        assert (await w.predict(cluster)).nodes_used == 3


async def test_a_failure_at_many_records_is_looked_into_with_one_and_not_counted(tmp_path):
    def too_large(n, reply, y):
        return failing(n, reply, y) if len(y) > 1 else None

    async with world(tmp_path, service=lying(too_large), ports=SOON) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        for _ in range(8):
            assert (await w.predict(cluster, [RECORD, RECORD])).nodes_used == 2
        assert w.engine.cluster(cluster).slots[LIAR].conduct.refused == 0
        assert (await w.predict(cluster)).nodes_used == 3


async def test_a_doubted_node_that_answers_again_is_trusted_and_serves_what_it_missed(tmp_path):
    faults, gate = FaultPlan().ignore(LIAR, "predict"), threading.Event()

    def held_back(n, reply, y):
        gate.wait(HANG_S)

    async with world(tmp_path, faults, service=lying(held_back), ports=CALM) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        try:
            assert (await w.predict(cluster, deadline_ms=1000)).nodes_used == 2
            await w.until(cluster, lambda s: s.active_nodes == 2)
            doubted = await node_of(w, cluster)
            assert (doubted.status, doubted.healthy) == ("suspect", False)
            assert "1 not answered" in doubted.last_error
            answer = await w.predict(cluster, deadline_ms=20_000)
            assert answer.nodes_used == 2
            assert answer.latency_ms < 20_000, "it was waited for"
            trained = await w.train(cluster, epochs=1, min_nodes_per_round=1)
            assert trained.training_status == "completed"
        finally:
            gate.set()
        slot = w.engine.cluster(cluster).slots[LIAR]
        live = w.engine.cluster(cluster)
        await until(lambda: slot in serving_slots(live))
        assert (slot.state, slot.incarnation) == ("healthy", 1)
        assert (await w.predict(cluster)).nodes_used == 3
