"""What train, status, predict and terminate promise, through the tools: every word and every field.

Nodes are objects in this process; server, engine, data and store are real.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from safetensors import safe_open

from flow_nexus_neural.engine.prediction.predict import deadline_s
from flow_nexus_neural.engine.requests import Aggregation, Optimizer, PredictRequest
from flow_nexus_neural.settings import Settings
from tests.integration.product import Product, product

XOR = "synthetic:xor#rows=80"
MARKET = "crypto_market_historical_data#rows=200"
WIDE = [{"type": "dense", "units": 9, "activation": "relu"}]


async def learnt(it: Product, dataset: Any = XOR, **more: Any) -> str:
    """A cluster of two workers with unlike networks, and what they learnt."""
    cluster_id = await it.cluster(1)
    await it.result("node_deploy", cluster_id=cluster_id, layers=WIDE)
    call = {"cluster_id": cluster_id, "dataset": dataset, "epochs": 1, "federated": True, **more}
    await it.result("train_distributed", **call)
    assert (await it.done(cluster_id))["training_status"] == "completed"
    return cluster_id


async def test_a_training_says_what_is_really_run_on_which_data(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(3)
        made = await it.result(
            "train_distributed",
            cluster_id=cluster_id,
            dataset=MARKET,
            epochs=50,
            rounds=2,
            batch_size=16,
            learning_rate=0.002,
            optimizer="adam",
            federated=True,
            local_epochs=2,
            clients_per_round=2,
            min_nodes_per_round=1,
            aggregation_method="federated_averaging",
            partition="iid",
            seed=77,
        )
        assert made["config"] == {
            "epochs": 2,
            "rounds": 2,
            "batch_size": 16,
            "learning_rate": 0.002,
            "optimizer": "adam",
            "federated": True,
            "local_epochs": 2,
            "clients_per_round": 2,
            "min_nodes_per_round": 1,
            "aggregation_method": "federated_averaging",
            "partition": "iid",
            "seed": 77,
            "strategy": "federated",
            "strategy_reason": "federated is true",
            "proximal_mu": None,
            "server_learning_rate": None,
            "server_momentum": None,
            "sync_every_steps": None,
            "class_weight": None,
            "threshold": 0.5,
            "positive_class": 1,
            "patience": 0,
            "chosen": [],
            "privacy": None,
            "secure_aggregation": False,
            "refit": True,
            "byzantine_f": 0,
        }
        assert (made["status"], made["nodes_training"]) == ("running", 3)
        status = await it.result("cluster_status", cluster_id=cluster_id)
        assert made["participating_nodes"] == [node["id"] for node in status["nodes"]]
        assert (made["epochs"], made["total_epochs"], made["total_rounds"]) == (2, 2, 2)
        assert re.fullmatch(r"trn_[0-9a-f]{12}", made["training_id"])
        info = made["dataset_info"]
        assert (info["kind"], info["synthetic"], info["task"]) == ("builtin", True, "binary")
        assert (info["rows"], info["target"]) == (400, "next return > 0")
        assert (info["symbols"], info["classes"]) == (["BTC", "ETH"], [0, 1])
        assert sum(info["split"].values()) == 400
        assert {one["name"]: one["reason"] for one in info["excluded_columns"]} == {
            "timestamp": "time",
            "symbol": "routing",
        }
        assert len(info["sha256"]) == 64
        (network,) = made["networks"]
        assert network["slots"] == ["worker-0", "worker-1", "worker-2"]
        assert network["parameters"] == 6 * 54 + 7
        assert (network["input"], network["implied_head"]) == ([53], True)
        assert made["poll_after_ms"] > 0
        assert any("synthetic" in warning for warning in made["warnings"])
        assert (await it.done(cluster_id))["training"]["total_rounds"] == 2


async def test_the_arguments_about_the_data_reach_the_data(tmp_path: Path):
    records = [
        {"hour": t, "a": t % 7, "b": (3 * t) % 11, "c": t % 5, "up": (t // 3) % 2}
        for t in range(200)
    ]
    async with product(tmp_path) as it:
        made = await it.result(
            "train_distributed",
            cluster_id=await it.cluster(1),
            dataset=json.dumps(records),
            target="up",
            time_column="hour",
            features=["a", "c"],
            window=4,
            horizon=2,
            test_size=40,
            validation_size=0.2,
            folds=3,
            epochs=1,
        )
        info = made["dataset_info"]
        assert (info["kind"], info["synthetic"], info["target"][:2]) == ("inline", False, "up")
        assert info["columns"] == ["a", "c"]
        assert {"name": "hour", "reason": "time"} in info["excluded_columns"]
        assert info["rows"] == 200 - 2
        gap = 2 + 4 - 1
        assert info["split"]["purged"] == 2 * gap
        assert info["split"]["test"] == 40 - 3  # rows that begin a window of 4 end none
        assert info["split"]["select"] == 40 - gap - 3
        assert info["split"]["train"] == 198 - 40 - 40 - gap - 3
        assert made["networks"][0]["input"] == [8]


async def test_columns_are_excluded_and_the_task_is_said_in_the_call(tmp_path: Path):
    records = [{"a": t % 7, "leak": t % 5, "grade": t % 5} for t in range(60)]
    async with product(tmp_path) as it:
        made = await it.result(
            "train_distributed",
            cluster_id=await it.cluster(1),
            dataset=json.dumps(records),
            target="grade",
            exclude=["leak"],
            task="regression",
            epochs=1,
        )
        info = made["dataset_info"]
        assert (info["columns"], info["task"], info["classes"]) == (["a"], "regression", None)
        assert info["excluded_columns"] == [{"name": "leak", "reason": "in exclude"}]


async def test_classes_are_weighed_and_decided_as_the_call_says(tmp_path: Path):
    records = [
        {"a": t % 7, "b": (3 * t) % 11, "ill": "yes" if t % 6 == 0 else "no"} for t in range(120)
    ]
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(1)
        call = {
            "cluster_id": cluster_id,
            "dataset": json.dumps(records),
            "target": "ill",
            "epochs": 1,
        }
        made = await it.result(
            "train_distributed",
            **call,
            class_weight='{"yes": 3}',
            positiveClass="no",
            threshold="0.6",
        )
        config = made["config"]
        assert config["class_weight"] == {"yes": 3.0, "no": 1.0}
        assert (config["threshold"], config["positive_class"]) == (0.6, "no")
        assert made["dataset_info"]["classes"] == ["yes", "no"]
        evaluation = (await it.done(cluster_id))["evaluation"]
        assert (evaluation["threshold"], evaluation["positive_class"]) == (0.6, "no")
        assert [one["label"] for one in evaluation["per_class"]] == ["yes", "no"]
        asked = {"cluster_id": cluster_id, "input_data": {"a": 3, "b": 4}}
        answer = await it.result("predict_distributed", **asked)
        decided = ["no" if answer["prediction"] >= 0.6 else "yes"]
        assert (answer["threshold"], answer["positive_class"]) == (0.6, "no")
        assert answer["decision"] == decided
        other = answer["prediction"] + (0.05 if decided == ["no"] else -0.05)
        moved = await it.result("predict_distributed", **asked, threshold=other)
        assert moved["decision"] != decided
        assert moved["prediction"] == answer["prediction"]
        refused = await it.error("train_distributed", **call, class_weight={"maybe": 3})
        assert "'maybe' is no class of target 'ill'" in refused
        assert "Its classes are 'no', 'yes'" in refused


async def test_a_training_of_a_cluster_that_was_never_connected_connects_it(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(2, topology="ring")
        call = {"cluster_id": cluster_id, "dataset": XOR, "epochs": 1}
        assert any(
            "connect" in text for text in (await it.result("train_distributed", **call))["warnings"]
        )
        status = await it.done(cluster_id)
        assert status["features"]["connections_active"] == 1


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
async def test_each_optimiser_trains_and_ends_at_weights_of_its_own(tmp_path: Path, optimizer: str):
    async def end(folder: str, name: str) -> str:
        async with product(tmp_path / folder) as it:
            cluster_id = await it.cluster(1)
            call = {"cluster_id": cluster_id, "dataset": XOR, "epochs": 2, "batch_size": 32}
            call["optimizer"] = name
            made = await it.result("train_distributed", **call)
            assert made["config"]["optimizer"] == name
            evidence = (await it.done(cluster_id))["training"]["evidence"]
            assert evidence["steps"] == 2 * 2
            assert evidence["weights_digest_before"] != evidence["weights_digest_after"]
            return str(evidence["weights_digest_after"])

    other = "sgd" if optimizer != "sgd" else "adam"
    assert await end("one", optimizer) != await end("other", other)
    assert await end("again", optimizer) == await end("once more", optimizer)


async def test_numbers_that_nobody_measured_are_null_and_appear_when_they_are(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(2)
        before = await it.result("cluster_status", cluster_id=cluster_id)
        unknown = ("global_accuracy", "global_loss", "evaluation", "avg_latency", "training")
        unknown += ("model_version", "serving", "dataset_info", "training_error", "poll_after_ms")
        assert {name: before[name] for name in unknown} == dict.fromkeys(unknown)
        assert before["latency"] == {"p50": None, "p95": None, "p99": None, "n": 0}
        assert before["performance"] == {"throughput": None, "latency": None}
        assert (before["training_status"], before["training_progress"]) == ("none", 0)
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR, epochs=2)
        await it.done(cluster_id)
        answer = await it.result(
            "predict_distributed", cluster_id=cluster_id, input_data={"x0": 1.0, "x1": 0.0}
        )
        after = await it.result("cluster_status", cluster_id=cluster_id)
        assert (after["training_status"], after["training_progress"]) == ("completed", 100)
        assert 0 <= after["global_accuracy"] <= 1
        assert after["global_loss"] > 0
        low, high = after["evaluation"]["accuracy_interval"]
        assert low <= after["global_accuracy"] <= high
        assert after["evaluation"]["test_rows"] == 16
        assert after["avg_latency"] > 0
        assert after["latency"]["n"] == 1
        assert after["latency"]["p50"] == after["latency"]["p99"] > 0
        assert after["error_rate"] == 0
        assert after["model_version"] == answer["model_version"] == 2
        assert after["serving"]["bundle_sha"] == answer["bundle_sha"]
        assert after["dataset_info"]["synthetic"] is True


async def test_a_status_counts_nodes_bytes_and_time_without_mixing_units(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(2, federated=True)
        status = await it.result("cluster_status", cluster_id=cluster_id)
        assert (status["active_nodes"], status["total_nodes"], status["failed_nodes"]) == (2, 2, 0)
        parts = dict(status["communication"])
        assert parts.pop("inter_host_bytes") == 0  # counted apart, and all is on one machine here
        assert set(parts) == {"train", "predict", "sync", "consensus", "links"}
        assert sum(parts.values()) == status["communication_bytes"] > 0
        assert status["communication_mb"] == pytest.approx(
            status["communication_bytes"] / 1e6, rel=1e-5
        )
        assert status["uptime"] == f"{status['uptime_seconds']}s"
        assert all(status[name] >= 0 for name in ("uptime_seconds", "error_rate"))
        assert status["features"] == {
            "daa_enabled": False,
            "wasm_enabled": status["wasm"]["active"],
            "nodes_deployed": 2,
            "connections_active": 1,
            "training_sessions": 1,
        }
        for node in status["nodes"]:
            assert (node["status"], node["state"], node["healthy"]) == ("healthy", "healthy", True)
            assert (node["role"], node["type"], node["model_size"]) == ("worker", "worker", "base")
            assert node["last_error"] is None
            assert (node["rounds_done"], node["incarnation"]) == (1, 1)
            assert node["rows"] > 0
            assert node["parameters"] == 6 * 3 + 7


async def test_each_detail_of_a_status_shows_its_part(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(2, epochs=3)
        summary, usual, full = [
            await it.result("cluster_status", cluster_id=cluster_id, detail=detail)
            for detail in ("summary", "nodes", "full")
        ]
        assert (summary["nodes"], summary["history"], summary["total_nodes"]) == ([], [], 2)
        assert (len(usual["nodes"]), usual["history"], usual["training_sessions"]) == (2, [], [])
        assert usual == await it.result("cluster_status", cluster_id=cluster_id) | {
            name: usual[name]
            for name in ("uptime", "uptime_seconds", "memory_bytes", "memory_usage")
        }
        assert [point["round"] for point in full["history"]] == [1, 2, 3]
        (session,) = full["training_sessions"]
        assert (session["status"], session["rounds_done"]) == ("completed", 3)
        verbose = await it.result("cluster_status", cluster_id=cluster_id, verbose=True)
        assert verbose["history"] == full["history"]


async def test_an_earlier_training_can_be_asked_for_by_its_id(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(1, epochs=2)
        first = (await it.result("cluster_status", cluster_id=cluster_id))["training"]
        assert first["served_round"] == 2
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR, epochs=1)
        latest = (await it.done(cluster_id))["training"]
        assert latest["training_id"] != first["training_id"]
        # Its numbers are its own still; the weights that answer are those of the latest training.
        earlier = first | {"served_round": None}
        assert latest["served_round"] == 1
        for name in ("training_id", "session_id", "job_id"):
            asked = {"cluster_id": cluster_id, name: first["training_id"]}
            assert (await it.result("cluster_status", **asked))["training"] == earlier


async def test_a_wait_for_a_change_ends_with_a_round_and_one_for_the_end_with_the_training(
    tmp_path: Path,
):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(1)
        idle = await it.result("cluster_status", cluster_id=cluster_id, wait_seconds=0.01)
        assert (idle["timed_out"], idle["changed"]) == (True, False)
        await it.result("train_distributed", cluster_id=cluster_id, dataset=XOR, epochs=60)
        asked = {"cluster_id": cluster_id, "wait_seconds": 20}
        seen = await it.result("cluster_status", **asked, until="change")
        assert (seen["changed"], seen["timed_out"]) == (True, False)
        assert (seen["training_status"], seen["poll_after_ms"] > 0) == ("running", True)
        while seen["performance"]["throughput"] is None:  # known once a round was timed
            assert seen["training_status"] == "running"
            seen = await it.result("cluster_status", **asked, until="change")
        assert seen["performance"]["throughput"] > 0
        assert seen["training"]["current_round"] > 0
        end = await it.result("cluster_status", **asked, until="done")
        assert (end["training_status"], end["timed_out"]) == ("completed", False)


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
async def test_each_aggregation_answers_with_every_number_that_clients_read(
    tmp_path: Path, aggregation: str
):
    async with product(tmp_path) as it:
        cluster_id = await learnt(it)
        ask = {"cluster_id": cluster_id, "aggregation": aggregation, "deadline_ms": 5000}
        one = await it.result("predict_distributed", input_data='{"x0": 1, "x1": 0}', **ask)
        assert one["aggregation"] == one["aggregation_method"] == aggregation
        assert one["stacker"] == ("fallback" if aggregation == "ensemble" else None)
        assert 0 < one["prediction"] < 1
        assert one["predictions"] == [one["prediction"]]
        assert 0 < one["confidence"] < 1
        assert one["confidences"] == [one["confidence"]]
        assert 1e-6 <= one["consensus"] <= 1
        assert 1e-6 <= one["node_agreement"] <= 1
        assert (one["nodes_used"], one["nodes_expected"], one["degraded"]) == (2, 2, False)
        assert one["effective_ensemble_size"] == 2
        assert all(isinstance(value, float) for value in one["node_predictions"].values())
        slots = {each["slot"]: each["node_id"] for each in one["individual_predictions"]}
        assert set(slots) == {"worker-0", "worker-1"}
        assert set(one["node_predictions"]) == set(slots.values())
        assert (one["task"], one["classes"]) == ("binary", [0, 1])
        assert one["synthetic_training_data"] is True
        assert one["confidence_source"] == "margin"
        assert one["latency_ms"] > 0
        several = await it.result(
            "predict_distributed", input_data=[{"x0": 1, "x1": 0}, {"x0": 0, "x1": 0}], **ask
        )
        assert several["prediction"] is several["individual_predictions"] is None
        assert several["predictions"][0] == one["predictions"][0]
        assert {len(values) for values in several["node_predictions"].values()} == {2}
        alone = await it.result("predict_distributed", input_data=[{"x0": 1, "x1": 0}], **ask)
        assert (alone["prediction"], alone["predictions"]) == (None, one["predictions"])


async def test_answers_of_each_node_to_a_large_batch_are_given_when_asked_for(tmp_path: Path):
    async with product(tmp_path) as it:
        call = {
            "cluster_id": await it.trained(5),
            "input_data": [{"x0": 1, "x1": 0}] * 801,
            "deadline_ms": 10_000,
        }
        usual = await it.result("predict_distributed", **call)
        assert (usual["node_predictions"], len(usual["predictions"])) == (None, 801)
        assert any("801 records x 5 nodes" in warning for warning in usual["warnings"])
        full = await it.result("predict_distributed", **call, detail="full")
        assert [len(values) for values in full["node_predictions"].values()] == [801] * 5


def test_the_default_deadline_grows_with_the_records_up_to_a_limit():
    context = SimpleNamespace(settings=Settings(predict_deadline_ms=80))
    request = PredictRequest(cluster_id="c", input_data=[])
    waits = [deadline_s(context, request, rows) for rows in (1, 2, 100, 1000)]
    assert waits == pytest.approx([0.080, 0.085, 0.575, 5.075])
    patient = SimpleNamespace(settings=Settings(predict_deadline_ms=19_000))
    assert deadline_s(patient, request, 1000) == 20.0
    asked = PredictRequest(cluster_id="c", input_data=[], deadline_ms=40)
    assert deadline_s(context, asked, 1000) == 0.04


SHAPES = {
    "live": {
        "symbol": "BTC",
        "price": 50_210.5,
        "volume": 1200.0,
        "timestamp": 1_790_000_000_000,
        "features": [0.5] * 50,
    },
    "calibration": {"features": [0.25] * 10, "expectedOutcome": 1},
    "test data": [
        {"price": 50_000.0 + i, "volume": 900.0, "volatility": 0.05, "trend": (-1) ** i}
        for i in range(100)
    ],
}


async def test_each_record_of_the_document_is_predicted_for_as_json_text(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await learnt(it, MARKET)
        replies = {}
        for name, record in SHAPES.items():
            replies[name] = await it.result(
                "predict_distributed",
                cluster_id=cluster_id,
                input_data=json.dumps(record),
                aggregation="ensemble",
                deadline_ms=20_000,
            )
        assert len(replies["test data"]["predictions"]) == 100
        assert replies["test data"]["input_report"]["rows"] == 100
        assert {len(v) for v in replies["test data"]["node_predictions"].values()} == {100}
        ignored = {
            name: [one["name"] for one in reply["input_report"]["ignored"]]
            for name, reply in replies.items()
        }
        assert ignored == {
            "live": ["timestamp"],
            "calibration": ["expectedOutcome"],
            "test data": ["trend"],
        }
        for name in ("live", "calibration"):
            for field in ("prediction", "confidence", "consensus", "node_agreement"):
                assert 0 < replies[name][field] <= 1
            assert all(0 < value < 1 for value in replies[name]["node_predictions"].values())


async def test_a_terminate_says_what_was_ended_and_what_is_kept(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(2)
        status = await it.result("cluster_status", cluster_id=cluster_id)
        ended = await it.result("cluster_terminate", cluster_id=cluster_id)
        assert (ended["status"], ended["already_terminated"]) == ("terminated", False)
        assert (ended["nodes_terminated"], ended["training_id"]) == (2, None)
        assert ended["message"] == "Cluster c terminated"
        assert ended["checkpoints_kept"] > 0
        (said,) = ended["warnings"]
        assert f"the {ended['checkpoints_kept']} files of its model stay" in said
        assert f"neural_cluster_init (restore '{cluster_id}') brings the cluster back" in said
        headers = [
            json.loads(file.metadata()["flow_nexus_neural"])
            for path in (tmp_path / ended["artifacts_path"]).rglob("*.safetensors")
            if (file := safe_open(path, "numpy")).metadata()
        ]
        assert any(header.get("plan") and header.get("schema") for header in headers)
        final = ended["final_metrics"]
        assert (final["rounds"], final["global_loss"]) == (1, status["global_loss"])
        assert final["global_accuracy"] == status["global_accuracy"]
        assert final["communication_bytes"] >= status["communication_bytes"]
        assert (await it.result("cluster_status", cluster_id=cluster_id))["status"] == "terminated"
        again = await it.result("cluster_terminate", cluster_id=cluster_id, delete_artifacts=True)
        assert again["warnings"] == []
        assert (again["already_terminated"], again["checkpoints_kept"]) == (True, 0)
