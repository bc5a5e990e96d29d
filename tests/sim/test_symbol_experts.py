"""A node whose capabilities name a symbol counts twice for its records, in replies and in status alike."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.settings import Settings
from tests.sim.stacked import BTC, ETH, opposed, opposed_cluster, trained, world


def ids(w, *slots):
    return [w.node(slot).spec.node_id for slot in slots]


def pooled(reply, experts):
    """The weighted answer again, from what each node said of the record."""
    weights = np.array([2.0 if node in experts else 1.0 for node in reply.node_predictions])
    p = np.array(list(reply.node_predictions.values()))
    return 1 / (1 + np.exp(-np.average(np.log(p / (1 - p)), weights=weights)))


async def test_records_are_decided_by_those_who_know_their_symbol(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w)
        status = await trained(w, cluster, opposed(1500), epochs=20)
        assert status.evaluation.by_aggregation["mean"]["accuracy"] < 0.65
        assert status.evaluation.by_aggregation["weighted"]["accuracy"] > 0.75
        for record, experts, label in ((BTC, (0, 2), "1"), (ETH, (1, 3), "0")):
            reply = await w.predict(cluster, record, aggregation="weighted")
            known = ids(w, *(f"worker-{k}" for k in experts))
            assert reply.symbol_experts == {record["symbol"]: known}
            assert reply.prediction == pytest.approx(pooled(reply, known))
            assert reply.decision == [label]
            assert reply.consensus == pytest.approx(4 / 6)


async def test_the_nodes_that_know_a_symbol_are_told_and_the_callers_weights_stay_as_given(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w)
        await trained(w, cluster, opposed(600), epochs=1)
        without = {"a": 1.5, "b": 0.0}
        nobody = await w.predict(cluster, without, aggregation="weighted")
        assert nobody.symbol_experts is None
        assert nobody.prediction == pytest.approx(pooled(nobody, ()))
        both = await w.predict(cluster, [ETH, BTC, without], aggregation="weighted")
        assert list(both.symbol_experts) == ["ETH", "BTC"]
        own = await w.predict(
            cluster, BTC, aggregation="weighted", weights={"worker-1": 1.0, "worker-3": 1.0}
        )
        assert own.symbol_experts is None
        of_eth = [own.node_predictions[node] for node in ids(w, "worker-1", "worker-3")]
        logits = [np.log(p / (1 - p)) for p in of_eth]
        assert own.prediction == pytest.approx(1 / (1 + np.exp(-np.mean(logits))))


async def test_what_status_reports_is_what_experts_answer(tmp_path):
    data = opposed(1200)
    async with world(tmp_path / "engine") as w:
        cluster = await opposed_cluster(w)
        status = await trained(w, cluster, data)
        asked = DataRequest(
            data, target="y", features=["a", "b"], seed=seed64((1, 0), 0, "", 0, "partition")
        )
        made = prepare(asked, Settings(state_dir=tmp_path))
        test = made.parts["test"]
        columns = [spec for spec in made.schema.columns if spec.name in ("a", "b")]
        mean, sd = (np.array([getattr(c, of)[0] for c in columns]) for of in ("mean", "sd"))
        scaled = ((np.array([row[1:3] for row in data["rows"]]) - mean) / sd).astype("f4")
        inputs = test.x.reshape(len(test), -1)
        where = [int(np.abs(scaled - x).sum(axis=1).argmin()) for x in inputs]
        found = [data["rows"][k] for k in where]
        records = [{"symbol": s, "a": a, "b": b} for s, a, b, _ in found]
        reply = await w.predict(cluster, records, aggregation="weighted", deadline_ms=9000)
        decided = np.array([int(label) for label in reply.decision])
        hits = (decided == test.y.astype(int)).mean()
        reported = status.evaluation.by_aggregation["weighted"]
        assert reported["accuracy"] == pytest.approx(hits)
        p = np.where(test.y > 0.5, reply.predictions, 1 - np.array(reply.predictions))
        assert reported["log_loss"] == pytest.approx(-np.log(p).mean(), rel=1e-3)
