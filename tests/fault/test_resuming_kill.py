"""The real server killed with SIGKILL in a training: another one goes on by itself, to the same weights."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.doubles.held_server import COMMAND, ROOT, held_after
from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import ServerProcess, descendants, is_alive

ROUNDS = 12
PRODUCT = (sys.executable, "-m", "flow_nexus_neural")
LAYERS = [
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 1},
]


def serve(tmp_path, place, program=PRODUCT):
    command = [*program, "--state-dir", str(tmp_path / place)]
    return ServerProcess(command, ROOT, tmp_path / f"{place}.log")


def begin(client, **init):
    """A cluster that trains; its id."""
    client.initialize()
    made = client.result("neural_cluster_init", {"name": "killed", "seed": 3, **init})
    cluster = made["cluster_id"]
    for _ in range(2):
        deploy = {"cluster_id": cluster, "node_type": "worker", "layers": json.dumps(LAYERS)}
        client.result("neural_node_deploy", deploy)
    train = {"cluster_id": cluster, "dataset": "sklearn:wine", "epochs": ROUNDS, "federated": True}
    client.result("neural_train_distributed", train | {"patience": ROUNDS})
    return cluster


def status(client, cluster, **more):
    return client.result("neural_cluster_status", {"cluster_id": cluster, **more})


def until(client, cluster, condition):
    deadline_s = time.monotonic() + HANG_S
    while time.monotonic() < deadline_s:
        found = status(client, cluster, wait_seconds=5)
        if condition(found):
            return found
    raise AssertionError(found)


def rounds_stored(state_dir):
    with closing(sqlite3.connect(state_dir / "state.db", timeout=HANG_S)) as journal:
        return journal.execute("SELECT COUNT(*) FROM history").fetchone()[0]


def ended(found):
    return found["training_status"] != "running"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights after a training whose server lived."""
    place = tmp_path_factory.mktemp("whole")
    with serve(place, "state") as server:
        found = until(server.client, begin(server.client), ended)
    assert found["training_status"] == "completed"
    return found["training"]["evidence"]["weights_digest_after"]


def test_a_killed_server_s_training_goes_on_without_a_call(tmp_path, undisturbed, monkeypatch):
    done = []
    with held_after(tmp_path, 5, monkeypatch), serve(tmp_path, "state", COMMAND) as server:
        cluster = begin(server.client)
        found = until(server.client, cluster, lambda s: s["training"]["current_round"] >= 4)
        done.append(found["training"]["current_round"])
        nodes = descendants(server.process.pid)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    # By themselves, for nobody is left to end them; how soon is for `bench.kills` to measure.
    deadline_s = time.monotonic() + HANG_S
    while any(map(is_alive, nodes)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not any(map(is_alive, nodes))
    with (
        held_after(tmp_path, ROUNDS - 2, monkeypatch) as go_on,
        serve(tmp_path, "state", COMMAND) as server,
    ):
        server.client.initialize()
        deadline_s = time.monotonic() + HANG_S
        while rounds_stored(tmp_path / "state") <= done[0] + 2:  # nobody calls a tool
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        found = status(server.client, cluster)
        resumed = found["training"]["resumed"]
        assert resumed["times"] == 1
        assert resumed["after_round"] >= done[0]
        another_server_is_told(tmp_path, server.process.pid, cluster)
        go_on()
        found = until(server.client, cluster, ended)
    assert (found["training_status"], found["training_error"]) == ("completed", None)
    assert found["training"]["evidence"]["weights_digest_after"] == undisturbed


def another_server_is_told(tmp_path, pid, cluster):
    """Who has the directory, and what is stored; it changes and disturbs nothing."""
    with serve(tmp_path, "state") as second:
        second.client.initialize()
        refusal = second.client.call("neural_cluster_connect", {"cluster_id": cluster})
        told = status(second.client, cluster)
        assert (told["status"], told["active_nodes"]) == ("running", None)
    text = refusal["content"][0]["text"]
    assert text.startswith("state_dir_locked: ")
    assert f"process {pid}" in text
    assert "another --state-dir" in text
    command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(tmp_path / "state")]
    shown = subprocess.run([*command, "clusters", "show", cluster], capture_output=True, check=True)
    stored = json.loads(shown.stdout)
    assert stored["status"] == "running"
    assert any(f"process {pid} serves this cluster" in text for text in stored["warnings"])
