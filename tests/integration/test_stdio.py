"""The real transport: nothing but protocol on standard output, and answers after garbage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flow_nexus_neural.server.tools import TOOL_SPECS
from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end
from tests.doubles.stdio_client import META, ServerProcess

ROOT = Path(__file__).parents[2]
STRAYS = (
    "a stray print",
    "a stray write to descriptor 1",
    "a stray line of C code",
    "a stray line of a child",
)


def double_server(folder: Path) -> ServerProcess:
    command = [sys.executable, "-m", "tests.doubles.stdio_server", str(folder / "closed")]
    return ServerProcess(command, ROOT, folder / "stderr")


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
def test_every_line_of_standard_output_is_protocol_whatever_is_printed(tmp_path: Path, era: str):
    with double_server(tmp_path) as server:
        client = server.client
        more = {}
        if era == "2025-11-25":
            assert client.initialize()["protocolVersion"] == era
        else:
            more = {"_meta": META}
            discovered = client.request("server/discover", more)["result"]
            assert era in discovered["supportedVersions"]
        assert len(client.request("tools/list", more)["result"]["tools"]) == len(TOOL_SPECS)
        assert client.result("neural_cluster_init", {"name": "c"}, **more)["success"] is True
        assert client.call("neural_cluster_init", {"naem": "c"}, **more)["isError"] is True
        for line in client.lines:
            assert json.loads(line)["jsonrpc"] == "2.0"
        server.process.stdin.close()
        assert server.process.stdout.read() == b""
        said = server.stderr_path.read_text()
        for stray in STRAYS:
            assert stray in said


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"not json\n",
        b"{\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\x00\n",
        b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}\n',
        b'{"jsonrpc":"2.0","method":"no/such/notification"}\n',
        b'{"jsonrpc":"2.0","id":77,"result":{}}\n',
        b"[" * 5000 + b"]" * 5000 + b"\n",
        (
            b'{"jsonrpc":"2.0","id":78,"method":"tools/call","params":{"name":"neural_cluster_init",'
            b'"arguments":{"name":"\\ud800"}}}\n'
        ),
        (
            b'{"jsonrpc":"2.0","id":79,"method":"tools/call","params":{"name":"neural_cluster_init",'
            b'"arguments":{"seed":NaN}}}\n'
        ),
        (
            b'{"jsonrpc":"2.0","id":80,"method":"tools/call","params":{"name":"neural_cluster_init",'
            b'"arguments":[1]}}\n'
        ),
        (
            b'{"jsonrpc":"2.0","id":81,"method":"tools/call","params":{"name":"neural_cluster_status",'
            b'"arguments":{"cluster_id":"' + b"x" * 300_000 + b'"}}}\n'
        ),
    ],
    ids=lambda line: repr(line[:30]),
)
def test_garbage_on_the_wire_does_not_stop_the_next_call(
    shared_pipe: ServerProcess, garbage: bytes
):
    shared_pipe.client.send_bytes(garbage)
    assert shared_pipe.client.result("neural_cluster_init", {"name": "c"})["success"] is True


def test_a_request_that_cannot_be_read_is_answered_and_logged(tmp_path: Path):
    with double_server(tmp_path) as server:
        client = server.client
        client.send_bytes(b"\xef\xbb\xbf")  # as some shells put in front
        client.initialize()
        client.send_bytes(b'{"jsonrpc":"1.0","id":"old","method":"tools/list"}\n')
        assert client.answer("old")["error"]["code"] == -32600
        client.send_bytes(
            b'{"jsonrpc":"2.0","id":"half","method":"tools/call","params":{"name":"neural_cluster_init",'
            b'"arguments":{"name":"caf\\ud83d"}}}\n'
        )
        assert client.answer("half")["result"]["structuredContent"]["success"] is True
        assert "is no message" in server.stderr_path.read_text()


@pytest.fixture(scope="module")
def shared_pipe(tmp_path_factory: pytest.TempPathFactory):
    with double_server(tmp_path_factory.mktemp("wire")) as server:
        server.client.initialize()
        yield server


def test_a_server_started_without_standard_error_serves_all_the_same(tmp_path: Path):
    marker = tmp_path / "closed"
    python = f"exec {sys.executable} -m tests.doubles.stdio_server {marker} 2>&-"
    with ServerProcess(["/bin/sh", "-c", python], ROOT, tmp_path / "stderr") as server:
        server.client.initialize()
        assert server.client.result("neural_cluster_init", {"name": "c"})["success"] is True
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
        assert marker.read_text() == "closed"


def test_the_command_line_tells_its_version_and_refuses_wrong_settings(tmp_path: Path):
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run_to_end(
            [sys.executable, "-m", "flow_nexus_neural", *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin", "HOME": str(tmp_path), **environ},
        )

    from flow_nexus_neural import __version__

    assert run("--version").stdout == f"flow-nexus-neural {__version__}\n"
    refused = run("--max-nodes", "0")
    assert refused.returncode == 2
    assert "max_nodes" in refused.stderr
    assert refused.stdout == ""
    unknown = run(FLOW_NEXUS_NEURAL_MAX_NODE="3")
    assert unknown.returncode == 2
    assert "FLOW_NEXUS_NEURAL_MAX_NODE" in unknown.stderr
