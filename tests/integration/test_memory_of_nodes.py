"""How a status tells the memory of nodes: bytes, their percentage of the limits, and how they were read."""

from pathlib import Path

import pytest

from flow_nexus_neural.runtime.base import MemoryReading
from flow_nexus_neural.runtime.inproc.node import InprocNode
from tests.integration.product import LAYERS, product

MB = 1 << 20


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        ({"worker-0": (64, "pss"), "worker-1": (128, "pss")}, (192 * MB, 12.5, "pss")),
        ({"worker-0": (64, "pss"), "worker-1": (0, "rss_growth")}, (64 * MB, 4.16667, "mixed")),
        ({"worker-0": (64, "pss")}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
async def test_memory_is_the_sum_of_what_was_read_and_null_unless_every_node_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: dict, told: tuple
):
    def memory(node: InprocNode) -> MemoryReading | None:
        found = readings.get(node.spec.slot)
        return None if found is None else MemoryReading(found[0] * MB, found[1])

    monkeypatch.setattr(InprocNode, "memory", memory)
    async with product(tmp_path, node_memory_mb=1024) as it:
        cluster_id = await it.cluster(1)
        await it.result("node_deploy", cluster_id=cluster_id, model="large", layers=LAYERS)
        status = await it.result("cluster_status", cluster_id=cluster_id)
        names = ("memory_bytes", "memory_usage", "memory_source")
        assert tuple(status[name] for name in names) == told
        for node in status["nodes"]:
            found = readings.get(node["slot"])
            assert node["memory_bytes"] == (None if found is None else found[0] * MB)
