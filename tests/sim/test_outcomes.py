"""Outcomes of predictions: never input, durable, and learnt from."""

import math

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.errors import InvalidArguments, StoreUnavailable
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Outputs, Predict
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.sim.simulated import blobs, world

pytestmark = pytest.mark.anyio

LIAR = "worker-1"
WELL = {"epochs": 6, "learning_rate": 0.1}


async def told_of(w, workers, **more):
    """A cluster that records outcomes, and is not autonomous enough to learn from them unasked."""
    cluster = await w.cluster(0, daa_enabled=True, **more)
    for _ in range(workers):
        await w.deploy(cluster, autonomy=0.75)
    return cluster


def contrary(spec):
    """LIAR answers every record with the opposite."""

    class Contrary(NodeService):
        def handle(self, request, arrays, poll):
            reply, made = super().handle(request, arrays, poll)
            if isinstance(request, Predict) and isinstance(reply, Outputs):
                made = {"y": -made["y"]}
            return reply, made

    kind = Contrary if spec.slot == LIAR else NodeService
    return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


def records(n, seed=5):
    """Fresh rows of the clouds that the clusters learn, each with its outcome under the document's name."""
    data = blobs(n, seed)
    return [
        {**{f"f{k}": value for k, value in enumerate(x)}, "expectedOutcome": y}
        for x, y in zip(data["X"], data["y"], strict=True)
    ]


async def told(w, cluster, n=100, **more):
    """The document's `calibrateEnsemble`: record by record, weighted, each with its outcome."""
    replies = [await w.predict(cluster, one, aggregation="weighted", **more) for one in records(n)]
    assert [reply.feedback_recorded for reply in replies] == [1] * n
    return replies


async def test_a_node_that_is_wrong_loses_its_weight_and_predictions_change(tmp_path):
    async with world(tmp_path, service=contrary) as w:
        cluster = await told_of(w, 3)
        await w.train(cluster, **WELL)
        before = await w.predict(cluster, aggregation="weighted")
        assert before.weights_outcomes == 0
        replies = await told(w, cluster)
        after = await w.predict(cluster, aggregation="weighted")
        assert replies[0].weights_outcomes == 0
        assert (after.weights_source, after.weights_outcomes) == ("outcomes", 100)
        weights = (await w.status(cluster)).feedback.slot_weights
        assert weights[LIAR] < 0.01
        assert sum(weights.values()) == pytest.approx(1)
        honest = [p for node, p in after.node_predictions.items() if node != node_id(w, LIAR)]
        assert after.prediction == pytest.approx(np.mean(honest), abs=0.02)
        assert abs(before.prediction - np.mean(honest)) > 0.05
        mean = await w.predict(cluster)
        assert mean.prediction == pytest.approx(np.mean(list(mean.node_predictions.values())))


def node_id(w, slot):
    (cluster,) = w.engine._clusters.live()
    return cluster.slots[slot].node_id


async def test_an_outcome_never_reaches_the_prediction_that_it_belongs_to(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        record = {"f0": 1.0, "f1": 0.5, "f2": 0.2}
        plain = await w.predict(cluster, record)
        for given in ({"expectedOutcome": 0}, {"label": 1}, {"trend": -1}, {"y": 1, "trend": 1}):
            reply = await w.predict(cluster, {**record, **given})
            assert reply.prediction == plain.prediction
            assert reply.node_predictions == plain.node_predictions
            assert reply.feedback_recorded == 1
            assert {one.name for one in reply.input_report.ignored} == set(given)
        found, damaged = await w.engine.context.store.outcomes(cluster)
        assert damaged == 0
        assert [one.outcome for one in found] == [0.0, 1.0, 0.0, 1.0]
        for one in found:
            assert one.x.size == 3
            sent = {slot: 1 / (1 + math.exp(-value[0])) for slot, value in one.logits.items()}
            assert sent.keys() == {"worker-0", "worker-1"}


async def test_outcomes_and_what_they_taught_survive_the_server(tmp_path):
    async with world(tmp_path, service=contrary) as w:
        cluster = await told_of(w, 3)
        await w.train(cluster, **WELL)
        await told(w, cluster, 30)
        before = (await w.status(cluster)).feedback
    async with world(tmp_path, service=contrary) as w:
        again = await w.predict(cluster, aggregation="weighted", deadline_ms=20_000)
        assert again.weights_outcomes == 30
        assert (await w.status(cluster)).feedback == before
        assert before.recorded == before.kept == 30
        # A new version starts from its own weights; the outcomes stay, to be learnt from.
        await w.train(cluster, **WELL)
        status = await w.status(cluster)
        assert (status.feedback.recorded, status.feedback.weights_outcomes) == (30, 0)
        reply = await w.predict(cluster, aggregation="weighted")
        assert (reply.weights_source != "outcomes", reply.weights_outcomes) == (True, 0)


async def test_the_outcome_of_an_earlier_prediction_is_recorded_once(tmp_path):
    async with world(tmp_path, service=contrary) as w:
        cluster = await told_of(w, 3)
        await w.train(cluster, **WELL)
        one = await w.predict(cluster, [1.5, 1.5, 1.5])
        many = await w.predict(cluster, [[1, 1, 1], [0, 0, 0], [2, 2, 2]])
        outcomes = {one.prediction_id: 1, many.prediction_id: [1, None, 0]}
        reply = await w.predict(cluster, outcomes=outcomes, aggregation="weighted")
        assert (reply.feedback_recorded, reply.weights_outcomes) == (3, 0)
        found, _ = await w.engine.context.store.outcomes(cluster)
        assert [(o.prediction_id, o.row, o.outcome) for o in found] == [
            (one.prediction_id, 0, 1.0),
            (many.prediction_id, 0, 1.0),
            (many.prediction_id, 2, 0.0),
        ]
        again = await w.predict(cluster, outcomes={one.prediction_id: 1}, aggregation="weighted")
        assert (again.feedback_recorded, again.weights_outcomes) == (0, 3)
        assert "none of the last predictions" in " ".join(again.warnings)
        wrong = await w.predict(cluster, outcomes={again.prediction_id: [1, 1]})
        assert "2 outcomes were given" in " ".join(wrong.warnings)
        with pytest.raises(InvalidArguments, match="outcomes do not go with a file"):
            await w.predict(cluster, None, input_path="x.csv", outcomes={"prd": 1})


async def test_what_cannot_be_recorded_is_said_and_costs_no_prediction(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        record = {"f0": 1.0, "f1": 0.5, "f2": 0.2}
        reply = await w.predict(cluster, {**record, "expectedOutcome": "sideways"})
        assert reply.feedback_recorded == 0
        assert "'sideways' is none of the model's classes (0, 1)" in " ".join(reply.warnings)
        some = [{**record, "outcome": 1}, {**record, "outcome": 7}, record]
        reply = await w.predict(cluster, some)
        assert (reply.feedback_recorded, len(reply.predictions)) == (1, 3)
        with w.disk.failing(JOURNAL, disk_is_full()):
            reply = await w.predict(cluster, {**record, "outcome": 1})
        assert (reply.feedback_recorded, reply.prediction is not None) == (0, True)
        assert "1 outcome not recorded: " in " ".join(reply.warnings)
        assert (await w.status(cluster)).feedback.recorded == 1


@pytest.mark.parametrize(("more", "autonomy"), [({"daa_enabled": False}, 0.9), ({}, 0.6)])
async def test_below_its_level_of_autonomy_nothing_is_recorded_unasked(tmp_path, more, autonomy):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0, **{"daa_enabled": True, **more})
        await w.deploy(cluster, autonomy=autonomy)
        await w.train(cluster, **WELL)
        reply = await w.predict(cluster, {"f0": 1.0, "f1": 0.5, "f2": 0.2, "outcome": 1})
        assert reply.feedback_recorded == 0
        assert "0.7 records outcomes" in " ".join(reply.warnings)
        plain = await w.predict(cluster)
        asked = await w.predict(cluster, outcomes={plain.prediction_id: 1})
        assert asked.feedback_recorded == 1


async def test_deleted_artifacts_take_the_recorded_rows_with_them(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        await told(w, cluster, 3)
        await w.terminate(cluster)
        assert len((await w.engine.context.store.outcomes(cluster))[0]) == 3
        await w.terminate(cluster, delete_artifacts=True)
        assert await w.engine.context.store.outcomes(cluster) == ([], 0)


async def test_under_byzantine_a_liar_whom_outcomes_praise_does_not_decide(tmp_path):
    async with world(tmp_path, service=contrary) as w:
        cluster = await told_of(w, 4, consensus="byzantine")
        await w.train(cluster, **WELL)
        for one in records(60):
            await w.predict(cluster, {**one, "expectedOutcome": 1 - one["expectedOutcome"]})
        assert (await w.status(cluster)).feedback.slot_weights[LIAR] > 0.9
        reply = await w.predict(cluster, aggregation="weighted")
        assert (reply.weights_source, reply.quorum.f) == ("outcomes", 1)
        honest = [p for n, p in reply.node_predictions.items() if n != node_id(w, LIAR)]
        assert min(honest) - 1e-9 <= reply.prediction <= max(honest) + 1e-9
        assert reply.node_predictions[node_id(w, LIAR)] < 0.5 < reply.prediction


@pytest.mark.parametrize("refused", ["autonomy", "a word", "some records", "a typo", "the disk"])
async def test_an_outcome_that_was_not_recorded_can_be_sent_later(tmp_path, refused):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0, daa_enabled=True)
        await w.deploy(cluster, autonomy=0.6 if refused == "autonomy" else 0.75)
        await w.train(cluster, **WELL)
        record = {"f0": 1.0, "f1": 0.5, "f2": 0.2}
        own = {"autonomy": 1, "a word": "sideways", "some records": 1}.get(refused)
        first = await w.predict(cluster, [{**record, "outcome": own}, record])
        expected = int(refused == "some records")
        assert (first.feedback_recorded or 0) == expected
        given = {first.prediction_id: [None if expected else 1, 0]}
        if refused == "a typo":
            wrong = await w.predict(cluster, outcomes={first.prediction_id: ["x", None]})
            assert wrong.feedback_recorded == 0
        if refused == "the disk":
            with w.disk.failing(JOURNAL, disk_is_full()):
                failed = await w.predict(cluster, outcomes=given)
            assert failed.feedback_recorded == 0
            assert "2 outcomes not recorded" in " ".join(failed.warnings)
        later = await w.predict(cluster, outcomes=given)
        assert later.feedback_recorded == 2 - expected
        found, _ = await w.engine.context.store.outcomes(cluster)
        assert [o.row for o in found] == [0, 1]
        again = await w.predict(cluster, outcomes={first.prediction_id: [1, 0]})
        assert again.feedback_recorded == 0
        assert "2 outcomes not recorded: " in " ".join(again.warnings)


async def test_a_client_that_gives_up_during_the_write_costs_no_later_outcome(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        store, record = w.engine.context.store, {"f0": 1.0, "f1": 0.5, "f2": 0.2, "label": 1}
        scope, write = anyio.CancelScope(), store._write

        def given_up(writes, marks):
            write(writes, marks)
            anyio.from_thread.run_sync(scope.cancel)

        store._write = given_up
        with scope:
            await w.predict(cluster, record)
        store._write = write
        assert scope.cancel_called
        for n in (2, 3):
            reply = await w.predict(cluster, record)
            assert reply.feedback_recorded == 1
            assert (await w.status(cluster)).feedback.recorded == n
        assert len((await store.outcomes(cluster))[0]) == 3


async def test_outcomes_of_a_former_version_are_recorded_and_said_to_teach_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        old = await w.predict(cluster)
        await w.train(cluster, **WELL)
        reply = await w.predict(cluster, outcomes={old.prediction_id: 1}, aggregation="weighted")
        assert (reply.feedback_recorded, reply.weights_outcomes) == (1, 0)
        assert "a version that is not in force any more" in " ".join(reply.warnings)


async def test_deleting_that_the_disk_refuses_deletes_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        await told(w, cluster, 3)
        await w.terminate(cluster)
        store, whole = w.engine.context.store, w.engine.context.store._write

        def no_ledger(writes, marks):
            if marks:
                raise StoreUnavailable("disk is full", hint="free some")
            whole(writes, marks)

        store._write = no_ledger
        with pytest.raises(StoreUnavailable):
            await w.terminate(cluster, delete_artifacts=True)
        store._write = whole
        assert len((await store.outcomes(cluster))[0]) == 3
        assert store._journal.read(lambda c: c.execute("SELECT COUNT(*) FROM versions").fetchone())[
            0
        ]


@pytest.mark.parametrize("how", ["connect", "roll back"])
async def test_the_same_model_under_a_new_number_keeps_what_it_learnt(tmp_path, how):
    async with world(tmp_path, service=contrary) as w:
        cluster = await told_of(w, 3)
        await w.train(cluster, **WELL)
        await told(w, cluster, 20)
        before = await w.predict(cluster, aggregation="weighted")
        if how == "connect":
            await w.connect(cluster, topology="star")
        else:
            await w.train(cluster, epochs=1)
            assert (await w.predict(cluster, aggregation="weighted")).weights_outcomes == 0
            request = InitRequest(restore=cluster, version=before.model_version)
            await w.engine.init_cluster(request)
        after = await w.predict(cluster, aggregation="weighted")
        assert after.model_version > before.model_version
        assert (after.weights_source, after.weights_outcomes) == ("outcomes", 20)
        assert after.prediction == before.prediction
    async with world(tmp_path, service=contrary) as w:
        again = await w.predict(cluster, aggregation="weighted", deadline_ms=20_000)
        assert again.weights_outcomes == 20
