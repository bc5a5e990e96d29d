"""Make the README's table of tools from what the server really lists.

python -m readme.tool_table           writes the table between the README's markers
python -m readme.tool_table --check   fails when README and server differ
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from readme.markers import replace_between

README = Path(__file__).resolve().parent.parent / "README.md"


async def listed_tools() -> list[Any]:
    """Ask a real server over stdio."""
    with tempfile.TemporaryDirectory() as state_dir:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "flow_nexus_neural", "--state-dir", state_dir]
        )
        async with Client(server) as client:
            return list((await client.list_tools()).tools)


def render(tools: list[Any]) -> str:
    """One row per tool: name, what it does, its arguments with defaults."""
    rows = ["| tool | what it does | arguments |", "| --- | --- | --- |"]
    for tool in tools:
        sentence = " ".join(tool.description.split()).split(". ")[0].rstrip(".") + "."
        rows.append(f"| `{tool.name}` | {_cell(sentence)} | {_arguments(tool.input_schema)} |")
    return "\n".join(rows)


def _arguments(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    return ", ".join(
        f"**{name}**" if name in required else f"{name}{_default(facts)}"
        for name, facts in schema["properties"].items()
    )


def _default(facts: dict[str, Any]) -> str:
    value = facts.get("default")
    if value is None:
        return ""
    return f" = {str(value).lower() if isinstance(value, bool) else _cell(str(value))}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    replace_between(README, "tools", render(anyio.run(listed_tools)), check=given.check)


if __name__ == "__main__":
    main()
