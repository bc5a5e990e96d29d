"""The list of tools: a committed snapshot, byte budgets, annotations, and what listing must not load."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flow_nexus_neural.server.tools import TOOL_SPECS
from tests.doubles.limits import HANG_S
from tests.integration.served import SHOWN, Served, text_of

SNAPSHOT = Path(__file__).with_name("tools_list.json")
UPDATE_VARIABLE = "UPDATE_TOOLS_SNAPSHOT"


def listed(server: Served) -> list[dict[str, Any]]:
    return [
        tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in server.tools()
    ]


def n_bytes(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def test_the_list_is_the_committed_one_in_both_eras(server: Served):
    """Set UPDATE_TOOLS_SNAPSHOT=1 to write it anew, and read the difference before committing it."""
    tools = listed(server)
    if os.environ.get(UPDATE_VARIABLE):
        SNAPSHOT.write_text(
            json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    assert tools == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_the_tools_come_in_the_order_in_which_they_are_called(server: Served):
    assert [tool["name"] for tool in listed(server)] == [
        "neural_cluster_init",
        "neural_node_deploy",
        "neural_cluster_connect",
        "neural_train_distributed",
        "neural_cluster_status",
        "neural_predict_distributed",
        "neural_cluster_plot",
        "neural_model_export",
        "neural_model_import",
        "neural_cluster_terminate",
        "neural_cluster_list",
    ]


def test_no_full_name_is_longer_than_clients_accept(server: Served):
    longest = max(len(f"mcp__flow_nexus__{tool['name']}") for tool in listed(server))
    assert longest == 43


def test_the_list_keeps_its_byte_budgets(server: Served):
    tools = listed(server)
    before_a_model = [
        {key: tool[key] for key in ("name", "description", "inputSchema")} for tool in tools
    ]
    assert sum(n_bytes(tool) for tool in before_a_model) <= 22_100
    assert n_bytes(tools) <= 43_400
    assert n_bytes(server.client.instructions) <= 1_500


@pytest.mark.parametrize(
    ("tool", "arguments", "budget"),
    [
        ("neural_cluster_status", {}, 9_100),
        ("neural_cluster_status", {"detail": "summary"}, 3_200),
        ("neural_cluster_status", {"detail": "full"}, 24_000),
        ("neural_predict_distributed", {}, 40_000),
    ],
)
def test_a_result_of_eleven_nodes_keeps_its_byte_budget(
    server: Served, tool: str, arguments: dict[str, Any], budget: int
):
    result = server.result(tool, **arguments)
    assert n_bytes(result) <= budget


def test_every_tool_and_every_argument_is_described(server: Served):
    for tool in listed(server):
        assert tool["title"]
        assert 1 <= tool["description"].count(".") <= 4
        if tool["name"] not in SHOWN:
            assert tool["outputSchema"]["type"] == "object"
        for name, schema in tool["inputSchema"]["properties"].items():
            assert schema.get("description"), f"{tool['name']}.{name}"


def test_every_value_of_an_enumeration_has_its_meaning_where_it_is_not_the_same_as_elsewhere(
    server: Served,
):
    """A value is explained where it is published first, or its argument says where it is."""
    plain = {"adam", "sgd", "rmsprop", "adagrad", "default"}
    elsewhere = {
        ("neural_cluster_connect", "topology"): "as in neural_cluster_init",
        ("neural_node_deploy", "node_type"): "Another name for role",
    }
    for tool in listed(server):
        for name, schema in tool["inputSchema"]["properties"].items():
            text = schema["description"]
            if pointer := elsewhere.get((tool["name"], name)):
                assert pointer in text
                continue
            for value in schema.get("enum", ()):
                assert value in plain or re.search(rf"\b{value}\b", text), (name, value)


RECORDED = {"template"}


def test_an_argument_that_is_only_recorded_says_so(server: Served):
    said = {
        name
        for tool in listed(server)
        for name, schema in tool["inputSchema"]["properties"].items()
        if schema["description"].startswith("Recorded only: ")
    }
    assert said == RECORDED


def test_no_text_is_a_riddle(server: Served):
    """Every description of an argument is at least a whole clause that ends in a full stop."""
    for tool in listed(server):
        for name, schema in tool["inputSchema"]["properties"].items():
            text = schema["description"]
            assert text.endswith("."), (tool["name"], name)
            assert len(text.split()) >= 5, (tool["name"], name)


@pytest.mark.parametrize("spec", TOOL_SPECS, ids=lambda spec: spec.name)
def test_every_description_describes_something_that_exists(spec: Any):
    assert set(spec.arguments) == set(spec.request.model_fields)
    schema = spec.output_schema() or {"properties": {}}
    assert set(spec.outputs) <= set(schema["properties"])


def test_every_object_in_a_result_is_described(server: Served):
    """Its schema says no more than that it is one."""
    for tool in listed(server):
        for name, schema in tool.get("outputSchema", {"properties": {}})["properties"].items():
            if '"type": "object"' in json.dumps(schema):
                assert schema.get("description"), f"{tool['name']}.{name}"


def test_the_long_poll_is_named_wherever_a_model_is_told_to_wait(server: Served):
    descriptions = {tool["name"]: tool["description"] for tool in listed(server)}
    prompt = server.portal.call(
        server.client.get_prompt, "plan_cluster", {"goal": "tell points apart"}
    )
    for text in (
        server.client.instructions,
        descriptions["neural_train_distributed"],
        descriptions["neural_cluster_status"],
        prompt.messages[0].content.text,
    ):
        assert re.search(r'until( |=)"done"', text), text
        assert "wait_seconds" in text


def test_nothing_but_the_published_arguments_is_published(server: Served):
    schemas = {tool["name"]: tool["inputSchema"] for tool in listed(server)}
    for spec in TOOL_SPECS:
        schema = schemas[spec.name]
        assert schema["additionalProperties"] is False
        assert len(schema["properties"]) == len(spec.request.model_fields)
        jsonschema.Draft202012Validator.check_schema(schema)
    assert "wasmOptimization" in schemas["neural_cluster_init"]["properties"]
    assert "daaEnabled" in schemas["neural_cluster_init"]["properties"]


def test_no_published_array_leaves_its_items_undescribed(server: Served):
    def check(schema: Any, place: str) -> None:
        if not isinstance(schema, dict):
            return
        kinds = schema.get("type", ())
        if "array" in ([kinds] if isinstance(kinds, str) else kinds):
            assert schema.get("items"), place
        for name, inner in schema.items():
            check(inner, f"{place}.{name}")

    for tool in listed(server):
        check(tool["inputSchema"], tool["name"])


def test_no_published_schema_gives_one_value_a_list_of_types(server: Served):
    """Clients that translate schemas into a dialect with one type per value refuse or drop such lists."""

    def check(schema: Any, place: str) -> None:
        if isinstance(schema, dict):
            assert not isinstance(schema.get("type"), list), place
            for name, inner in schema.items():
                check(inner, f"{place}.{name}")
        elif isinstance(schema, list):
            for number, inner in enumerate(schema):
                check(inner, f"{place}[{number}]")

    for tool in listed(server):
        check(tool["inputSchema"], tool["name"])
        check(tool.get("outputSchema"), tool["name"])


@pytest.mark.parametrize(
    ("tool", "hints"),
    [
        ("neural_cluster_init", (False, False, False, False)),
        ("neural_node_deploy", (False, False, False, False)),
        ("neural_cluster_connect", (False, False, True, False)),
        ("neural_train_distributed", (False, False, False, False)),
        ("neural_cluster_status", (True, False, True, False)),
        ("neural_predict_distributed", (False, True, False, False)),
        ("neural_cluster_plot", (False, True, False, False)),
        ("neural_model_export", (False, True, False, False)),
        ("neural_model_import", (False, False, False, False)),
        ("neural_cluster_terminate", (False, True, True, False)),
        ("neural_cluster_list", (True, False, True, False)),
    ],
)
def test_the_hints_for_hosts_are_right(server: Served, tool: str, hints: tuple[bool, ...]):
    (found,) = [one["annotations"] for one in listed(server) if one["name"] == tool]
    names = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
    assert tuple(found[name] for name in names) == hints


def test_the_instructions_name_every_tool_in_order(server: Served):
    text = server.client.instructions
    places = [text.index(spec.name) for spec in TOOL_SPECS]
    assert places == sorted(places)


def test_an_unknown_tool_is_answered_with_the_nearest_one(server: Served):
    answer = server.call("neural_predict", {})
    assert answer.is_error
    assert "did you mean 'neural_predict_distributed'?" in text_of(answer)


@pytest.mark.parametrize(
    "name",
    [
        "neural_cluster_terminat",
        "neural_terminate",
        "neural_cluster_delete",
        "cluster_terminate",
    ],
)
def test_a_tool_that_destroys_is_never_suggested(server: Served, name: str):
    text = text_of(server.call(name, {}))
    assert text.startswith(f"invalid_arguments: there is no tool '{name}'")
    assert "did you mean 'neural_cluster_terminate'" not in text
    assert "Tools: neural_cluster_init, " in text


LISTING = """
import sys
import anyio
from mcp import Client
from flow_nexus_neural.server.app import build_server
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings

async def list_tools():
    host = EngineHost(None)
    async with host.running(), Client(build_server(host, Settings()), mode="legacy") as client:
        return len((await client.list_tools()).tools)

count = anyio.run(list_tools)
heavy = {"numpy", "torch", "safetensors", "sqlite3", "flow_nexus_neural.engine.engine"} & set(sys.modules)
print(count, sorted(heavy))
"""


def test_listing_the_tools_loads_neither_torch_nor_numpy_nor_the_engine():
    done = subprocess.run(
        [sys.executable, "-c", LISTING], capture_output=True, text=True, timeout=HANG_S, check=True
    )
    assert done.stdout == f"{len(TOOL_SPECS)} []\n"
