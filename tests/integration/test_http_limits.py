"""What a client over HTTP may hold, on the loopback interface: time, connections, sessions, bytes."""

import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from flow_nexus_neural.data.json_text import MAX_INLINE_BYTES
from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import META, ServerProcess, wait_until
from tests.integration.test_http import INITIALIZE, LOG, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CONNECTIONS, SESSIONS, IDLE_S, TIMEOUT_S = 8, 2, 3, 4
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    limits = {
        "MAX_CONNECTIONS": CONNECTIONS,
        "MAX_SESSIONS": SESSIONS,
        "SESSION_IDLE_S": IDLE_S,
        "REQUEST_TIMEOUT_S": TIMEOUT_S,
    }
    variables = {f"FLOW_NEXUS_NEURAL_HTTP_{name}": str(limit) for name, limit in limits.items()}
    yield from serving(folder, HOST, FLOW_NEXUS_NEURAL_LOG_LEVEL="info", **variables)


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    yield from serving(tmp_path_factory.mktemp("ordinary"))


def opened(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection((HOST, port), timeout=HANG_S)
    client.sendall(sent)
    return client


def post(port: int, message: Any, *, length: int | None = None, **headers: str) -> bytes:
    body = json.dumps(message).encode()
    lines = {
        "Host": f"{HOST}:{port}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Content-Length": str(len(body) if length is None else length),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body


def rest(client: socket.socket) -> bytes:
    """What the server says until it closes, which it must do at all."""
    said = b""
    while chunk := client.recv(1 << 16):
        said += chunk
    return said


def status_of(port: int, message: Any, **headers: str) -> tuple[int, bytes]:
    """Status and whole answer; the answer ends with its connection."""
    with closing(opened(port, post(port, message, Connection="close", **headers))) as client:
        said = rest(client)
    return int(said.split(None, 2)[1]), said


def half_body(port: int) -> bytes:
    return post(port, INITIALIZE, length=100_000)


def half_head(port: int) -> bytes:
    return f"POST /mcp HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Le".encode()


@pytest.mark.parametrize("half", [half_body, half_head, lambda port: b""])
def test_a_request_that_does_not_come_in_whole_ends_its_connection(port: int, half: Any):
    began_s = time.monotonic()
    with closing(opened(port, half(port))) as client:
        said = rest(client)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"had not come in whole after %d s" % TIMEOUT_S in said
    assert time.monotonic() - began_s > TIMEOUT_S * 0.9


@pytest.mark.parametrize("half", [half_body, half_head])
def test_sending_a_byte_now_and_then_does_not_prolong_a_request(port: int, half: Any):
    with closing(opened(port, half(port))) as client:
        for _ in range(60):
            readable, _, _ = select.select([client], [], [], TIMEOUT_S / 4)
            if readable:
                break
            client.sendall(b"a")
        assert client.recv(12) == b"HTTP/1.1 408"


def test_a_second_request_on_a_connection_must_come_in_whole_as_well(port: int):
    with closing(opened(port, post(port, {}) + half_body(port))) as client:
        said = rest(client)
    assert said.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in said


def test_a_body_that_is_refused_before_it_was_read_keeps_no_connection(port: int):
    with closing(opened(port, post(port, {}, length=1 << 30))) as client:
        for _ in range(60):
            readable, _, _ = select.select([client], [], [], TIMEOUT_S / 4)
            if readable and not client.recv(1 << 16):
                return
            client.sendall(b"a")
    pytest.fail("the connection is still open")


def test_a_client_that_does_not_read_its_answers_is_let_go(port: int, folder: Path):
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    wanted = 400  # answers of 26 kB: more than the kernel keeps for a reader
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HANG_S)
        client.connect((HOST, port))
        client.sendall(post(port, listing, **modern) * wanted)
        said = "a client had not read its answer"
        wait_until(lambda: said in (folder / LOG).read_text(), "the server gave up")
        assert rest(client).count(b"HTTP/1.1 200 ") < wanted


def test_connections_are_bounded_and_those_that_are_open_go_on(port: int):
    with ExitStack() as stack:
        first = stack.enter_context(closing(opened(port)))
        for _ in range(CONNECTIONS - 1):
            stack.enter_context(closing(opened(port)))
        with closing(opened(port)) as further:
            said = rest(further)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in said
        first.sendall(post(port, {}))
        assert first.recv(12) == b"HTTP/1.1 400"
    wait_until(lambda: status_of(port, {})[0] == 400, "a connection that ends makes room")


def test_sessions_are_bounded_and_end_when_they_are_not_used(port: int):
    def begun() -> tuple[int, str]:
        status, said = status_of(port, INITIALIZE)
        _, _, name = said.partition(b"mcp-session-id: ")
        return status, name.split(b"\r\n")[0].decode()

    wait_until(lambda: begun()[0] == 503, "the bound is reached")
    wait_until(lambda: begun()[0] == 200, "one that is not used ends")
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    session = {"MCP-Protocol-Version": "2025-11-25"}

    def begun_and_used() -> bool:
        status, session["Mcp-Session-Id"] = begun()
        return status == 200 and status_of(port, ping, **session)[0] == 200

    wait_until(begun_and_used, "a session is used before it ends")
    select.select([], [], [], IDLE_S + 1)  # time itself is what is tested here
    assert status_of(port, ping, **session)[0] == 404


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_client_that_hangs_up_within_a_request_costs_one_line_of_the_log(
    port: int, folder: Path, version: str
):
    before = (folder / LOG).read_text()
    headers = {"MCP-Protocol-Version": version}
    opened(port, post(port, INITIALIZE, length=100_000, **headers)).close()
    line = "INFO flow_nexus_neural.server.http_limits: a client hung up"

    def added() -> str:
        return (folder / LOG).read_text()[len(before) :]

    wait_until(lambda: line in added(), "it is said")
    assert status_of(port, {})[0] == 400  # what the server does about it, it has done
    assert added().count("hung up") == 1
    assert "Traceback" not in added()
    assert "ERROR" not in added()


async def test_a_request_that_is_too_large_is_told_what_to_do_instead(ordinary: int):
    async with Client(f"http://{HOST}:{ordinary}/mcp", mode="legacy") as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool(
                "neural_train_distributed", {"cluster_id": "a", "dataset": "x" * 20_000_000}
            )
    assert "limit_exceeded" in str(refused.value)
    assert f"{MAX_INLINE_BYTES} bytes of JSON" in str(refused.value)
    assert "file in the data directory and pass its path" in str(refused.value)


def inline(nbytes: int) -> str:
    """JSON text of this size whose every quote takes two bytes on the wire."""
    name = "é" * 90
    record = f'{{"{name}":%d,"label":%d}}'
    one = len((record % (1, 0)).encode()) + 1
    records = ",".join(record % (i % 7, i % 2) for i in range(nbytes // one))
    return "[" + " " * (nbytes - 2 - len(records.encode())) + records + "]"


WORKER = {"role": "worker", "layers": [{"type": "dense", "units": 1, "activation": "linear"}]}
INIT, DEPLOY, TRAIN = "neural_cluster_init", "neural_node_deploy", "neural_train_distributed"


def trainings(cluster_id: str) -> list[dict[str, Any]]:
    """Arguments of a training that is one byte too large, and of one that is not."""
    return [
        {"cluster_id": cluster_id, "epochs": 1, "target": "label", "dataset": inline(size)}
        for size in (MAX_INLINE_BYTES + 1, MAX_INLINE_BYTES)
    ]


async def test_inline_data_of_the_promised_size_are_taken_over_http(ordinary: int):
    async with Client(f"http://{HOST}:{ordinary}/mcp", mode="legacy") as client:
        created = await client.call_tool(INIT, {"name": "size"})
        cluster_id = created.structured_content["cluster_id"]
        await client.call_tool(DEPLOY, {"cluster_id": cluster_id, **WORKER})
        refused, started = [await client.call_tool(TRAIN, one) for one in trainings(cluster_id)]
    assert refused.content[0].text.startswith("limit_exceeded: ")
    assert not started.is_error, started.content[0].text


def test_inline_data_of_the_promised_size_are_taken_over_standard_input(tmp_path: Path):
    command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(tmp_path / "state")]
    with ServerProcess(command, tmp_path, tmp_path / LOG) as server:
        server.client.initialize()
        cluster_id = server.client.result(INIT, {"name": "size"})["cluster_id"]
        server.client.result(DEPLOY, {"cluster_id": cluster_id, **WORKER})
        too_large, large = trainings(cluster_id)
        refused = server.client.call(TRAIN, too_large)
        server.client.result(TRAIN, large)
    assert refused["content"][0]["text"].startswith("limit_exceeded: ")
