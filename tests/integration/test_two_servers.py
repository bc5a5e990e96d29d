"""Two applications with one configuration: both work, and neither touches what the other has."""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux")

LAYERS = [{"type": "dense", "units": 4, "activation": "relu"}]


def application(folder: Path, number: int, *flags: str) -> ServerProcess:
    """A server as a host starts it, in the home of one user."""
    home = [f"HOME={folder}", f"XDG_STATE_HOME={folder / 'state'}"]
    command = ["env", *home, sys.executable, "-m", "flow_nexus_neural", *flags]
    return ServerProcess(command, folder, folder / f"stderr{number}")


def built(server: ServerProcess, name: str) -> dict[str, Any]:
    call = server.client.result
    made = call("neural_cluster_init", {"name": name})
    call("neural_node_deploy", {"cluster_id": made["id"], "layers": LAYERS, "count": 2})
    training = {"cluster_id": made["id"], "dataset": "synthetic:xor#rows=80", "epochs": 1}
    call("neural_train_distributed", training)
    status = {"cluster_id": made["id"], "wait_seconds": 25, "until": "done"}
    while call("neural_cluster_status", status)["training_status"] == "running":
        pass
    predicted = {"cluster_id": made["id"], "input_data": [[0, 1]], "deadline_ms": 20_000}
    assert call("neural_predict_distributed", predicted)["nodes_used"] == 2
    return made


def test_two_applications_with_one_configuration_both_build_train_and_predict(tmp_path: Path):
    with application(tmp_path, 1) as first, application(tmp_path, 2) as second:
        for server in (first, second):
            server.client.initialize()
        assert built(first, "mine")["warnings"] == []
        (notice,) = built(second, "yours")["warnings"]
        assert f"in {tmp_path}/state/flow-nexus-neural-2;" in notice
        for server, name in ((first, "mine"), (second, "yours")):
            lines = server.client.result("neural_cluster_list", {})["clusters"]
            assert [line["name"] for line in lines] == [name]
            server.process.stdin.close()
            assert server.process.wait(HANG_S) == 0
    assert notice in (tmp_path / "stderr2").read_text()
    assert (tmp_path / "stderr1").read_text() == ""


def of_schema(server: ServerProcess, tool: str, result: dict[str, Any]) -> dict[str, Any]:
    """A result, which must be as the tool list publishes it."""
    listed = server.client.request("tools/list", {})["result"]["tools"]
    (schema,) = (one["outputSchema"] for one in listed if one["name"] == tool)
    jsonschema.validate(result, schema)
    return result


def test_one_directory_that_both_were_given_is_read_by_the_second_and_changed_by_the_first_alone(
    tmp_path: Path,
):
    flags = ("--state-dir", str(tmp_path / "chosen"))
    with application(tmp_path, 1, *flags) as first, application(tmp_path, 2, *flags) as second:
        for server in (first, second):
            server.client.initialize()
        made = built(first, "mine")
        call = second.client.result

        listed = of_schema(second, "neural_cluster_list", call("neural_cluster_list", {}))
        (line,) = listed["clusters"]
        assert (line["name"], line["status"], line["total_nodes"]) == ("mine", "running", 2)
        assert (line["active_nodes"], line["training_status"]) == (None, None)
        assert f"process {first.process.pid} has these clusters" in listed["warnings"][-1]

        asked = {"cluster_id": made["id"]}
        for detail in ("summary", "nodes", "full", "versions"):
            result = call("neural_cluster_status", {**asked, "detail": detail})
            status = of_schema(second, "neural_cluster_status", result)
            assert (status["status"], status["training_status"]) == ("running", "completed")
            assert (status["active_nodes"], status["guarantees"], status["uptime"]) == (None,) * 3
            assert status["latency"] == dict.fromkeys(("p50", "p95", "p99", "n"))
            assert f"process {first.process.pid} serves this cluster" in status["warnings"][-1]
        mine = first.client.result("neural_cluster_status", asked)
        for known in ("global_accuracy", "model_version", "total_nodes"):
            assert status[known] == mine[known] is not None
        seen = call("neural_cluster_view", asked)
        assert "as it is stored, with 2 nodes" in seen["summary"]
        assert call("neural_cluster_status", {**asked, "wait_seconds": 1})["timed_out"] is True

        for tool, more in (
            ("neural_cluster_init", {"name": "yours"}),
            ("neural_node_deploy", asked),
            ("neural_cluster_connect", asked),
            ("neural_train_distributed", {**asked, "dataset": "synthetic:xor"}),
            ("neural_predict_distributed", {**asked, "input_data": [[0, 1]]}),
            ("neural_cluster_terminate", asked),
        ):
            refused = second.client.call(tool, more)
            assert refused["isError"] is True
            told = refused["content"][0]["text"]
            assert told.startswith("state_dir_locked: ")
            assert f"process {first.process.pid}" in told
            assert "another --state-dir" in told
        unknown = second.client.call("neural_cluster_status", {"cluster_id": "dnc_nothing"})
        assert unknown["content"][0]["text"].startswith("cluster_not_found: ")

        first.process.stdin.close()
        assert first.process.wait(HANG_S) == 0
        predicted = {**asked, "input_data": [[0, 1]], "deadline_ms": 5000}
        assert call("neural_predict_distributed", predicted)["nodes_used"] >= 1
        assert call("neural_cluster_status", asked)["guarantees"] is not None
