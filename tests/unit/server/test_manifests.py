"""The files by which clients and registries find the server agree with it."""

import json
from pathlib import Path

from flow_nexus_neural import __version__
from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[3]


def test_the_client_configuration_uses_the_key_that_full_tool_names_carry():
    servers = json.loads((ROOT / ".mcp.json").read_text())["mcpServers"]
    assert list(servers) == ["flow_nexus"]
    assert servers["flow_nexus"]["command"].endswith(PROGRAM)


def test_the_registry_entry_names_this_version_and_only_settings_that_exist():
    entry = json.loads((ROOT / "server.json").read_text())
    (package,) = entry["packages"]
    assert entry["version"] == package["version"] == __version__
    assert package["identifier"] == PROGRAM
    assert len(entry["description"]) <= 100
    for variable in package["environmentVariables"]:
        field = variable["name"].removeprefix(ENV_PREFIX).lower()
        assert field in Settings.model_fields
        if "default" in variable:
            assert variable["default"] == str(Settings.model_fields[field].default)
