"""A server that is killed with SIGKILL in the middle of an export leaves nothing half done for long."""

import os
import subprocess
import sys

import pytest

from flow_nexus_neural.data.unfinished import FOLDER
from flow_nexus_neural.engine.operations import restore
from tests.sim.simulated import world

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="exports are not offered there")

SERVER = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path

import anyio

from flow_nexus_neural.artifacts.safetensors_folder import SafetensorsFolder
from flow_nexus_neural.engine.requests import ExportRequest
from tests.sim.simulated import blobs, world


def stopped_in_the_middle(*arguments):
    print("ready", flush=True)
    sys.stdin.read()


async def main():
    async with world(Path(sys.argv[1])) as w:
        cluster = await w.cluster(1)
        await w.train(cluster, blobs(100), epochs=1)
        SafetensorsFolder.recompute = stopped_in_the_middle
        await w.engine.export_model(ExportRequest(cluster_id=cluster, path="models/out"))


anyio.run(main)
"""


async def test_the_next_start_removes_what_a_killed_server_had_exported_by_half(
    tmp_path, monkeypatch
):
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    command = [sys.executable, "-c", SERVER, str(tmp_path), *sys.path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as server:  # noqa: ASYNC220  nothing else runs here
        assert server.stdout.readline() == b"ready\n"
        server.kill()
    (left,) = os.listdir(models)
    assert left.startswith(".out.")
    assert "model.safetensors" in os.listdir(models / left)

    with monkeypatch.context() as without:
        without.setattr(restore, "sweep_noted", lambda *_: None)
        async with world(tmp_path):
            assert os.listdir(models) == [left], "nothing else removes it"
    async with world(tmp_path):
        assert os.listdir(models) == []
        assert os.listdir(tmp_path / FOLDER) == []
