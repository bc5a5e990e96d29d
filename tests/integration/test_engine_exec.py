"""The engine where no process can fork nodes: it starts them one by one, and they train and predict."""

import subprocess
import sys

import pytest

from flow_nexus_neural.cli.serve import launch_zygote
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.runtime import choice
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.runtime.local import zygote_process
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import World, blobs

pytestmark = pytest.mark.anyio

LAYERS = (
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def no_zygotes(monkeypatch):
    """As on a system that lacks what a zygote needs."""
    for module in (choice, zygote_process):
        monkeypatch.setattr(module, "can_fork_nodes", lambda: False)


def test_where_no_process_can_fork_nodes_none_is_launched(no_zygotes):
    assert launch_zygote() is None
    assert isinstance(choice.runtime_of_this_system(Settings(), None), ExecRuntime)


async def test_a_cluster_of_nodes_started_one_by_one_trains_and_predicts(no_zygotes, tmp_path):
    settings = Settings(state_dir=tmp_path, predict_deadline_ms=20_000)
    async with Engine.open(settings) as engine:
        w = World(engine, None, None)
        cluster = await w.cluster(0)
        nodes = [await w.deploy(cluster, layers=LAYERS) for _ in range(2)]
        assert len({node.pid for node in nodes}) == 2
        assert {node.isolation.level for node in nodes} == {"process"}
        status = await w.train(cluster, blobs(60))
        assert status.training_status == "completed"
        evidence = status.training.evidence
        assert evidence.weights_digest_before != evidence.weights_digest_after
        assert status.training.evidence.steps > 0
        answer = await w.predict(cluster, blobs(4)["X"], deadline_ms=20_000)
        assert len(answer.predictions) == 4


WINDOWS = """
import asyncio, hmac, logging, os, secrets, select, signal, socket, subprocess, sys, tempfile
import anyio, anyio.abc, numpy, pydantic
import anyio._backends._asyncio
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
sys.modules.update(dict.fromkeys(("fcntl", "resource", "posix"), None))
for module, names in (
    (os, ("pidfd_open", "memfd_create", "nice", "writev")),
    (signal, ("SIGKILL", "SIGBUS", "SIGXCPU", "SIGSYS")),
    (socket, ("SOCK_SEQPACKET", "CMSG_SPACE", "MSG_DONTWAIT", "AF_UNIX")),
):
    for name in names:
        delattr(module, name)
sys.platform = "win32"
from flow_nexus_neural.node import exec_node
from flow_nexus_neural.runtime import choice
from flow_nexus_neural.settings import Settings
runtime = choice.runtime_of_this_system(Settings(state_dir="s"), None)
print(type(runtime).__name__, exec_node.confine.__module__)
"""


def test_the_fall_back_can_be_imported_without_what_only_posix_has():
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS], capture_output=True, check=False, text=True
    )
    assert done.stdout.split() == ["ExecRuntime", "flow_nexus_neural.node.confinement.apply"], (
        done.stderr
    )
