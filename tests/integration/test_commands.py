"""The commands for people: `clusters` and `doctor`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end
from tests.doubles.stdio_client import ServerProcess

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux"),
]


def command(state: Path) -> list[str]:
    return [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(state)]


def run(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_to_end(
        [*command(state), *words],
        cwd=state.parent,
    )


def test_stored_clusters_are_listed_shown_and_removed_but_not_while_a_server_has_them(
    tmp_path: Path,
):
    state = tmp_path / "state"
    assert "no clusters" in run(state, "clusters", "list").stdout
    with ServerProcess(command(state), tmp_path, tmp_path / "stderr") as server:
        server.client.initialize()
        cluster_id = server.client.result("neural_cluster_init", {"name": "kept"})["id"]
        refused = run(state, "clusters", "list")
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
    shown = json.loads(run(state, "clusters", "show", "kept").stdout)
    assert (shown["id"], shown["total_nodes"]) == (cluster_id, 0)
    assert "Cluster kept terminated" in run(state, "clusters", "remove", cluster_id).stdout
    assert "terminated" in run(state, "clusters", "list").stdout
    unknown = run(state, "clusters", "show", "nothing")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("flow-nexus-neural: cluster_not_found: ")


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
