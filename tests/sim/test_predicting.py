"""Answers that must not count, and nodes that are not there yet."""

import sqlite3
import threading
from contextlib import suppress
from dataclasses import replace

import anyio
import anyio.from_thread
import numpy as np
import pytest

from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidRecord,
    NoServingNode,
    Overloaded,
    QuorumLost,
    StoreCorrupt,
)
from flow_nexus_neural.node.service import NodeService
from tests.doubles.limits import HANG_S
from tests.sim.simulated import honest, world


class Liar(NodeService):
    """Answers predictions with something else than the committed model's."""

    lie = ""

    def handle(self, request, arrays, poll):
        reply, brought = super().handle(request, arrays, poll)
        if request.kind == "predict":
            if self.lie == "digest":
                reply = reply.model_copy(update={"digest": "ab" * 32})
            elif self.lie == "nan":
                brought = {"y": np.full_like(brought["y"], np.nan)}
        return reply, brought


@pytest.mark.parametrize(
    ("lie", "reason"), [("digest", "weights of another version"), ("nan", "not finite")]
)
async def test_an_answer_that_is_not_the_committed_models_does_not_count(tmp_path, lie, reason):
    def service(spec):
        if spec.slot != "worker-1":
            return honest(spec)
        liar = Liar(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        liar.lie = lie
        return liar

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.degraded) == (2, True)
        (excluded,) = answer.excluded_nodes
        assert reason in excluded.reason


async def test_a_version_replaced_in_the_nodes_is_answered_with_its_successor(tmp_path):
    overtake, loaded_before = [], []

    class Overtaken(NodeService):
        """While it is asked another version is put in force, as often as `overtake` says."""

        def handle(self, request, arrays, poll):
            reply, brought = super().handle(request, arrays, poll)
            if overtake and request.kind == "predict":
                anyio.from_thread.run_sync(overtake.pop())
                reply = reply.model_copy(update={"digest": loaded_before[0]})
            return reply, brought

    def service(spec):
        return Overtaken(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        state = w.engine.cluster(cluster).state
        loaded_before.append(w.engine.cluster(cluster).slots["worker-0"].offered[0])
        assert loaded_before[0] not in state.committed.digests.values()

        def put_another_in_force():
            state.commit(replace(state.committed, accuracy=float(len(overtake))))

        overtake += [put_another_in_force] * 2
        assert (await w.predict(cluster)).nodes_used == 1
        overtake += [put_another_in_force] * 9
        with pytest.raises(NoServingNode, match="3 versions were replaced"):
            await w.predict(cluster)


async def test_nodes_that_must_be_started_first_are_not_waited_for_beyond_the_deadline(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        before = await w.predict(cluster)
    slow = threading.Event()

    def service(spec):
        slow.wait(HANG_S)
        return honest(spec)

    async with world(tmp_path, service=service) as w:
        try:
            with anyio.fail_after(HANG_S), pytest.raises(NoServingNode):
                await w.predict(cluster, deadline_ms=100)
        finally:
            slow.set()
        await w.until(cluster, lambda s: s.active_nodes == 2)
        assert (await w.predict(cluster)).prediction == before.prediction


async def test_those_who_are_there_answer_while_others_are_started(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
    slow = threading.Event()

    def service(spec):
        if spec.slot == "worker-1":
            slow.wait(HANG_S)
        return honest(spec)

    async with world(tmp_path, service=service) as w:
        try:
            with suppress(NoServingNode):  # this begins to start them
                await w.predict(cluster, deadline_ms=10)
            await w.until(cluster, lambda s: s.active_nodes == 1)
            with anyio.fail_after(HANG_S):
                answer = await w.predict(cluster, deadline_ms=20_000)
            assert (answer.nodes_used, answer.nodes_expected) == (1, 2)
            assert answer.latency_ms < 20_000
        finally:
            slow.set()
        await w.until(cluster, lambda s: s.active_nodes == 2)


async def test_weights_of_the_caller_reach_the_answer_and_wrong_ones_are_refused(tmp_path):
    wide = ({"type": "dense", "units": 9, "activation": "tanh"}, {"type": "dense", "units": 1})
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.deploy(cluster, layers=wide)
        await w.deploy(cluster, "validator")
        await w.train(cluster, clients_per_round=2)
        alone = await w.predict(cluster, aggregation="weighted", weights={"worker-1": 2.0})
        own = {one.slot: one.prediction for one in alone.individual_predictions}
        assert own["worker-0"] != own["worker-1"]
        assert alone.raw_prediction == pytest.approx(own["worker-1"])
        for weights in ({"worker-0": 0.0}, {"validator-0": 1.0}):
            with pytest.raises(InvalidArguments):
                await w.predict(cluster, aggregation="weighted", weights=weights)
        with pytest.raises(InvalidArguments, match="no effect"):
            await w.predict(cluster, weights={"worker-0": 1.0})
        w.kill("worker-1")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        with pytest.raises(QuorumLost):
            await w.predict(cluster, aggregation="weighted", weights={"worker-1": 1.0})


async def test_a_wrong_record_is_refused_and_the_next_one_answered(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        for record in ([1.0], [1.0, 2.0, float("nan")], "no json", [[1.0, 2.0]]):
            with pytest.raises(InvalidRecord):
                await w.predict(cluster, record)
        assert (await w.predict(cluster)).nodes_used == 1
        latency = (await w.status(cluster)).latency
        assert latency.n == 1
        assert 0 < latency.p50 == latency.p99


async def test_more_than_64_at_once_are_told_to_come_back(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        await w.train(cluster)
        answers, refused = [], []

        async def ask():
            try:
                answers.append(await w.predict(cluster))
            except Overloaded as refusal:
                refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(80):
                group.start_soon(ask)
        assert len(answers) == 64
        assert len(refused) == 16
        assert all(refusal.retryable for refusal in refused)
        await w.predict(cluster)


async def test_a_cluster_whose_ledger_was_altered_is_not_opened_and_others_are(tmp_path):
    async with world(tmp_path) as w:
        cluster, other = await w.cluster(1), await w.cluster(1)
        await w.train(cluster)
        await w.train(other)
    database = sqlite3.connect(tmp_path / "state.db")
    with database:
        changed = database.execute(
            "UPDATE ledger SET body = replace(body, 'federated_averaging', 'nothing')"
            ' WHERE cluster_id = ? AND body LIKE \'%"kind":"version"%\'',
            (cluster,),
        )
        assert changed.rowcount == 3
    database.close()
    files = set((tmp_path / "blobs").rglob("*.safetensors"))
    async with world(tmp_path) as w:
        for call in (w.status, w.predict, w.terminate):
            with pytest.raises(StoreCorrupt, match="entry_sha"):
                await call(cluster)
        assert (await w.predict(other)).nodes_used == 1
    assert files <= set((tmp_path / "blobs").rglob("*.safetensors"))
