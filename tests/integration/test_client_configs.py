"""Configurations that the repository hands out start the server, under the key that users expect."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from flow_nexus_neural import __version__
from flow_nexus_neural.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
KEY = "flow_nexus"


def tools_of(command: str, arguments: list[str], state: Path) -> list[str]:
    server = StdioServerParameters(
        command=command,
        args=[*arguments, "--state-dir", str(state)],
        env={"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )

    async def names() -> list[str]:
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    return anyio.run(names)


def snippet_after(heading: str, language: str) -> str:
    found = re.search(rf"{re.escape(heading)}.*?```{language}\n(.*?)```", README, re.DOTALL)
    assert found, heading
    return found[1]


def installed(command: str) -> str:
    """The command of a snippet, whose place in the reader's clone is ours in this one."""
    place = command.removeprefix("/path/to/flow-nexus-neural/.venv/bin/")
    assert place == "flow-nexus-neural", command
    return str(BIN / place)


@pytest.mark.parametrize(
    ("heading", "root"),
    [("Claude Desktop", "mcpServers"), ("Cursor", "mcpServers"), ("VS Code", "servers")],
)
def test_a_json_snippet_starts_the_server(heading: str, root: str, tmp_path: Path):
    config: dict[str, Any] = json.loads(snippet_after(heading, "json"))
    assert list(config) == [root]
    (entry,) = config[root].values()
    assert list(config[root]) == [KEY]
    assert "neural_cluster_init" in tools_of(installed(entry["command"]), entry["args"], tmp_path)


def test_the_line_for_claude_code_starts_the_server(tmp_path: Path):
    words = shlex.split(snippet_after("Claude Code", "sh"))
    assert words[:5] == ["claude", "mcp", "add", KEY, "--"]
    command, *arguments = words[5:]
    assert "neural_cluster_init" in tools_of(installed(command), arguments, tmp_path)


def test_the_projects_own_configuration_starts_the_server(tmp_path: Path):
    config = json.loads((ROOT / ".mcp.json").read_text())
    entry = config["mcpServers"][KEY]
    assert entry["type"] == "stdio"
    assert "neural_cluster_init" in tools_of(entry["command"], entry["args"], tmp_path)


def test_the_registry_entry_describes_this_package():
    entry = json.loads((ROOT / "server.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = entry["packages"]
    assert entry["version"] == package["version"] == project["version"] == __version__
    assert package["identifier"] == project["name"]
    assert package["transport"] == {"type": "stdio"}
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert len(entry["description"]) <= 100
    for variable in package["environmentVariables"]:
        field = variable["name"].removeprefix(ENV_PREFIX).lower()
        default = Settings.model_fields[field].default
        assert variable.get("default", str(default)) == str(default) or default is None


def test_the_version_is_the_packages():
    done = subprocess.run(
        [str(BIN / "flow-nexus-neural"), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"flow-nexus-neural {__version__}\n"
