"""A terminated cluster comes back over standard streams, from a server that was started anew."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux")

LAYERS = [{"type": "dense", "units": 6, "activation": "tanh"}]
RECORDS = [{"x0": 0.2, "x1": 0.9}, {"x0": 0.8, "x1": 0.7}, {"x1": 0.1}]
ANSWER = ("predictions", "confidences", "decision", "consensus", "model_version", "bundle_sha")


def serving(folder: Path) -> ServerProcess:
    command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(folder / "state")]
    return ServerProcess(command, folder, folder / "stderr")


def predicted(server: ServerProcess, cluster_id: str) -> dict[str, Any]:
    asked = {"cluster_id": cluster_id, "input_data": RECORDS, "deadline_ms": 20_000}
    answer = server.client.result("neural_predict_distributed", asked)
    return {name: answer[name] for name in ANSWER}


def test_a_terminated_cluster_comes_back_after_a_restart_with_the_same_answers(tmp_path: Path):
    with serving(tmp_path) as server:
        server.client.initialize()
        call = server.client.result
        cluster_id = call("neural_cluster_init", {"name": "xor", "seed": 7})["id"]
        call("neural_node_deploy", {"cluster_id": cluster_id, "layers": LAYERS, "count": 2})
        call("neural_cluster_connect", {"cluster_id": cluster_id})
        asked = {"cluster_id": cluster_id, "dataset": "synthetic:xor", "epochs": 3}
        call("neural_train_distributed", asked)
        status = {"training_status": "running"}
        while status["training_status"] == "running":
            wait = {"cluster_id": cluster_id, "wait_seconds": 20, "until": "done"}
            status = call("neural_cluster_status", wait)
        before = predicted(server, cluster_id)
        ended = call("neural_cluster_terminate", {"cluster_id": cluster_id})
        assert f"neural_cluster_init (restore '{cluster_id}')" in ended["warnings"][0]
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
    with serving(tmp_path) as server:
        server.client.initialize()
        call = server.client.result
        (line,) = call("neural_cluster_list", {"include_ended": True})["clusters"]
        assert (line["status"], line["restorable"]) == ("terminated", True)
        back = call("neural_cluster_init", {"restore": "xor"})
        assert (back["id"], back["restored"]["healthy_nodes"]) == (cluster_id, 2)
        assert predicted(server, cluster_id) == before
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
