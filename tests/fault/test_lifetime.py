"""Every way in which a server ends: cleaned up, and no process left.

Each case runs against the engine's double (which proves by a file that it was closed) and against the real
server with nodes in training. How fast it ends is a matter of the machine and of the budget that the server
gives itself, which is held against the promise.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flow_nexus_neural.server.lifetime import CLOSING_BUDGET_S, PARENT_CHECK_INTERVAL_S
from tests.doubles.stdio_client import (
    PipeClient,
    ServerProcess,
    descendants,
    is_alive,
    wait_until,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

ROOT = Path(__file__).parents[2]
PROMISED_S = 2.0
PROMISED_WHEN_ORPHANED_S = 3.0

# A client that starts the server, tells its pid, and waits to be killed. A descriptor that is given becomes
# the server's input, so that somebody else can hold the pipe's other end.
CLIENT = """
import os, subprocess, sys
source = int(sys.argv[1])
server = subprocess.Popen(sys.argv[2:], stdin=source if source >= 0 else subprocess.PIPE)
os.write(2, b"%d\\n" % server.pid)
if source < 0:
    while data := os.read(0, 65536):
        server.stdin.write(data)
        server.stdin.flush()
server.wait()
"""


@dataclass
class Running:
    """A server that has work in hand, and everything that must be gone afterwards."""

    pid: int
    children: list[int]
    marker: Path | None

    def assert_gone(self) -> None:
        wait_until(lambda: not is_alive(self.pid), "the server has ended")
        alive = lambda: [pid for pid in self.children if is_alive(pid)]  # noqa: E731
        wait_until(lambda: not alive(), "no child is left")
        if self.marker is not None:
            assert self.marker.read_text() == "closed"


class DoubleServer:
    """The engine's double behind the real transport."""

    def __init__(self, folder: Path) -> None:
        self.marker: Path | None = folder / "closed"
        self.command = [sys.executable, "-m", "tests.doubles.stdio_server", str(self.marker)]

    def put_to_work(self, client: PipeClient) -> None:
        client.initialize()
        assert is_alive(int(client.result("neural_cluster_init", {"name": "c"})["name"]))


class RealServer:
    """The product, with two nodes in a training that would take minutes."""

    marker = None

    def __init__(self, folder: Path) -> None:
        state = folder / "state"
        self.command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(state)]

    def put_to_work(self, client: PipeClient) -> None:
        client.initialize()
        cluster_id = client.result("neural_cluster_init", {"name": "c", "seed": 1})["id"]
        for _ in range(2):
            layers = [{"type": "dense", "units": 16, "activation": "relu"}]
            client.result("neural_node_deploy", {"cluster_id": cluster_id, "layers": layers})
        client.result("neural_cluster_connect", {"cluster_id": cluster_id})
        client.result(
            "neural_train_distributed",
            {
                "cluster_id": cluster_id,
                "dataset": "synthetic:xor",
                "federated": True,
                "rounds": 1000,
                "local_epochs": 20,
                "patience": 0,
            },
        )
        status = client.result(
            "neural_cluster_status", {"cluster_id": cluster_id, "wait_seconds": 20}
        )
        assert status["training_status"] == "running"
        assert all(is_alive(node["pid"]) for node in status["nodes"])


Program = DoubleServer | RealServer
REST = pytest.mark.rest_of_table
"""How the real server ends is one program for all ways to be told so: the double shows each of them."""


def test_what_the_server_allows_itself_to_end_is_within_what_is_promised():
    assert CLOSING_BUDGET_S < PROMISED_S
    assert PARENT_CHECK_INTERVAL_S + CLOSING_BUDGET_S < PROMISED_WHEN_ORPHANED_S


@pytest.fixture(params=[DoubleServer, RealServer])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    return request.param(tmp_path)


@contextmanager
def at_work(program: Program, folder: Path) -> Iterator[tuple[ServerProcess, Running]]:
    with ServerProcess(program.command, ROOT, folder / "stderr") as server:
        program.put_to_work(server.client)
        children = descendants(server.process.pid)
        assert children, "a server at work has children"
        yield server, Running(server.process.pid, children, program.marker)


def test_end_of_input_ends_the_server_and_its_children(program: Program, tmp_path: Path):
    with at_work(program, tmp_path) as (server, running):
        server.process.stdin.close()
        running.assert_gone()
        assert server.process.wait() == 0


@pytest.mark.parametrize(
    ("program", "name"),
    [
        *((DoubleServer, name) for name in ("SIGTERM", "SIGHUP", "SIGINT")),
        (RealServer, "SIGTERM"),
        *(pytest.param(RealServer, name, marks=REST) for name in ("SIGHUP", "SIGINT")),
    ],
    indirect=["program"],
)
def test_a_signal_ends_the_server_and_its_children(program: Program, tmp_path: Path, name: str):
    with at_work(program, tmp_path) as (server, running):
        server.process.send_signal(getattr(signal, name))
        running.assert_gone()
        assert server.process.wait() == 0


def test_end_of_input_during_a_waiting_call_ends_the_server_and_its_children(tmp_path: Path):
    program = RealServer(tmp_path)
    with at_work(program, tmp_path) as (server, running):
        arguments = {"cluster_id": "c", "wait_seconds": 25, "until": "done"}
        server.client.send(
            {
                "jsonrpc": "2.0",
                "id": 99,
                "method": "tools/call",
                "params": {"name": "neural_cluster_status", "arguments": arguments},
            }
        )
        server.process.stdin.close()
        running.assert_gone()


@contextmanager
def behind_a_client(
    program: Program, folder: Path, *, hold_the_pipe: bool
) -> Iterator[tuple[subprocess.Popen[bytes], Running]]:
    """A server at work whose parent is a client process that can be killed."""
    server_input, our_end = os.pipe()
    source = server_input if hold_the_pipe else -1
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(source), *program.command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[server_input] if hold_the_pipe else [],
        cwd=ROOT,
    )
    os.close(server_input)
    try:
        server_pid = int(client.stderr.readline())
        write_fd = our_end if hold_the_pipe else client.stdin.fileno()
        program.put_to_work(PipeClient(write_fd, client.stdout.fileno()))
        yield client, Running(server_pid, descendants(server_pid), program.marker)
    finally:
        client.kill()
        client.wait()
        for stream in (client.stdin, client.stdout, client.stderr):
            stream.close()
        os.close(our_end)


@pytest.mark.parametrize(
    ("program", "hold_the_pipe"),
    [
        pytest.param(DoubleServer, False, id="double, pipe closed"),
        pytest.param(DoubleServer, True, id="double, pipe held open elsewhere"),
        pytest.param(RealServer, False, id="real, pipe closed", marks=REST),
        pytest.param(RealServer, True, id="real, pipe held open elsewhere"),
    ],
    indirect=["program"],
)
def test_the_death_of_the_client_ends_the_server_and_its_children(
    program: Program, tmp_path: Path, hold_the_pipe: bool
):
    with behind_a_client(program, tmp_path, hold_the_pipe=hold_the_pipe) as (client, running):
        client.kill()
        client.wait()
        running.assert_gone()


def test_a_client_that_no_longer_reads_standard_error_does_not_keep_the_server_alive(
    tmp_path: Path,
):
    program = DoubleServer(tmp_path)
    reader, writer = os.pipe()
    server = subprocess.Popen(
        program.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer, cwd=ROOT
    )
    os.close(writer)
    try:
        client = PipeClient(server.stdin.fileno(), server.stdout.fileno())
        program.put_to_work(client)
        running = Running(server.pid, descendants(server.pid), program.marker)
        os.close(reader)
        assert client.call("neural_cluster_init", {"name": "c"})["isError"] is True
        server.stdin.close()
        running.assert_gone()
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


def test_nodes_do_not_outlive_a_server_that_is_killed_and_the_next_one_starts(tmp_path: Path):
    program = RealServer(tmp_path)
    with at_work(program, tmp_path) as (server, running):
        server.process.kill()
        running.assert_gone()
    with ServerProcess(program.command, ROOT, tmp_path / "stderr") as server:
        server.client.initialize()
        status = server.client.result("neural_cluster_status", {"cluster_id": "c"})
        assert status["total_nodes"] == 2
        server.process.stdin.close()
        wait_until(lambda: server.process.poll() is not None, "it ended")


def test_a_server_whose_engine_was_never_needed_leaves_no_zygote(tmp_path: Path):
    command = RealServer(tmp_path).command
    with ServerProcess(command, ROOT, tmp_path / "stderr") as server:
        server.client.initialize()
        running = Running(server.process.pid, descendants(server.process.pid), None)
        assert running.children, "the zygote is started without waiting for a tool"
        server.process.stdin.close()
        running.assert_gone()
        assert not (tmp_path / "state").exists(), "listing tools touches no state"
