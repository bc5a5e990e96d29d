"""The table of links: what it says works did work, and it forgets with the process."""

import pytest

from flow_nexus_neural.coordination.topology import ENGINE
from flow_nexus_neural.engine.links.wiring import Wiring
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.links.linked_nodes import nodes

pytestmark = pytest.mark.anyio


def table(of):
    return Wiring(of.context, of.slots, of.calls)


async def test_before_the_first_connect_there_is_nothing():
    async with nodes(2) as of:
        wiring = table(of)
        await wiring.join(of.slots["worker-0"])
        await wiring.leave(of.slots["worker-0"], of.slots["worker-0"].node_id)
        assert (wiring.working(), wiring.faults(), wiring.degree("worker-0")) == ([], {}, 0)
        assert wiring.latency_ms(("worker-0", "worker-1")) is None
        assert (wiring.key("worker-0"), wiring.token("worker-0")) == (None, None)


@pytest.mark.parametrize(("topology", "degrees"), [("mesh", [2, 2, 2]), ("star", [1, 1, 1])])
async def test_every_edge_is_tried_in_both_directions(topology, degrees):
    async with nodes(3) as of:
        wiring = table(of)
        graph = of.graph(topology)
        await wiring.rewire(graph, 1)
        assert tuple(wiring.working()) == graph.edges
        assert wiring.faults() == {}
        assert [wiring.degree(slot.name) for slot in of.slots] == degrees
        assert None not in [wiring.latency_ms(edge) for edge in graph.edges]
        wiring.close()
        assert wiring.working() == []


async def test_an_edge_that_one_end_does_not_read_does_not_work_and_says_why():
    async with nodes(3, faults=FaultPlan().ignore("worker-2", "observe")) as of:
        wiring = table(of)
        await wiring.rewire(of.graph("ring"), 1)
        assert ("worker-0", "worker-1") in wiring.working()
        faults = wiring.faults()
        assert faults
        assert all("worker-2" in edge for edge in faults)
        wiring.close()


async def test_a_node_that_answers_no_ping_has_no_edge_to_the_engine():
    async with nodes(2, faults=FaultPlan().ignore("worker-1", "ping")) as of:
        wiring = table(of)
        await wiring.rewire(of.graph("star"), 1)
        assert wiring.working() == [(ENGINE, "worker-0")]
        assert list(wiring.faults()) == [(ENGINE, "worker-1")]
        wiring.close()


async def test_a_process_that_is_gone_has_no_edges_and_its_successor_gets_them():
    async with nodes(3) as of:
        wiring = table(of)
        await wiring.rewire(of.graph("mesh"), 1)
        slot, former = of.slots["worker-1"], of.slots["worker-1"].node_id
        kept = wiring.key("worker-0")
        slot.detach()
        assert wiring.working() == [("worker-0", "worker-2")]
        assert set(wiring.faults().values()) == {"one of its ends is gone"}
        await wiring.leave(slot, former)
        assert wiring.key("worker-1") is None
        assert len(wiring.held("worker-0")) == 2
        await of.restart(slot)
        await wiring.join(slot)
        await wiring.leave(slot, former)  # late news of the old incarnation
        assert len(wiring.working()) == 3
        assert wiring.key("worker-0") == kept


async def test_a_living_node_that_leaves_is_shown_nothing_that_is_announced_later():
    async with nodes(3) as of:
        wiring = table(of)
        await wiring.rewire(of.graph("mesh"), 1)
        outcast, former = of.slots["worker-1"], wiring.key("worker-0")
        await wiring.leave(outcast, outcast.node_id)
        assert wiring.key("worker-0") != former
        assert wiring.held("worker-1") == frozenset()
        assert wiring.working() == [("worker-0", "worker-2")]
        keys = [wiring.key("worker-0"), wiring.key("worker-2"), former]
        assert await of.sights(outcast, *keys) == [None] * 3
        wiring.close()


async def test_nodes_that_read_each_other_are_equipped_before_anybody_reads():
    """A slow announcement delays the reading, not the other way round."""
    faults = FaultPlan().slow("worker-1", "announce", delay_s=2.0)
    async with nodes(2, faults=faults) as of:
        wiring = table(of)
        await wiring.rewire(of.graph("mesh"), 1)
        assert wiring.working() == [("worker-0", "worker-1")]
        wiring.close()
