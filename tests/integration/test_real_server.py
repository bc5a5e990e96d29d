"""The product itself over standard streams: the whole path, and wrong calls of every kind, in both eras."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from tests.doubles.engine_double import CLUSTER
from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import META, ServerProcess
from tests.integration.test_malformed_calls import TABLE

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux"),
]

ERROR_FORM = re.compile(r"^[a-z_]+: .+\. .+")
LAYERS = [{"type": "dense", "units": 16, "activation": "tanh"}]


@dataclass
class Real:
    server: ServerProcess
    more: dict[str, Any]
    schemas: dict[str, Any]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.server.client.call(tool, arguments, **self.more)

    def result(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call, and hold the result against the published schema."""
        result = self.server.client.result(tool, arguments, **self.more)
        jsonschema.validate(result, self.schemas[tool], cls=jsonschema.Draft202012Validator)
        return result

    def error(self, tool: str, **arguments: Any) -> str:
        answer = self.call(tool, **arguments)
        assert answer.get("isError"), f"{tool} {arguments} -> {str(answer)[:500]}"
        assert "structuredContent" not in answer
        (block,) = answer["content"]
        text = block["text"]
        assert ERROR_FORM.match(text), text
        assert len(text) < 1000
        assert not text.startswith("internal_error"), f"{tool} {arguments} -> {text}"
        return text


@pytest.fixture(scope="module", params=["2025-11-25", "2026-07-28"])
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("real")
    command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(folder / "state")]
    with ServerProcess(command, folder, folder / "stderr") as server:
        more: dict[str, Any] = {}
        if request.param == "2025-11-25":
            server.client.initialize()
        else:
            more = {"_meta": META}
        tools = server.client.request("tools/list", more)["result"]["tools"]
        yield Real(server, more, {tool["name"]: tool.get("outputSchema") for tool in tools})
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0


@pytest.fixture(scope="module")
def trained(real: Real) -> str:
    """A cluster of two workers that has learnt XOR."""
    # Tests count its rounds, which autonomy might end.
    made = real.result("neural_cluster_init", name="xor", seed=7, daaEnabled=False)
    cluster_id = made["id"]
    for _ in range(2):
        node = real.result("neural_node_deploy", cluster_id=cluster_id, layers=LAYERS)
        assert node["healthy"]
    assert real.result("neural_cluster_connect", cluster_id="xor")["connections"] == 1
    training = real.result(
        "neural_train_distributed",
        clusterId=cluster_id,
        dataset="synthetic:xor",
        federated="true",
        rounds=20,
        learning_rate=0.02,
    )
    assert training["dataset_info"]["synthetic"] is True
    status: dict[str, Any] = {"training_status": "running"}
    while status["training_status"] == "running":
        status = real.result(
            "neural_cluster_status", cluster_id=cluster_id, wait_seconds=20, until="done"
        )
    assert status["training_error"] is None
    return cluster_id


def test_a_trained_cluster_shows_evidence_and_beats_the_baseline(real: Real, trained: str):
    status = real.result("neural_cluster_status", cluster_id=trained, detail="full")
    evidence = status["training"]["evidence"]
    assert status["training_progress"] == 100
    assert evidence["steps"] > 0
    assert evidence["weights_digest_before"] != evidence["weights_digest_after"]
    assert status["global_accuracy"] > status["evaluation"]["baseline_accuracy"] + 0.2
    assert len(status["history"]) == 20


def test_a_prediction_follows_its_input(real: Real, trained: str):
    def predict(x0: float, x1: float) -> float:
        record = {"x0": x0, "x1": x1}
        return real.result("neural_predict_distributed", cluster_id=trained, input_data=record)[
            "prediction"
        ]

    values = [predict(0.0, 0.0), predict(0.0, 1.0), predict(1.0, 0.0), predict(1.0, 1.0)]
    assert len(set(values)) > 1
    text = json.dumps([{"x0": 0.0, "x1": 0.0}, {"x0": 0.0, "x1": 1.0}])
    batch = real.result("neural_predict_distributed", cluster_id=trained, input_data=text)
    assert batch["prediction"] is None
    assert batch["predictions"] == pytest.approx(values[:2], rel=1e-5)


def test_a_client_that_asks_for_progress_hears_of_rounds(real: Real):
    cluster_id = real.result("neural_cluster_init", name="long", daaEnabled=False)["id"]
    real.result("neural_node_deploy", cluster_id=cluster_id, layers=LAYERS)
    started = len(real.server.client.lines)
    training = real.result(
        "neural_train_distributed",
        cluster_id=cluster_id,
        dataset="synthetic:xor",
        federated=True,
        rounds=1000,
        patience=0,
    )
    arguments = {"cluster_id": cluster_id, "wait_seconds": 2, "until": "done"}
    meta = {**real.more.get("_meta", {}), "progressToken": "p1"}
    progress: list[dict[str, Any]] = []
    while not progress:
        answer = real.server.client.result("neural_cluster_status", arguments, _meta=meta)
        assert answer["training_status"] == "running"
        heard = [json.loads(line) for line in real.server.client.lines[started:]]
        progress = [one["params"] for one in heard if one.get("method") == "notifications/progress"]
    real.result("neural_cluster_terminate", cluster_id=cluster_id, training_id=training["id"])
    assert all(one["progressToken"] == "p1" and "round" in one["message"] for one in progress)
    done = [one["progress"] for one in progress]
    assert done == sorted(set(done))


def test_no_malformed_call_reaches_or_harms_the_real_engine(real: Real, trained: str):
    for number, (tool, arguments) in enumerate(TABLE):
        sent = {name: trained if value == CLUSTER else value for name, value in arguments.items()}
        if any(isinstance(value, int) and abs(value) > 2**60 for value in sent.values()):
            continue  # JSON of such a number is the double's business
        real.error(tool, **sent)
        if number % 100 == 0:
            status = real.result("neural_cluster_status", cluster_id=trained)
            assert (status["active_nodes"], status["training_status"]) == (2, "completed")


ENGINE_REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("neural_cluster_status", {"cluster_id": "dnc_ffffffffffff"}, "cluster_not_found"),
    ("neural_cluster_status", {"cluster_id": ""}, "cluster_not_found"),
    ("neural_cluster_status", {"cluster_id": "x" * 2000}, "cluster_not_found"),
    ("neural_cluster_status", {"cluster_id": "\u202e\n\0"}, "cluster_not_found"),
    ("neural_cluster_status", {"training_id": "trn_nope"}, "training_not_found"),
    ("neural_cluster_terminate", {"training_id": "trn_nope"}, "training_not_found"),
    ("neural_cluster_terminate", {"cluster_id": "nope"}, "cluster_not_found"),
    ("neural_node_deploy", {"layers": []}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{}]}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{"type": "attentoin"}]}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{"type": "lstm"}]}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{"type": "dense", "unit": 3}]}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{"type": "dense", "units": 0}]}, "invalid_architecture"),
    (
        "neural_node_deploy",
        {"layers": [{"type": "dense", "units": "many"}]},
        "invalid_architecture",
    ),
    ("neural_node_deploy", {"layers": [{"type": "lambda", "code": "1"}]}, "invalid_architecture"),
    ("neural_node_deploy", {"layers": [{"type": "dense", "units": 1}] * 65}, ""),
    ("neural_node_deploy", {"model": "custom"}, "unsupported_combination"),
    ("neural_node_deploy", {"replace_node_id": "worker-9"}, "node_not_found"),
    ("neural_node_deploy", {"replace_node_id": "worker-0"}, ""),
    ("neural_train_distributed", {"dataset": "no such data"}, "dataset_not_found"),
    ("neural_train_distributed", {"dataset": ""}, ""),
    ("neural_train_distributed", {"dataset": "../../etc/passwd"}, ""),
    ("neural_train_distributed", {"dataset": "/etc/passwd"}, "path_not_allowed"),
    ("neural_train_distributed", {"dataset": "file:///etc/passwd"}, "path_not_allowed"),
    ("neural_train_distributed", {"dataset": "hf:imdb"}, "source_unavailable"),
    ("neural_train_distributed", {"dataset": "https://example.com/a.csv"}, "source_unavailable"),
    ("neural_train_distributed", {"dataset": "{"}, ""),
    ("neural_train_distributed", {"dataset": "[]"}, ""),
    ("neural_train_distributed", {"dataset": {}}, ""),
    ("neural_train_distributed", {"dataset": [1, 2, 3]}, ""),
    (
        "neural_train_distributed",
        {"dataset": {"data": [[1], [2]], "labels": [0, 1]}},
        "data_too_small",
    ),
    (
        "neural_train_distributed",
        {"dataset": {"data": [[i] for i in range(40)]}},
        "invalid_dataset",
    ),
    (
        "neural_train_distributed",
        {"dataset": {"data": [[i] for i in range(40)], "labels": [0] * 40}},
        "invalid_dataset",
    ),
    ("neural_train_distributed", {"target": "no such column"}, ""),
    ("neural_train_distributed", {"features": ["no such column"]}, ""),
    ("neural_train_distributed", {"rounds": 5}, "invalid_arguments"),
    ("neural_train_distributed", {"federated": True, "clients_per_round": 60}, ""),
    (
        "neural_train_distributed",
        {"federated": True, "aggregation_method": "bucketing"},
        "not_available",
    ),
    ("neural_train_distributed", {"federated": True, "aggregation_method": "nonsense"}, ""),
    ("neural_train_distributed", {"federated": True, "partition": "nonsense"}, ""),
    ("neural_train_distributed", {"features": '["\\ud800"]'}, ""),
    ("neural_train_distributed", {"target": "\u202e"}, ""),
    ("neural_train_distributed", {"dataset": json.dumps([{"\ud800": 1, "y": 0}] * 40)}, ""),
    ("neural_node_deploy", {"layers": '[{"type": "\\ud800"}]'}, "invalid_architecture"),
    ("neural_predict_distributed", {"input_data": '{"\\ud800": 1}'}, "no_known_feature"),
    (
        "neural_predict_distributed",
        {"aggregation": "weighted", "weights": '{"\\ud800": 1}'},
        "",
    ),
    ("neural_predict_distributed", {"input_data": "not json"}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": "{}"}, ""),
    ("neural_predict_distributed", {"input_data": []}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": [1, 2, 3]}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": '{"x0": NaN, "x1": 0}'}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": {"x0": "abc", "x1": 0}}, ""),
    ("neural_predict_distributed", {"input_data": {"nothing": 1}}, "no_known_feature"),
    ("neural_predict_distributed", {"input_data": [{"x0": 1}, 5]}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": [{"x0": 1}] * 1001}, "invalid_record"),
    ("neural_predict_distributed", {"input_data": "[" * 2000 + "]" * 2000}, "invalid_record"),
    ("neural_predict_distributed", {"weights": {"worker-0": 1}}, ""),
    ("neural_predict_distributed", {"aggregation": "weighted", "weights": {"worker-9": 1}}, ""),
    ("neural_predict_distributed", {"aggregation": "weighted", "weights": {"worker-0": 0}}, ""),
]


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    ENGINE_REFUSALS,
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else None,
)
def test_what_only_the_engine_can_refuse_is_refused_in_the_same_form(
    real: Real, trained: str, tool: str, arguments: dict[str, Any], code: str
):
    needed: dict[str, Any] = {
        "neural_train_distributed": {"dataset": "synthetic:xor"},
        "neural_predict_distributed": {"input_data": {"x0": 1.0, "x1": 0.0}},
    }.get(tool, {})
    text = real.error(tool, **{"cluster_id": trained, **needed, **arguments})
    assert text.startswith(f"{code}: " if code else ""), text


def test_work_on_a_cluster_without_what_it_needs_names_the_next_call(real: Real):
    cluster_id = real.result("neural_cluster_init", name="empty")["id"]
    assert "neural_node_deploy" in real.error(
        "neural_train_distributed", cluster_id=cluster_id, dataset="synthetic:xor"
    )
    assert "neural_node_deploy" in real.error("neural_cluster_connect", cluster_id=cluster_id)
    predict = real.error("neural_predict_distributed", cluster_id=cluster_id, input_data={"x0": 1})
    assert predict.startswith("not_trained: ")
    assert "neural_train_distributed" in predict
    ended = real.result("neural_cluster_terminate", cluster_id=cluster_id)
    assert ended["already_terminated"] is False
    assert (
        real.result("neural_cluster_terminate", cluster_id=cluster_id)["already_terminated"] is True
    )
    text = real.error("neural_node_deploy", cluster_id=cluster_id)
    assert text.startswith("cluster_terminated: ")
