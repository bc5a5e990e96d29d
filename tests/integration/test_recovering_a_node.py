"""What a monitor that only deploys can rely on, through the tools."""

import json
from pathlib import Path
from typing import Any

import anyio

from tests.doubles.limits import HANG_S
from tests.integration.product import LAYERS, Product, product


async def status_of(it: Product, cluster_id: str) -> dict[str, Any]:
    return await it.result("cluster_status", cluster_id=cluster_id)


async def lose(it: Product, cluster_id: str, slot: str) -> dict[str, Any]:
    """Kill a slot's node; the status that tells of it."""
    it.kill(slot)
    with anyio.fail_after(HANG_S):
        while (status := await status_of(it, cluster_id))["failed_nodes"] == 0:
            await it.result("cluster_status", cluster_id=cluster_id, wait_seconds=1)
    return status


def as_a_monitor_asks(node: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the document's monitor: no role, no layers, no node to replace."""
    return {
        "node_type": node["role"],
        "model": node["model_size"],
        "capabilities": node["capabilities"],
        "autonomy": 0.8,
    }


async def test_the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights(
    tmp_path: Path,
):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(3)
        question = {
            "cluster_id": cluster_id,
            "input_data": {"x0": 1, "x1": 0},
            "deadline_ms": 20_000,
        }
        before = await it.result("predict_distributed", **question)
        status = await lose(it, cluster_id, "worker-1")
        assert (status["active_nodes"], status["total_nodes"], status["failed_nodes"]) == (2, 3, 1)
        (dead,) = [node for node in status["nodes"] if not node["healthy"]]
        assert (dead["slot"], dead["status"], status["status"]) == (
            "worker-1",
            "failed",
            "degraded",
        )
        assert dead["last_error"].startswith("node_died: ")
        assert any("worker-1 failed" in warning for warning in status["warnings"])
        made = await it.result("node_deploy", cluster_id=cluster_id, **as_a_monitor_asks(dead))
        assert (made["slot"], made["incarnation"], made["replaces"]) == ("worker-1", 2, dead["id"])
        assert (made["layers_source"], made["healthy"]) == ("inherited", True)
        assert made["synced_version"] == before["model_version"]
        assert made["sync_ms"] > 0
        status = await status_of(it, cluster_id)
        assert (status["active_nodes"], status["total_nodes"], status["failed_nodes"]) == (3, 3, 0)
        assert dead["id"] not in [node["id"] for node in status["nodes"]]
        after = await it.result("predict_distributed", **question)
        assert (after["prediction"], after["nodes_used"]) == (before["prediction"], 3)
        assert after["node_predictions"][made["id"]] == before["node_predictions"][dead["id"]]


async def test_the_same_call_without_a_failed_node_opens_a_further_slot_that_serves(
    tmp_path: Path,
):
    async with product(tmp_path) as it:
        cluster_id = await it.trained(2)
        alive = (await status_of(it, cluster_id))["nodes"][0]
        made = await it.result("node_deploy", cluster_id=cluster_id, **as_a_monitor_asks(alive))
        assert (made["slot"], made["replaces"], made["layers_source"]) == ("worker-2", None, "peer")
        assert made["synced_version"] is not None
        answer = await it.result(
            "predict_distributed",
            cluster_id=cluster_id,
            input_data={"x0": 1, "x1": 0},
            deadline_ms=20_000,
        )
        assert (answer["nodes_used"], answer["effective_ensemble_size"]) == (3, 1)


async def test_a_dead_node_comes_back_without_a_call_where_its_autonomy_allows_that(tmp_path: Path):
    async with product(tmp_path) as it:
        cluster_id = await it.cluster(1, daaEnabled=True)
        await it.result("node_deploy", cluster_id=cluster_id, layers=LAYERS, autonomy=0.1)
        it.kill("worker-0")
        it.kill("worker-1")
        with anyio.fail_after(HANG_S):
            while True:
                status = await it.result(
                    "cluster_status", cluster_id=cluster_id, wait_seconds=1, detail="full"
                )
                if status["daa"]["executed"] and status["daa"]["recommended"]:
                    break
        nodes = {node["slot"]: node for node in status["nodes"]}
        assert (nodes["worker-0"]["status"], nodes["worker-0"]["incarnation"]) == ("healthy", 2)
        assert (nodes["worker-1"]["status"], nodes["worker-1"]["incarnation"]) == ("failed", 1)
        told = {event["target"]: event for event in status["daa"]["events"]}
        assert told["worker-0"]["decision"] == "executed"
        assert told["worker-0"]["outcome"] == "healthy"
        assert told["worker-1"]["decision"] == "recommended"
        audit = await it.client.read_resource(f"neural://clusters/{cluster_id}/audit")
        stored = json.loads(audit.contents[0].text)
        assert stored["intact"]
        told_seqs = [event["seq"] for event in status["daa"]["events"]]
        assert [entry["seq"] for entry in stored["entries"]] == told_seqs == [0, 1, 2]
        made = await it.result("node_deploy", cluster_id=cluster_id, layers=LAYERS)
        assert made["slot"] == "worker-2", "a deploy with layers is no recovery"
