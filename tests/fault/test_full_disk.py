"""A real file system that is full under a real server; `sim.test_full_disk` is the twin that always runs.

It is a small tmpfs, mounted in a mount namespace that ends with the test. From here it is seen through /proc.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flow_nexus_neural.engine.storage.verification import verify
from tests.doubles.held_server import COMMAND, ROOT, held_after
from tests.doubles.stdio_client import ServerProcess
from tests.fault.test_resuming_kill import ended, status, until

SIZE_BYTES = 6 << 20
TRY = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
LAYERS = [{"type": "dense", "units": 8, "activation": "relu"}]
DATA = "synthetic:xor#rows=100"
QUESTION = [[0, 1], [1, 1]]


def may_mount():
    return (
        sys.platform == "linux"
        and shutil.which("unshare") is not None
        and shutil.which("nsenter") is not None
        and subprocess.run(TRY, capture_output=True, check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(
    not may_mount(), reason="a file system of its own needs root and util-linux"
)


class Room:
    """A file system with little room, as long as its namespace lives."""

    def __init__(self, tmp_path):
        self._tmp = tmp_path
        self._place = tmp_path / "small"
        self._place.mkdir()
        mount = (
            f"mount -t tmpfs -o size={SIZE_BYTES} none {self._place} && echo mounted && exec cat"
        )
        command = ["unshare", "--mount", "sh", "-c", mount]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout.readline() == b"mounted\n"
        self.seen = Path(f"/proc/{self._keeper.pid}/root{self._place}")

    @property
    def state_dir(self):
        return self.seen / "state"

    def server(self, name):
        command = ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", f"--wd={ROOT}", *COMMAND]
        command += ["--state-dir", str(self._place / "state")]
        return ServerProcess(command, ROOT, self._tmp / f"{name}.log")

    def fill(self):
        """Not a byte is left."""
        with (self.seen / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def empty(self):
        """There is room again."""
        (self.seen / "filler").unlink(missing_ok=True)

    def close(self):
        self._keeper.kill()
        self._keeper.communicate()


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    made.close()


def built(client):
    """A cluster with a model; its id."""
    client.initialize()
    made = client.result(
        "neural_cluster_init", {"name": "small disk", "seed": 3, "daaEnabled": False}
    )
    cluster = made["cluster_id"]
    deploy = {"cluster_id": cluster, "layers": LAYERS, "count": 2}
    client.result("neural_node_deploy", deploy)
    train(client, cluster, epochs=2)
    assert until(client, cluster, ended)["training_status"] == "completed"
    return cluster


def train(client, cluster, **more):
    arguments = {"cluster_id": cluster, "dataset": DATA, "federated": True, "seed": 5, **more}
    return client.result("neural_train_distributed", arguments)


def predict(client, cluster, **more):
    arguments = {"cluster_id": cluster, "input_data": QUESTION, "deadline_ms": 20_000, **more}
    return client.result("neural_predict_distributed", arguments)


def refused(client, tool, arguments):
    """The text of a refusal, whose code says what refused."""
    answer = client.call(tool, arguments)
    assert answer.get("isError"), answer
    text = answer["content"][0]["text"]
    assert text.startswith("store_unavailable: "), text
    assert "free disk space" in text.lower()
    return text


def test_a_full_file_system_loses_nothing_and_everything_goes_on_when_there_is_room(
    room, tmp_path, monkeypatch
):
    with held_after(tmp_path, 2, monkeypatch) as go_on, room.server("first") as server:
        client = server.client
        cluster = built(client)
        nodes = calls_are_refused_and_can_be_made_again(room, client, cluster)
        train(client, cluster, epochs=20, patience=20)
        until(client, cluster, lambda s: s["training"]["current_round"] >= 2)
        room.fill()
        go_on()
        found = until(client, cluster, lambda s: "can be stored" in (s["training"]["lacks"] or ""))
        waited_after = found["training"]["current_round"]
        assert found["training_status"] == "running"
        assert predict(client, cluster)["model_version"] == found["model_version"]
        room.empty()
        found = until(client, cluster, lambda s: s["training"]["current_round"] > waited_after)
        assert found["training"]["resumed"]["after_round"] >= waited_after
        room.fill()
        server.process.kill()
        server.process.wait()
    acknowledged = found["model_version"]
    with room.server("second") as server:
        server.client.initialize()
        answer = server.client.call(
            "neural_cluster_list", {}
        )  # it starts where nothing can be stored
        if answer.get("isError"):
            assert answer["content"][0]["text"].startswith("store_unavailable: ")
        room.empty()
        found = until(server.client, cluster, ended)
        assert (found["training_status"], found["training_error"]) == ("completed", None)
        assert found["model_version"] >= acknowledged
        assert found["total_nodes"] == nodes
        assert predict(server.client, cluster)["model_version"] == found["model_version"]
    shutil.copytree(room.state_dir, tmp_path / "copy")
    assert verify(tmp_path / "copy").damages == []


def calls_are_refused_and_can_be_made_again(room, client, cluster):
    """Returns the number of nodes afterwards."""
    before = predict(client, cluster)
    told = {before["prediction_id"]: [1, 0]}
    nodes = status(client, cluster)["total_nodes"]
    asked = {
        "neural_cluster_init": {"name": "another"},
        "neural_node_deploy": {"cluster_id": cluster, "layers": LAYERS},
        "neural_cluster_connect": {"cluster_id": cluster, "topology": "ring"},
        "neural_train_distributed": {"cluster_id": cluster, "dataset": DATA},
    }
    room.fill()
    for tool, arguments in asked.items():
        refused(client, tool, arguments)
    answer = predict(client, cluster, outcomes=told)
    assert answer["prediction"] == before["prediction"]
    assert answer["feedback_recorded"] == 0
    assert any("2 outcomes" in text for text in answer["warnings"]), answer["warnings"]
    found = status(client, cluster)
    assert (found["total_nodes"], found["training_status"]) == (nodes, "completed")
    room.empty()
    assert predict(client, cluster, outcomes=told)["feedback_recorded"] == 2
    names = [c["name"] for c in client.result("neural_cluster_list", {})["clusters"]]
    assert names == ["small disk"]
    for tool, arguments in list(asked.items())[:3]:
        client.result(tool, arguments)
    return nodes + 1
