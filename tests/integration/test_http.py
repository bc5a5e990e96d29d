"""Serving over HTTP on the loopback interface."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client

from tests.doubles.stdio_client import descendants, is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("http")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    command = [sys.executable, "-m", "flow_nexus_neural", "--http", str(number)]
    server = subprocess.Popen(
        [*command, "--state-dir", str(folder / "state")], stdout=subprocess.PIPE, cwd=folder
    )
    try:
        wait_until(lambda: accepts("127.0.0.1", number), 30, "it accepts connections")
        yield number
        children = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: server.poll() is not None, 6, "a signal ends it")
        wait_until(lambda: not any(map(is_alive, children)), 6, "no child is left")
        assert server.returncode == 0
        assert server.stdout.read() == b""
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def status_of(port: int, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    standard = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    connection.request("POST", "/mcp", json.dumps(INITIALIZE), {**standard, **headers})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_era_calls_tools(port: int, mode: str):
    async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
        assert len((await client.list_tools()).tools) == 7
        answer = await client.call_tool("neural_cluster_init", {"name": mode})
        assert answer.structured_content["success"] is True
        answer = await client.call_tool("neural_cluster_status", {"cluster_id": mode})
        assert answer.structured_content["name"] == mode


def test_a_request_from_a_web_page_is_refused(port: int):
    assert status_of(port) == 200
    assert status_of(port, Host="evil.example") == 421
    assert status_of(port, Origin="http://evil.example") == 403


def test_only_the_loopback_interface_is_bound(port: int):
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    bound = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    mine = [address for address in bound if int(address.split(":")[1], 16) == port]
    assert mine == [f"0100007F:{port:04X}"]
