"""Aggregators learn to combine the slots, and are used where that is better and only there."""

import csv

import pytest

from flow_nexus_neural.engine.prediction import predict_file
from flow_nexus_neural.engine.prediction.pinned import PinnedVersion
from flow_nexus_neural.engine.requests import InitRequest, PredictRequest
from tests.sim.stacked import BTC, ETH, opposed, opposed_cluster, trained, world


def accuracy(status, mode):
    return status.evaluation.by_aggregation[mode]["accuracy"]


async def test_an_aggregator_is_right_where_every_mean_of_the_workers_is_not(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        status = await trained(w, cluster)
        gate = status.evaluation.roles["stacker"]
        assert gate["state"] == "net"
        assert gate["rival"] - gate["own"] > gate["standard_error"] > 0
        assert accuracy(status, "weighted") < 0.7
        assert accuracy(status, "ensemble") > accuracy(status, "weighted") + 0.1
        learnt = status.learnt["aggregator-0"]
        assert learnt["trained"]
        assert (learnt["purpose"], learnt["reason"]) == ("stacker", None)
        assert learnt["rows"] > 0
        assert len(learnt["digest"]) == 64
        up, down = [await w.predict(cluster, r, aggregation="ensemble") for r in (BTC, ETH)]
        assert (up.stacker, down.stacker) == ("net", "net")
        assert up.prediction > 0.6
        assert down.prediction < 0.4
        assert up.consensus != down.consensus


async def test_without_it_the_same_workers_are_at_chance_and_the_reply_says_what_is_missing(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w)
        status = await trained(w, cluster)
        assert status.evaluation.roles is None
        assert accuracy(status, "ensemble") < 0.7
        reply = await w.predict(cluster, BTC, aggregation="ensemble")
        assert reply.stacker == "fallback"
        assert any("without a trained aggregator" in text for text in reply.warnings)


async def test_it_answers_with_the_same_bytes_after_a_restart(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        before = await trained(w, cluster)
        told = await w.predict(cluster, BTC, aggregation="ensemble")
    async with world(tmp_path) as w:
        reply = await w.predict(cluster, BTC, aggregation="ensemble")
        for _ in range(20):  # workers come back first, and answer without waiting for an aggregator
            if reply.stacker == "net" and reply.nodes_used == 4:
                break
            await w.until(cluster, lambda s: s.active_nodes == s.total_nodes)
            reply = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (reply.stacker, reply.bundle_sha) == ("net", told.bundle_sha)
        assert reply.prediction == told.prediction
        after = await w.status(cluster)
        learnt = [status.learnt["aggregator-0"] for status in (before, after)]
        assert learnt[0] == learnt[1]
        entries = (await w.stored()).ledgers[cluster]
        (bundled,) = [e for e in entries if "roles" in e]
        assert bundled["roles"] == {"aggregator-0": learnt[0]["digest"]}


async def test_a_dead_aggregator_leaves_the_weighted_mean_and_its_replacement_has_its_network(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        await trained(w, cluster)
        told = await w.predict(cluster, BTC, aggregation="ensemble")
        weighted = await w.predict(cluster, BTC, aggregation="weighted")
        w.kill("aggregator-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        alone = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (alone.stacker, alone.nodes_used) == ("fallback", 4)
        assert alone.prediction == pytest.approx(weighted.prediction)
        assert any("no aggregator answered (aggregator-0:" in text for text in alone.warnings)
        back = await w.deploy(cluster, "aggregator", layers=None)
        assert back.replaces is not None
        assert back.synced_version == told.model_version
        again = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (again.stacker, again.prediction) == ("net", told.prediction)


async def test_of_two_aggregators_each_learns_from_rows_of_its_own_and_their_mean_answers(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator", "aggregator")
        status = await trained(w, cluster)
        one, other = (status.learnt[f"aggregator-{k}"] for k in (0, 1))
        assert one["digest"] != other["digest"]
        both = await w.predict(cluster, BTC, aggregation="ensemble")
        w.kill("aggregator-1")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        half = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (half.stacker, half.prediction) != ("fallback", both.prediction)


async def test_shuffled_labels_leave_it_at_chance_and_unused(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        status = await trained(w, cluster, opposed(shuffled=True))
        assert status.evaluation.roles["stacker"]["state"] == "fallback"
        low, high = status.evaluation.accuracy_interval
        width = high - low
        assert abs(accuracy(status, "ensemble") - 0.5) < width
        reply = await w.predict(cluster, BTC, aggregation="ensemble")
        assert reply.stacker == "fallback"
        assert any("goes without the aggregators (not better" in t for t in reply.warnings)


async def test_where_nodes_may_lie_it_stays_inside_what_honest_workers_say(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator", consensus="byzantine")
        await trained(w, cluster)
        for record in (BTC, ETH):
            reply = await w.predict(cluster, record, aggregation="ensemble")
            said = sorted(reply.node_predictions.values())
            assert said[1] - 1e-9 <= reply.raw_prediction <= said[-2] + 1e-9


@pytest.mark.parametrize(("task", "outputs"), [("multiclass", 3), ("regression", 1)])
async def test_classes_and_values_are_combined_too(tmp_path, task, outputs):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, outputs=outputs)
        layers = (
            {"type": "dense", "units": 32, "activation": "relu"},
            {"type": "dense", "units": outputs},
        )
        await w.deploy(cluster, "aggregator", layers=layers)
        status = await trained(w, cluster, opposed(task=task))
        assert status.evaluation.roles["stacker"]["state"] == "net"
        modes = status.evaluation.by_aggregation
        if task == "regression":
            assert modes["ensemble"]["rmse"] < 0.8 * modes["weighted"]["rmse"]
        else:
            assert modes["ensemble"]["accuracy"] > modes["weighted"]["accuracy"] + 0.1
        reply = await w.predict(cluster, BTC, aggregation="ensemble")
        assert reply.stacker == "net"


async def test_a_version_put_in_force_again_brings_its_own_aggregators_networks_with_it(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        first = await trained(w, cluster)
        told = await w.predict(cluster, BTC, aggregation="ensemble")
        second = await trained(w, cluster, learning_rate=0.05)
        assert second.learnt != first.learnt
        request = InitRequest(restore=cluster, version=first.model_version)
        await w.engine.init_cluster(request)
        again = await w.predict(cluster, BTC, aggregation="ensemble")
        assert (again.stacker, again.prediction) == ("net", told.prediction)
        assert (await w.status(cluster)).learnt == first.learnt


async def test_a_file_is_combined_by_the_aggregator_of_its_version_though_another_is_committed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(predict_file, "rows_per_batch", lambda _: 50)
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "in.csv").open("w") as file:
        csv.writer(file).writerows(
            [("symbol", "a", "b"), *(r[:3] for r in opposed(200, 9)["rows"])]
        )
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        await trained(w, cluster)

        async def predicted(name):
            made = {"input_path": "in.csv", "output_path": name, "aggregation": "ensemble"}
            reply = await w.engine.predict(PredictRequest(cluster_id=cluster, **made), None)
            assert (reply.stacker, reply.calibrated) == ("net", True)
            return (tmp_path / "data" / name).read_text()

        plain, ask, asked = await predicted("plain.csv"), PinnedVersion.ask, []

        async def ask_and_train(self, *arguments):
            asked.append(1)
            if len(asked) == 3:
                await trained(w, cluster, epochs=1)
            return await ask(self, *arguments)

        monkeypatch.setattr(PinnedVersion, "ask", ask_and_train)
        assert await predicted("disturbed.csv") == plain
