"""neural_cluster_list through the tools: what is there, what is told of it, and what it leaves alone."""

import json
from pathlib import Path

from tests.integration.product import product

XOR = "synthetic:xor#rows=80"


async def test_a_list_says_of_each_cluster_what_a_later_session_needs(tmp_path: Path):
    async with product(tmp_path) as it:
        trained = await it.trained(2, dataset=XOR)
        empty = (await it.result("cluster_init", name="second"))["cluster_id"]
        told = await it.result("cluster_list")
        status = await it.result("cluster_status", cluster_id=trained)
        first, second = told["clusters"]
        assert first.pop("restorable") is None  # it has not ended
        assert {name: status[name] for name in first} == first
        assert (first["cluster_id"], first["total_nodes"]) == (trained, 2)
        assert (first["training_status"], first["model_version"]) == ("completed", 1)
        assert (second["cluster_id"], second["name"]) == (empty, "second")
        assert (second["status"], second["total_nodes"]) == ("initialized", 0)
        assert (second["training_status"], second["model_version"]) == ("none", None)
        assert (told["live"], told["ended"], told["warnings"]) == (2, 0, [])


async def test_a_list_without_clusters_is_empty(tmp_path: Path):
    async with product(tmp_path) as it:
        told = await it.result("cluster_list")
        assert (told["clusters"], told["live"], told["ended"]) == ([], 0, 0)


async def test_an_ended_cluster_is_counted_and_listed_only_when_it_is_asked_for(tmp_path: Path):
    async with product(tmp_path) as it:
        ended = await it.cluster()
        await it.result("cluster_terminate", cluster_id=ended)
        live = await it.cluster()
        told = await it.result("cluster_list")
        assert [one["cluster_id"] for one in told["clusters"]] == [live]
        assert (told["live"], told["ended"]) == (1, 1)
        told = await it.result("cluster_list", include_ended=True)
        assert [(c["cluster_id"], c["status"]) for c in told["clusters"]] == [
            (ended, "terminated"),
            (live, "initialized"),
        ]


async def test_a_limit_keeps_the_newest_clusters_and_says_how_many_are_left_out(tmp_path: Path):
    async with product(tmp_path) as it:
        made = [await it.cluster(0, name=f"c{number}") for number in range(4)]
        told = await it.result("cluster_list", limit=2)
        assert [one["cluster_id"] for one in told["clusters"]] == made[2:]
        assert told["warnings"] == [
            "2 older clusters are not listed; a larger limit lists them too"
        ]


async def test_listing_starts_no_node_of_a_cluster_that_was_read_back(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(2)
    async with product(tmp_path) as it:
        (line,) = (await it.result("cluster_list"))["clusters"]
        assert (line["cluster_id"], line["status"]) == (cluster_id, "recovering")
        assert (line["active_nodes"], line["total_nodes"]) == (0, 2)
        assert it.runtime.nodes == []


async def test_the_tool_and_the_resource_tell_the_same(tmp_path: Path):
    async with product(tmp_path) as it:
        await it.cluster()
        told = await it.result("cluster_list")
        (content,) = (await it.client.read_resource("neural://clusters")).contents
        assert json.loads(content.text) == {
            name: value for name, value in told.items() if name != "success"
        }
