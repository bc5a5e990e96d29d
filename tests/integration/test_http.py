"""Serving over HTTP on the loopback interface."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client

from flow_nexus_neural.server.http import check_http
from flow_nexus_neural.server.tools import TOOL_SPECS
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end
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


TOKEN = "a-secret-of-many-characters"
LOG = "log"


def serving(folder: Path, address: str = "127.0.0.1", **environment: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind((address, 0))
        number = probe.getsockname()[1]
    command = [sys.executable, "-m", "flow_nexus_neural", "--http", str(number)]
    with (folder / LOG).open("wb") as log:
        server = subprocess.Popen(
            [*command, "--http-host", address, "--state-dir", str(folder / "state")],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={**os.environ, **environment},
        )
    try:
        wait_until(lambda: accepts(address, number), "it accepts connections")
        told = f"serving on http://{address}:{number}/mcp\n"
        wait_until(lambda: told in (folder / LOG).read_text(), "it says where it serves")
        yield number
        children = descendants(server.pid)
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: server.poll() is not None, "a signal ends it")
        wait_until(lambda: not any(map(is_alive, children)), "no child is left")
        assert server.returncode == 0
        assert server.stdout.read() == b""
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    yield from serving(tmp_path_factory.mktemp("http"))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("guarded")
    yield from serving(folder, "127.0.0.2", FLOW_NEXUS_NEURAL_HTTP_TOKEN=TOKEN)


def accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(HANG_S)
        return probe.connect_ex((address, port)) == 0


def status_of(port: int, address: str = "127.0.0.1", **headers: str) -> int:
    connection = http.client.HTTPConnection(address, port, timeout=HANG_S)
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
        assert len((await client.list_tools()).tools) == len(TOOL_SPECS)
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


def test_a_token_is_asked_of_every_request_once_there_is_one(guarded: int):
    assert status_of(guarded, "127.0.0.2") == 401
    assert status_of(guarded, "127.0.0.2", Authorization=f"Bearer {TOKEN}x") == 401
    assert status_of(guarded, "127.0.0.2", Authorization=f"Basic {TOKEN}") == 401
    assert status_of(guarded, "127.0.0.2", Authorization=f"Bearer {TOKEN}") == 200


def test_the_token_does_not_replace_the_host_check(guarded: int):
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert status_of(guarded, "127.0.0.2", Host="evil.example", **allowed) == 421
    assert status_of(guarded, "127.0.0.2", Origin="http://evil.example", **allowed) == 403


@pytest.mark.parametrize(
    ("address", "token", "names"),
    [
        ("192.0.2.7", None, "FLOW_NEXUS_NEURAL_HTTP_TOKEN"),
        ("0.0.0.0", TOKEN, "every address"),
        ("::", TOKEN, "every address"),
        ("example.org", TOKEN, "not an address"),
        ("127.0.0.1", "short", "http_token"),
    ],
)
def test_an_address_that_would_open_the_tools_to_others_is_refused_at_start(address, token, names):
    environment = dict(os.environ)
    if token is not None:
        environment["FLOW_NEXUS_NEURAL_HTTP_TOKEN"] = token
    done = run_to_end(
        [sys.executable, "-m", "flow_nexus_neural", "--http", "8931", "--http-host", address],
        env=environment,
    )
    assert done.returncode == 2
    assert "invalid_arguments" in done.stderr
    assert names in done.stderr
    assert TOKEN not in done.stderr


def test_another_address_is_allowed_with_a_token():
    check_http(Settings(http_host="192.0.2.7", http_token=TOKEN))
    check_http(Settings(http_host="::1"))
