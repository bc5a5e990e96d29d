"""What nodes occupy is read at most once a second, of every node that lives, and of none that does not."""

import anyio
import pytest

from flow_nexus_neural.engine.nodes.memory_readings import MAX_AGE_S, read_memory
from flow_nexus_neural.runtime.base import MemoryReading
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Scales:
    """Counts how often a node is weighed, and says a new number each time."""

    def __init__(self):
        self.times = 0

    def memory(self):
        self.times += 1
        return MemoryReading(self.times * 1000, "pss")


def weighed(w):
    """Puts a node on scales that the test can read; the in-process runtime has none."""
    scales = {}
    for slot in w.slots:
        scales[slot.name] = Scales()
        slot.handle.memory = scales[slot.name].memory
    return scales


async def test_what_cannot_be_known_is_none_and_not_zero(tmp_path):
    async with running(tmp_path, 1) as w:
        assert await read_memory(w.cluster) == {"worker-0": None}


async def test_readings_are_shared_for_a_second_and_made_anew_after_it(tmp_path):
    async with running(tmp_path, 2) as w:
        scales = weighed(w)
        first = await read_memory(w.cluster)
        assert first == dict.fromkeys(("worker-0", "worker-1"), MemoryReading(1000, "pss"))
        await anyio.sleep(MAX_AGE_S)
        assert await read_memory(w.cluster) == first
        await anyio.sleep(0.1)
        again = await read_memory(w.cluster)
        assert again["worker-1"] == MemoryReading(2000, "pss")
        assert scales["worker-0"].times == 2


async def test_a_node_that_came_since_is_read_at_once(tmp_path):
    async with running(tmp_path, 1) as w:
        weighed(w)
        await read_memory(w.cluster)
        await w.deploy()
        found = await read_memory(w.cluster)
        assert set(found) == {"worker-0", "worker-1"}
        assert found["worker-0"] == MemoryReading(2000, "pss")


async def test_a_node_that_is_gone_is_in_no_reading_even_a_young_one(tmp_path):
    async with running(tmp_path, 2) as w:
        scales = weighed(w)
        await read_memory(w.cluster)
        w.node("worker-0").kill()
        await anyio.sleep(0.1)
        assert set(await read_memory(w.cluster)) == {"worker-1"}
        assert scales["worker-1"].times == 1


async def test_a_cluster_without_nodes_has_no_readings(tmp_path):
    async with running(tmp_path, 0) as w:
        assert await read_memory(w.cluster) == {}
