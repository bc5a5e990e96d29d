"""Predictions of nodes that may lie: one liar changes nothing, and too few answers decide nothing."""

import csv

import numpy as np
import pytest

from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.vocabulary import NO_QUORUM
from tests.sim.simulated import LAYERS, RECORD, blobs, honest, world
from tests.sim.test_served_is_reported import MODES, of_values, overlapping, served, test_rows

test_rows.__test__ = False
pytestmark = pytest.mark.anyio

LIAR = "worker-2"
NETWORKS = [
    ({"type": "dense", "units": 4 + 2 * k, "activation": "tanh"}, {"type": "dense", "units": 1})
    for k in range(4)
]


class Opposite(NodeService):
    """Answers predictions with the opposite, ten times as loud."""

    def handle(self, request, arrays, poll):
        reply, brought = super().handle(request, arrays, poll)
        if request.kind == "predict":
            brought = {"y": -10 * brought["y"]}
        return reply, brought


def lying(spec):
    kind = Opposite if spec.slot == LIAR else NodeService
    return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


async def answers(tmp_path, service, *, consensus="byzantine", layers=(LAYERS,) * 4, **more):
    """The replies of a trained cluster by aggregation."""
    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(0, consensus=consensus)
        for own in layers:
            await w.deploy(cluster, layers=own)
        await w.train(cluster, aggregation_method="federated_averaging", **more)
        return {mode: await w.predict(cluster, aggregation=mode) for mode in MODES}


async def test_one_of_four_that_answers_the_opposite_changes_no_digit_of_what_all_hold(tmp_path):
    clean = await answers(tmp_path / "clean", honest)
    lied = await answers(tmp_path / "lied", lying)
    trusting = await answers(tmp_path / "trusting", lying, consensus="proof-of-learning")
    for mode in ("mean", "weighted", "ensemble"):
        assert lied[mode].prediction == pytest.approx(clean[mode].prediction, rel=1e-14)
        assert abs(trusting[mode].prediction - clean[mode].prediction) > 0.05, "it does not bite"
    assert lied["majority"].decision == clean["majority"].decision
    assert lied["majority"].confidence == pytest.approx(clean["majority"].confidence)
    for mode in MODES:
        assert lied[mode].quorum.model_dump() == {"needed": 3, "got": 4, "f": 1}
        assert trusting[mode].quorum is None


async def test_of_different_models_the_opposite_of_one_moves_less_than_they_differ(tmp_path):
    clean = await answers(tmp_path / "clean", honest, layers=NETWORKS)
    lied = await answers(tmp_path / "lied", lying, layers=NETWORKS)
    own = list(clean["mean"].node_predictions.values())
    assert clean["mean"].effective_ensemble_size == 4
    for mode in ("mean", "weighted", "ensemble"):
        assert abs(lied[mode].prediction - clean[mode].prediction) < max(own) - min(own)


async def test_with_two_of_four_gone_nothing_is_decided_and_with_one_gone_everything(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4, consensus="byzantine")
        await w.train(cluster)
        whole = await w.predict(cluster)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        fewer = await w.predict(cluster)
        assert fewer.quorum.model_dump() == {"needed": 3, "got": 3, "f": 1}
        assert (fewer.prediction, fewer.degraded) == (pytest.approx(whole.prediction), True)
        w.kill("worker-3")
        await w.until(cluster, lambda s: s.failed_nodes == 2)
        for mode in MODES:
            none = await w.predict(cluster, [RECORD, RECORD], aggregation=mode)
            assert none.quorum.model_dump() == {"needed": 3, "got": 2, "f": 1}
            assert none.decision == [NO_QUORUM] * 2
            assert none.predictions == none.confidences == [None, None]
            assert none.confidence is none.prediction is None
            assert len(none.excluded_nodes) == 2
        await w.deploy(cluster, layers=None)
        assert (await w.predict(cluster)).decision == whole.decision


async def test_a_file_is_written_with_no_decision_for_rows_without_a_quorum(tmp_path):
    (tmp_path / "data").mkdir()
    rows = blobs(30, 7)
    lines = [",".join(map(repr, x)) for x in rows["X"]]
    (tmp_path / "data" / "in.csv").write_text("\n".join(["f0,f1,f2", *lines]))
    async with world(tmp_path / "s", data_dir=tmp_path / "data") as w:
        cluster = await w.cluster(4, consensus="byzantine")
        await w.train(cluster)
        files = {"input_path": "in.csv", "record": None}
        good = await w.predict(cluster, output_path="good.csv", **files)
        assert good.quorum.model_dump() == {"needed": 3, "got": 4, "f": 1}
        assert good.output.rows_without_prediction == 0
        for name in ("worker-0", "worker-3"):
            w.kill(name)
        await w.until(cluster, lambda s: s.failed_nodes == 2)
        bad = await w.predict(cluster, output_path="bad.csv", **files)
        assert bad.quorum.model_dump() == {"needed": 3, "got": 2, "f": 1}
        assert bad.output.rows_without_prediction == 30
        assert bad.output.class_counts == {}
        assert any(text.startswith(NO_QUORUM) for text in bad.warnings)
    with (tmp_path / "data" / "bad.csv").open() as file:
        written = list(csv.DictReader(file))
    assert {(row["prediction"], row["decision"], row["confidence"]) for row in written} == {
        ("", NO_QUORUM, "")
    }


async def test_what_is_measured_of_different_networks_is_what_the_quorum_answers(tmp_path):
    async with world(tmp_path / "engine") as w:
        cluster = await w.cluster(0, seed=3, consensus="byzantine")
        for own in NETWORKS:
            await w.deploy(cluster, layers=own)
        status = await w.train(
            cluster,
            overlapping("regression"),
            epochs=4,
            learning_rate=0.05,
            batch_size=32,
            aggregation_method="federated_averaging",
        )
        assert status.training_status == "completed", status.training_error
        records, y = test_rows(overlapping("regression"), tmp_path)
        for mode in MODES:
            replies = await served(w, cluster, records, mode)
            assert {reply.quorum.f for reply in replies} == {1}
            found = of_values(replies, y)
            reported = status.evaluation.by_aggregation[mode]
            told = {name: reported[name] for name in found}  # beside coverage and size of intervals
            assert told == {name: pytest.approx(v, rel=1e-4) for name, v in found.items()}
        answered = np.array([list(reply.node_predictions.values()) for reply in replies[:1]])[0]
        middle = np.sort(answered, axis=0)[1:3].mean(axis=0)
        (mean,) = (await served(w, cluster, records[:100], "mean"))[:1]
        assert mean.predictions == pytest.approx(middle.tolist())


async def test_slow_nodes_are_waited_for_until_a_quorum_has_answered(tmp_path):
    faults = FaultPlan()
    for name, delay_s in (("worker-1", 0.4), ("worker-2", 0.5), ("worker-3", 60.0)):
        faults.slow(name, "predict", delay_s=delay_s)
    async with world(tmp_path, faults, ports=Ports()) as w:
        cluster = await w.cluster(4, consensus="byzantine")
        await w.train(cluster)
        answer = await w.predict(cluster, deadline_ms=None)
        assert answer.quorum.model_dump() == {"needed": 3, "got": 3, "f": 1}
        assert answer.prediction is not None
