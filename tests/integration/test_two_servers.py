"""Two applications with one configuration: both work, and neither touches what the other has."""

import sys
from pathlib import Path
from typing import Any

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


def test_one_directory_that_both_were_given_is_refused_to_the_second_with_the_reason(
    tmp_path: Path,
):
    flags = ("--state-dir", str(tmp_path / "chosen"))
    with application(tmp_path, 1, *flags) as first, application(tmp_path, 2, *flags) as second:
        for server in (first, second):
            server.client.initialize()
        first.client.result("neural_cluster_init", {"name": "mine"})
        refused = second.client.call("neural_cluster_init", {"name": "yours"})
        assert refused["isError"] is True
        assert refused["content"][0]["text"].startswith("state_dir_locked: ")
