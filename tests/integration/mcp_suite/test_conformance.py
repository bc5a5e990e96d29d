"""The official MCP conformance suite, where it is installed.

It needs Node 22 or later and the package @modelcontextprotocol/conformance (0.1.16), whose command
`conformance` must be on PATH. Without them these tests are skipped.
"""

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.programs import run_to_end
from tests.doubles.stdio_client import wait_until

ROOT = Path(__file__).parents[3]
BASELINE = Path(__file__).with_name("baseline.yml")


def node_version() -> int:
    node = shutil.which("node")
    if node is None:
        return 0
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(text.removeprefix("v").split(".")[0])


pytestmark = [
    pytest.mark.skipif(
        shutil.which("conformance") is None or node_version() < 22,
        reason="needs Node >= 22 and @modelcontextprotocol/conformance on PATH",
    ),
]


@contextmanager
def serving(*command: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in command]
    server = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT)

    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(accepts, "it accepts connections")
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.terminate()
        server.wait(HANG_S)


def run_suite(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_to_end(
        ["conformance", "server", "--url", url, "--suite", "active", *options],
        cwd=folder,
    )


def test_everything_passes_with_the_fixtures_of_the_suite_mounted(tmp_path: Path):
    with serving("tests.integration.mcp_suite.fixtures", "PORT") as url:
        done = run_suite(url, tmp_path)
    total = re.search(r"Total: (\d+) passed, (\d+) failed", done.stdout)
    assert total, done.stdout + done.stderr
    assert int(total[1]) >= 40
    assert total[2] == "0"


def test_the_product_itself_fails_only_what_needs_those_fixtures(tmp_path: Path):
    state = str(tmp_path / "state")
    with serving("flow_nexus_neural", "--http", "PORT", "--state-dir", state) as url:
        done = run_suite(url, tmp_path, "--expected-failures", str(BASELINE))
    assert done.returncode == 0, done.stdout[-3000:]
