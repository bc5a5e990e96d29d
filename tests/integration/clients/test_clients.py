"""Other people's clients against the product, over stdio and HTTP; `make clients` installs and tries them.

Without the directory of clients in CLIENTS_DIR (see install.sh) everything here is skipped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.programs import run_to_end
from tests.doubles.stdio_client import wait_until

HERE = Path(__file__).parent
CLIENTS = Path(os.environ.get("CLIENTS_DIR", "")).resolve()
SERVER = Path(sys.executable).parent / "flow-nexus-neural"
CONNECT_MS = "300000"
"""The Inspector gives up on a server that starts on a busy machine sooner than anybody else."""

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("CLIENTS_DIR"), reason="other clients are tried by `make clients` only"
    ),
]


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{CLIENTS / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    return run_to_end(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
    )


def served(tmp_path: Path) -> list[str]:
    return [str(SERVER), "--state-dir", str(tmp_path / "state")]


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs beside the packages that they import: Node looks for packages upwards from a file."""
    folder = CLIENTS / "programs"
    folder.mkdir(exist_ok=True)
    for program in HERE.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server that several clients use over HTTP, one after the other."""
    folder = tmp_path_factory.mktemp("http")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with subprocess.Popen([*served(folder), "--http", str(port)], cwd=folder) as server:
        wait_until(accepts, "it accepts connections")
        yield f"http://127.0.0.1:{port}/mcp"
        server.terminate()


TYPESCRIPT = pytest.mark.parametrize(
    ("program", "expected"),
    [
        (["typescript_sdk_1.mjs"], {"server": "flow-nexus-neural"}),
        (["typescript_client_2.mjs", "default"], {"protocol": "2025-11-25"}),
        (["typescript_client_2.mjs", "auto"], {"protocol": "2026-07-28"}),
    ],
    ids=" ".join,
)


@TYPESCRIPT
def test_a_typescript_client_lives_through_a_whole_cluster(
    programs: Path, tmp_path: Path, program: list[str], expected: dict[str, str]
):
    name, *options = program
    done = outcome(run(["node", str(programs / name), *options, *served(tmp_path)], tmp_path))
    assert done["accuracy"] > 0.9
    assert {key: done[key] for key in expected} == expected


@TYPESCRIPT
def test_a_typescript_client_does_the_same_over_http(
    programs: Path, tmp_path: Path, url: str, program: list[str], expected: dict[str, str]
):
    name, *options = program
    done = outcome(run(["node", str(programs / name), *options, url], tmp_path))
    assert done["accuracy"] > 0.9
    assert {key: done[key] for key in expected} == expected


@pytest.mark.parametrize("mode", ["1", "auto", "legacy"])
def test_a_python_client_lives_through_a_whole_cluster(tmp_path: Path, mode: str):
    python = str(CLIENTS / "mcp1" / "bin" / "python") if mode == "1" else sys.executable
    program = str(HERE / "python_client.py")
    assert outcome(run([python, program, mode, *served(tmp_path)], tmp_path))["accuracy"] > 0.9


def inspect(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(
        ["mcp-inspector", "--cli", "--connect-timeout", CONNECT_MS, *served(tmp_path), *words],
        tmp_path,
    )


def test_the_inspector_finds_nothing_in_the_tools_even_strictly(tmp_path: Path):
    done = inspect(tmp_path, "--method", "tools/list", "--strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["tools"]) == 11


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["initialize"], "protocolVersion"),
        (["resources/list"], "neural://clusters"),
        (["resources/templates/list"], "neural://clusters/{cluster_id}/history"),
        (["resources/read", "--uri", "neural://clusters"], "clusters"),
        (["prompts/list"], "plan_cluster"),
        (["prompts/get", "--prompt-name", "plan_cluster", "--prompt-args", "goal=G"], "Goal: G"),
        (
            ["tools/call", "--tool-name", "neural_cluster_init", "--tool-arg", "name=seen"],
            '"status": "initialized"',
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_the_inspector_reads_every_method(tmp_path: Path, words: list[str], expected: str):
    done = inspect(tmp_path, "--method", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


def test_the_inspector_shows_the_text_of_an_error_and_exits_with_5(tmp_path: Path):
    call = ["--tool-name", "neural_cluster_status", "--tool-arg", "cluster_id=x"]
    done = inspect(tmp_path, "--method", "tools/call", *call)
    assert done.returncode == 5
    assert "cluster_not_found: no cluster 'x'. Known: none. Create one with" in done.stdout


def test_the_inspector_meets_the_modern_era(tmp_path: Path):
    words = ["--protocol-era", "modern", "--method", "initialize", "--format", "json", "-q"]
    done = inspect(tmp_path, *words)
    assert json.loads(done.stdout)["result"]["protocolVersion"] == "2026-07-28"
