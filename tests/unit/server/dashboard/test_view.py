"""The tool `neural_cluster_view`: shown to hosts that draw MCP Apps, and text for all others."""

import anyio
import jsonschema
import pytest
from mcp import Client
from mcp.client.extension import advertise

from flow_nexus_neural.server.dashboard.page import page_html
from flow_nexus_neural.server.dashboard.view import (
    STATUS_META,
    VIEW_SPEC,
    VIEW_URI,
    neural_cluster_view,
    summary,
)
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.settings import Settings
from tests.doubles.engine_double import CLUSTER, EngineDouble, status_report
from tests.integration.served import connected

APPS = "io.modelcontextprotocol/ui"
MIME = "text/html;profile=mcp-app"
DRAWS = advertise(APPS, {"mimeTypes": [MIME]})
DRAWS_SOMETHING_ELSE = advertise(APPS, {"mimeTypes": ["text/uri-list"]})
TOOL = VIEW_SPEC.name


async def seen_by(mode: str, *extensions, settings: Settings | None = None):
    """What a client lists, and what it gets from the tool and the resource."""
    options = {"extensions": list(extensions)} if extensions else {}
    async with connected(mode, EngineDouble(), settings, **options) as client:
        client: Client
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        resources = {str(one.uri): one for one in (await client.list_resources()).resources}
        answer = await client.call_tool(TOOL, {"cluster_id": CLUSTER})
        page = (await client.read_resource(VIEW_URI)).contents[0]
        unknown = await client.call_tool("no_such_tool", {})
    return tools, resources, answer, page, unknown


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_draws_apps_is_offered_the_view_and_gets_the_status_beside_the_text(mode):
    tools, resources, answer, page, _ = await seen_by(mode, DRAWS)
    assert tools[TOOL].meta == {"ui": {"resourceUri": VIEW_URI}}
    assert tools[TOOL].annotations.read_only_hint
    assert resources[VIEW_URI].mime_type == page.mime_type == MIME
    assert page.text == page_html("host")
    assert set(page.meta["ui"]) == {"prefersBorder"}  # no domain is asked for
    jsonschema.validate(answer.structured_content, tools[TOOL].output_schema)
    assert answer.structured_content["drawn"] is True
    assert StatusResult.model_validate(answer.meta[STATUS_META]).cluster_id == CLUSTER
    assert "live view" in answer.content[0].text


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("extensions", [(), (DRAWS_SOMETHING_ELSE,)], ids=["none", "other types"])
async def test_every_other_host_sees_what_it_saw_without_it_and_gets_text_if_it_calls(
    mode, extensions
):
    tools, resources, answer, _, unknown = await seen_by(mode, *extensions)
    assert TOOL not in tools
    assert VIEW_URI not in resources
    assert TOOL not in unknown.content[0].text
    assert all(not tool.meta for tool in tools.values())
    assert STATUS_META not in (answer.meta or {})
    assert answer.structured_content["drawn"] is False
    text = answer.content[0].text
    assert "round 16 of 50" in text
    assert "flow-nexus-neural dashboard" in text


@pytest.mark.anyio
async def test_a_server_that_only_reads_shows_it_too():
    tools, *_ = await seen_by("auto", DRAWS, settings=Settings(read_only=True))
    assert TOOL in tools


@pytest.mark.anyio
async def test_a_cluster_that_is_not_there_is_an_error_like_that_of_every_tool():
    async with connected("auto", EngineDouble(), extensions=[DRAWS]) as client:
        answer = await client.call_tool(TOOL, {"cluster_id": "dnc_none"})
        misspelt = await client.call_tool(TOOL, {"cluster": CLUSTER, "colour": "red"})
    assert answer.is_error
    assert answer.content[0].text.startswith("cluster_not_found: ")
    assert misspelt.content[0].text.startswith("invalid_arguments: ")


def test_the_summary_has_no_number_that_was_not_measured():
    report = status_report([], full=True)
    assert "predict takes" not in summary(report)
    untrained = report.model_copy(update={"training": None, "global_accuracy": None})
    assert "not trained" in summary(untrained)
    assert "accuracy" not in summary(untrained)


def test_the_view_asks_for_the_status_in_full():
    double = EngineDouble()

    async def call():
        return await neural_cluster_view(double, VIEW_SPEC.request(cluster_id=CLUSTER), None)

    sent = anyio.run(call)
    assert double.asked[0].detail == "full"
    assert double.asked[0].wait_seconds == 0  # a view that waits would be drawn late
    assert sent.content["history"]
