"""Make the README's table of tools from what the server really lists.

python -m readme.tool_table           writes the table between the README's markers
python -m readme.tool_table --check   fails when README and server differ
"""

import argparse
import json
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
    """One row per tool, then every argument in a part that unfolds."""
    rows = ["| tool | what it does | returns |", "| --- | --- | --- |"]
    rows += [
        f"| `{tool.name}` | {_cell(_first_sentence(tool))} | {_results(tool)} |" for tool in tools
    ]
    return "\n".join(rows) + "\n\n" + "\n".join(_arguments(tool) for tool in tools)


def _first_sentence(tool: Any) -> str:
    return " ".join(tool.description.split()).split(". ")[0].rstrip(".") + "."


def _results(tool: Any) -> str:
    if tool.output_schema is None:
        return "a picture or text"
    return f"{len(tool.output_schema['properties'])} fields"


def _arguments(tool: Any) -> str:
    schema = tool.input_schema
    required = schema.get("required", [])
    lines = [f"<details><summary><code>{tool.name}</code></summary>", ""]
    lines += ["| argument | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name, facts in schema["properties"].items():
        default = "required" if name in required else f"`{json.dumps(facts.get('default'))}`"
        meaning = _cell(facts.get("description", ""))
        lines.append(f"| `{name}` | {_cell(_values(facts))} | {default} | {meaning} |")
    return "\n".join([*lines, "", "</details>", ""])


def _values(facts: dict[str, Any]) -> str:
    """Types, enumerations and bounds of an argument in a few words; null is the default column's matter."""
    kinds = []
    for option in facts.get("anyOf", [facts]):
        if "enum" in option:
            kinds.append(" ".join(f"`{value}`" for value in option["enum"] if value is not None))
        else:
            kinds += [kind for kind in _as_list(option.get("type", "any")) if kind != "null"]
    return " or ".join(dict.fromkeys(kinds)) + _bounds(facts)


def _bounds(facts: dict[str, Any]) -> str:
    low = facts.get("minimum", facts.get("minLength"))
    high = facts.get("maximum", facts.get("maxLength"))
    if low is None or high is None:
        return ""
    return f", {low:g} or more" if high > 1e12 else f" {low:g} to {high:g}"


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    replace_between(README, "tools", render(anyio.run(listed_tools)), check=given.check)


if __name__ == "__main__":
    main()
