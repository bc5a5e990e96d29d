"""The commands for people: `clusters` and `doctor`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flow_nexus_neural.__main__ import main
from tests.doubles.held_server import COMMAND, ROOT, held_after
from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end
from tests.doubles.stdio_client import ServerProcess

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux"),
]


def command(state: Path) -> list[str]:
    return [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(state)]


LAYERS = [{"type": "dense", "units": 4, "activation": "relu"}]


def files_of(state: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def run(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_to_end(
        [*command(state), *words],
        cwd=state.parent,
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As `run`, in this process: the status and what was written."""

    def call(state: Path, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [*command(state)[2:], *words])
        status = main()
        return status, *capsys.readouterr()

    return call


def test_stored_clusters_are_listed_shown_and_removed_but_not_removed_while_a_server_has_them(
    tmp_path: Path, told
):
    state = tmp_path / "state"
    assert "no clusters" in told(state, "clusters", "list")[1]
    with ServerProcess(command(state), tmp_path, tmp_path / "stderr") as server:
        server.client.initialize()
        cluster_id = server.client.result("neural_cluster_init", {"name": "kept"})["id"]
        refused = run(state, "clusters", "remove", cluster_id)
        assert refused.returncode == 1
        assert refused.stdout == ""
        assert "state_dir_locked: " in refused.stderr
        assert "Traceback" not in refused.stderr
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
    listed = run(state, "clusters", "list")
    assert listed.returncode == 0
    assert cluster_id in listed.stdout
    assert "kept" in listed.stdout
    shown = json.loads(told(state, "clusters", "show", "kept")[1])
    assert (shown["id"], shown["total_nodes"]) == (cluster_id, 0)
    assert "Cluster kept terminated" in run(state, "clusters", "remove", cluster_id).stdout
    assert "terminated" in told(state, "clusters", "list")[1]
    status, _, failure = told(state, "clusters", "show", "nothing")
    assert status == 1
    assert failure.startswith("flow-nexus-neural: cluster_not_found: ")


def test_clusters_are_listed_and_shown_while_a_server_trains_them_and_are_stopped_after_it(
    tmp_path: Path, told, monkeypatch: pytest.MonkeyPatch
):
    state = tmp_path / "state"
    serving = [*COMMAND, "--state-dir", str(state)]
    with (
        held_after(tmp_path, 3, monkeypatch) as go_on,
        ServerProcess(serving, ROOT, tmp_path / "stderr") as server,
    ):
        server.client.initialize()
        call = server.client.result
        cluster_id = call("neural_cluster_init", {"name": "busy", "daaEnabled": False})["id"]
        call("neural_node_deploy", {"cluster_id": cluster_id, "layers": LAYERS, "count": 2})
        training = {"cluster_id": cluster_id, "dataset": "synthetic:xor", "epochs": 1000}
        training_id = call("neural_train_distributed", {**training, "federated": True})["id"]
        listed = run(state, "clusters", "list")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert re.match(rf"{cluster_id}  running +\S+  busy\n", listed.stdout)
        shown = json.loads(told(state, "clusters", "show", "busy")[1])
        assert (shown["status"], shown["training_status"]) == ("running", "running")
        assert {node["status"] for node in shown["nodes"]} == {"unknown"}
        assert (shown["total_nodes"], shown["active_nodes"]) == (2, None)
        assert any("process " in line for line in shown["warnings"])
        # The server was not disturbed: nothing was interrupted, and it goes on to commit.
        live = call("neural_cluster_status", {"cluster_id": cluster_id, "detail": "full"})
        assert (live["training_status"], live["active_nodes"]) == ("running", 2)
        go_on()
        waited = {"cluster_id": cluster_id, "wait_seconds": 5}
        while call("neural_cluster_status", waited)["training"]["current_round"] <= 3:
            pass
        call("neural_cluster_terminate", {"cluster_id": cluster_id, "training_id": training_id})
        assert call(
            "neural_predict_distributed", {"cluster_id": cluster_id, "input_data": [[0, 1]]}
        )
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
    before = files_of(state)
    assert re.match(rf"{cluster_id}  stopped +\S+  busy\n", told(state, "clusters", "list")[1])
    shown = json.loads(run(state, "clusters", "show", cluster_id).stdout)
    assert (shown["status"], shown["training_status"]) == ("stopped", "stopped")
    assert {node["status"] for node in shown["nodes"]} == {"stopped"}
    assert shown["model_version"] >= 1
    assert files_of(state) == before, "looking changes nothing"


@pytest.mark.parametrize("words", [["clusters", "list"], ["--help"]])
def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path, words: list[str]):
    with (tmp_path / "stderr").open("wb") as stderr:
        program = subprocess.Popen(
            [*command(tmp_path / "state"), *words],
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=tmp_path,
        )
        assert program.stdout is not None
        program.stdout.close()  # before it can have written anything
        assert program.wait(HANG_S) in (0, 1)  # the parser of the command line hides that it failed
    assert (tmp_path / "stderr").read_text() == ""


def test_the_doctor_trains_on_a_node_and_leaves_the_state_directory_alone(tmp_path: Path):
    state = tmp_path / "state"
    done = run(state, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if " " in line)
    assert lines["torch"].startswith("2.")
    assert "pid" in lines["node"]
    before, after = lines["training"].split("weights ")[1].split(" -> ")
    assert before != after
    assert lines["ok"].startswith("a node was started")
    assert not state.exists()


def test_the_doctor_says_what_is_wrong(tmp_path: Path):
    done = run(tmp_path / "state", "--node-ready-timeout-s", "0.0001", "doctor")
    assert done.returncode == 1
    assert "FAILED       node_start_failed: " in done.stdout
    assert "Traceback" not in done.stdout
