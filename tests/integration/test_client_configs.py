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
from mcp.types import CallToolResult

from flow_nexus_neural import __version__
from flow_nexus_neural.settings import ENV_PREFIX, Settings
from tests.doubles.tables import cells
from tests.integration.served import text_of

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


@pytest.mark.parametrize("started_in", cells(["/", "home"], telling=["/"]))
def test_the_first_prompt_works_where_hosts_start_servers(started_in: str, tmp_path: Path):
    """Desktop hosts start servers in `/` or in the home directory, of which neither is a data root."""
    data, home = tmp_path / "data", tmp_path / "home"
    data.mkdir()
    home.mkdir()
    rows = "\n".join(f"{i * 7 % 11},{i * 5 % 13},{i % 2}" for i in range(60))
    (data / "prices.csv").write_text(f"a,b,label\n{rows}\n")
    entry = json.loads(snippet_after("Claude Desktop", "json"))["mcpServers"][KEY]
    arguments = [str(data) if word == "/path/to/your/data" else word for word in entry["args"]]
    where = home if started_in == "home" else Path("/")

    async def first_prompt(arguments: list[str], state: str) -> CallToolResult:
        server = StdioServerParameters(
            command=installed(entry["command"]),
            args=[*arguments, "--state-dir", str(tmp_path / state)],
            cwd=where,
            env={**os.environ, "HOME": str(home)},
        )
        async with Client(server) as client:
            await client.call_tool("neural_cluster_init", {"name": "c"})
            layers = [{"type": "dense", "units": 2}]
            await client.call_tool("neural_node_deploy", {"cluster_id": "c", "layers": layers})
            training = {"cluster_id": "c", "dataset": "prices.csv", "epochs": 1}
            return await client.call_tool("neural_train_distributed", training)

    allowed = anyio.run(first_prompt, arguments, "allowed")
    assert not allowed.is_error, text_of(allowed)
    refused = anyio.run(first_prompt, [], "refused")
    assert refused.is_error
    assert text_of(refused).startswith("dataset_not_found: ")
    assert '"--allow-path", "/the/folder/of/the/file" to "args"' in text_of(refused)


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
