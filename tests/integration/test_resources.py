"""Resources, their updates in both protocol eras, completions and the prompt."""

import json
from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.types import PromptReference, ResourceTemplateReference, ResourceUpdatedNotification

from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.server import subscriptions
from tests.doubles.engine_double import CLUSTER, EngineDouble
from tests.doubles.limits import HANG_S
from tests.integration.served import Served, connected

CLUSTER_URI = f"neural://clusters/{CLUSTER}"


def read(server: Served, uri: str) -> Any:
    (content,) = server.portal.call(server.client.read_resource, uri).contents
    assert content.mime_type == "application/json"
    return json.loads(content.text)


def test_the_list_of_clusters_is_a_resource(server: Served):
    listed = server.portal.call(server.client.list_resources).resources
    assert [str(one.uri) for one in listed] == ["neural://clusters"]
    assert read(server, "neural://clusters")["clusters"][0]["cluster_id"] == CLUSTER


def test_a_cluster_is_a_resource_with_the_full_status(server: Served):
    assert read(server, CLUSTER_URI) == server.result("neural_cluster_status", detail="full")


def test_the_whole_curve_is_a_resource(server: Served):
    history = read(server, f"{CLUSTER_URI}/history")
    assert [point["round"] for point in history["rounds"]] == list(range(50))


def test_the_decisions_of_autonomy_are_a_resource_that_says_whether_they_verify(server: Served):
    audit = read(server, f"{CLUSTER_URI}/audit")
    assert (audit["intact"], audit["damage"]) == (True, None)
    assert [entry["rule"] for entry in audit["entries"]] == ["restart_node"]


@pytest.mark.parametrize(
    "list_", ["list_tools", "list_resources", "list_resource_templates", "list_prompts"]
)
def test_a_cursor_that_nobody_handed_out_is_refused(server: Served, list_: str):
    async def page(cursor: str | None) -> Any:
        return await getattr(server.client, list_)(cursor=cursor)

    assert server.portal.call(page, None).next_cursor is None
    with pytest.raises(MCPError) as caught:
        server.portal.call(page, "bogus")
    assert caught.value.error.code == -32602


def test_the_templates_are_listed_with_descriptions(server: Served):
    templates = server.portal.call(server.client.list_resource_templates).resource_templates
    assert [one.uri_template for one in templates] == [
        "neural://clusters/{cluster_id}",
        "neural://clusters/{cluster_id}/history",
        "neural://clusters/{cluster_id}/audit",
    ]
    assert all(one.description for one in templates)


@pytest.mark.parametrize(
    "uri", [f"neural://clusters/none{view}" for view in ("", "/history", "/audit")]
)
def test_an_unknown_cluster_is_an_unknown_resource(server: Served, uri: str):
    with pytest.raises(MCPError) as caught:
        read(server, uri)
    assert caught.value.error.code == -32602
    assert caught.value.error.message.startswith("cluster_not_found: ")


def test_another_failure_is_not_passed_off_as_an_unknown_resource(server: Served):
    server.double.fail_with = StoreCorrupt("ledger entry 3 does not verify")
    with pytest.raises(MCPError) as caught:
        read(server, CLUSTER_URI)
    assert caught.value.error.code == -32603
    assert caught.value.error.message.startswith("store_corrupt: ledger entry 3")


@pytest.mark.parametrize(
    ("typed", "found"), [("dnc_", [CLUSTER]), ("", [CLUSTER]), ("OUBLE", [CLUSTER]), ("zz", [])]
)
def test_a_cluster_id_is_completed_by_id_and_by_name(server: Served, typed: str, found: list[str]):
    for reference in (
        ResourceTemplateReference(uri="neural://clusters/{cluster_id}"),
        PromptReference(name="plan_cluster"),
    ):
        argument = {"name": "cluster_id", "value": typed}
        answer = server.portal.call(server.client.complete, reference, argument)
        assert answer.completion.values == found


def test_the_prompt_carries_the_goal_and_the_data(server: Served):
    answer = server.portal.call(
        server.client.get_prompt, "plan_cluster", {"goal": "spot XYZ", "data": "prices.csv"}
    )
    text = answer.messages[0].content.text
    assert "Goal: spot XYZ" in text
    assert "Data: prices.csv" in text
    assert "neural_cluster_init" in text


@pytest.mark.parametrize(("name", "arguments"), [("no_such", {}), ("plan_cluster", {})])
def test_a_wrong_prompt_is_the_callers_mistake(
    server: Served, name: str, arguments: dict[str, str]
):
    with pytest.raises(MCPError) as caught:
        server.portal.call(server.client.get_prompt, name, arguments)
    assert caught.value.error.code == -32602


async def test_a_listener_of_the_2026_protocol_hears_of_a_change():
    double = EngineDouble()
    async with connected("auto", double) as client:
        await client.call_tool("neural_cluster_status", {"cluster_id": CLUSTER})
        with anyio.fail_after(HANG_S):
            async with client.listen(resource_subscriptions=[CLUSTER_URI]) as events:
                for listener in double.listeners:
                    listener(CLUSTER)
                async for event in events:
                    assert event.uri == CLUSTER_URI
                    break


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_a_subscriber_of_the_handshake_protocol_hears_of_a_change_until_it_unsubscribes(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(subscriptions, "MIN_INTERVAL_S", 0)
    double = EngineDouble()
    heard: list[str] = []
    news = anyio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(str(message.params.uri))
            news.set()

    async with connected("legacy", double, message_handler=hear) as client:
        assert client.server_capabilities.resources.subscribe
        await client.call_tool("neural_cluster_status", {"cluster_id": CLUSTER})
        await client.subscribe_resource(CLUSTER_URI)
        await client.subscribe_resource(f"{CLUSTER_URI}/history")
        await client.unsubscribe_resource(CLUSTER_URI)
        (listener,) = double.listeners
        with anyio.fail_after(HANG_S):
            listener(CLUSTER)
            await news.wait()
    assert heard == [f"{CLUSTER_URI}/history"]


async def test_many_changes_at_once_are_one_update_per_resource(monkeypatch: pytest.MonkeyPatch):
    published: list[str] = []
    done = anyio.Event()

    class Bus:
        async def publish(self, event: Any) -> None:
            published.append(event.uri)
            if len(published) == 3:
                done.set()

    updates = subscriptions.ResourceUpdates(Bus())
    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            updates.changed(CLUSTER)
        tasks.start_soon(updates.run)
        with anyio.fail_after(HANG_S):
            await done.wait()
        updates.changed(CLUSTER)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert sorted(published) == ["neural://clusters", CLUSTER_URI, f"{CLUSTER_URI}/history"]
        tasks.cancel_scope.cancel()
