"""What the README tells a newcomer to do works, and what it says of the server is what the server says."""

import json
import re
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from bench.report import README, RESULTS, load_records, render
from flow_nexus_neural.cli.flags import build_parser
from readme import tool_table
from readme.expected_output import first_difference
from readme.markers import replace_between

ROOT = README.parent
PAGE = README.read_text()
SNIPPETS = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_the_table_of_tools_is_the_servers_own():
    replace_between(
        README, "tools", tool_table.render(anyio.run(tool_table.listed_tools)), check=True
    )


def test_the_transcript_is_what_the_demo_prints_today():
    block = PAGE.partition("<!-- transcript:begin -->")[2].partition("<!-- transcript:end -->")[0]
    printed = block.partition("$ make demo")[2].partition("```")[0].rstrip().splitlines()
    expected = (ROOT / "client_examples" / "expected" / "06.txt").read_text().splitlines()
    assert first_difference(expected, printed) is None


def test_the_tables_of_measurements_come_from_the_committed_results():
    replace_between(README, "bench", render(load_records(RESULTS)), check=True)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: next(iter(snippet)))
def test_a_clients_configuration_starts_the_server(snippet, tmp_path):
    (servers,) = (value for key, value in snippet.items() if key in ("mcpServers", "servers"))
    entry = servers["flow_nexus"]
    assert entry["command"].endswith("/.venv/bin/flow-nexus-neural")
    installed = Path(sys.executable).parent / "flow-nexus-neural"
    server = StdioServerParameters(
        command=str(installed), args=[*entry["args"], "--state-dir", str(tmp_path)]
    )

    async def names() -> list[str]:
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert "neural_cluster_init" in anyio.run(names)


def test_every_linked_file_exists():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", PAGE)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_flag_that_is_named_can_be_typed():
    table = PAGE.partition("## Operating it")[2].partition("## Development")[0]
    flags = set(re.findall(r"`(--[a-z-]+)", table))
    known = {option for action in build_parser()._actions for option in action.option_strings}
    assert flags
    assert flags <= known


def test_the_first_screen_says_how_to_run_and_test():
    first_screen = PAGE.splitlines()[:25]
    assert any(line.startswith("make demo") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


def test_the_architecture_fits_on_a_few_pages():
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 290


def modules_named(heading, end, columns):
    """Modules in backticks in these columns of a table; a name without a dot has the package before it."""
    table = (ROOT / "ARCHITECTURE.md").read_text().partition(heading)[2].partition(end)[0]
    for line in table.splitlines():
        cells = line.split("|")[1:-1] if line.startswith("|") else []
        for cell in (cells[column] for column in columns if column < len(cells)):
            package = ""
            for name in re.findall(r"`([a-z][\w.*]*)`", cell):
                package = name.rpartition(".")[0] if "." in name else package
                yield f"{package}.{name}" if "." not in name and package else name


def is_module(name):
    place = ROOT / "src" / "flow_nexus_neural" / name.replace(".", "/")
    return place.is_dir() or bool(list(place.parent.glob(f"{place.name}.py")))


@pytest.mark.parametrize(
    ("heading", "end", "columns", "at_least"),
    [
        ("### Code map", "### Where", [0], 60),
        ("### Where do I find", "## How", [1, 2], 20),
    ],
)
def test_every_module_on_the_map_exists(heading, end, columns, at_least):
    named = list(modules_named(heading, end, columns))
    assert len(named) > at_least
    assert [name for name in named if not is_module(name)] == []
    assert not is_module("engine.versions.nothing")


def test_the_picture_of_the_rooms_shows_every_module_of_the_engine():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    picture = text.partition("### The rooms")[2].partition("### Code map")[0]
    engine = ROOT / "src" / "flow_nexus_neural" / "engine"
    names = {path.stem for path in engine.rglob("*.py") if path.parent.name != "reports"}
    missing = [n for n in sorted(names - {"__init__"}) if not re.search(rf"\b{n}\b", picture)]
    assert missing == []
