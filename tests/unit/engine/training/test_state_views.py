"""A node is granted once what it reads in an exchange, and a new buffer in place of a replaced one."""

import pytest

from flow_nexus_neural.coordination.collectives import Folding, Part, Source
from flow_nexus_neural.coordination.topology import ENGINE
from flow_nexus_neural.engine.training.state_views import StateViews
from flow_nexus_neural.errors import NodeUnavailable
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import START, group

LENGTH = 4


@pytest.fixture
def anyio_backend():
    return virtual_time()


def reads(member, *sources):
    terms = tuple(Source(name, held, 1.0) for name, held in sources)
    return Folding(member, (Part(0, LENGTH, 1.0, terms),))


class Updates(dict):
    """Update buffers by worker."""

    def renew(self, w, name):
        layout = [("params", "f4", (LENGTH,)), ("buffers", "f4", (0,))]
        self[name] = w.runtime.buffer(f"publish:{name}", layout)
        return self[name]


async def test_a_node_is_granted_each_region_once(tmp_path):
    async with running(tmp_path, 2) as w:
        updates, grants = Updates(), w.runtime
        views = StateViews(w.cluster, updates.get)
        updates.renew(w, "worker-1")
        slot, folding = w.slots["worker-0"], reads("worker-0", ("worker-1", "update"))
        await views.equip(slot, folding, START)
        before = w.node("worker-0").bytes_sent
        await views.equip(slot, folding, START)
        assert w.node("worker-0").bytes_sent == before
        assert grants.nodes
        assert views.key(START, "worker-0", "state") == "state:c0:worker-0"
        assert views.key(START, "worker-1", "update") == "publish:worker-1"


async def test_a_buffer_that_replaced_another_is_granted_again(tmp_path):
    async with running(tmp_path, 2) as w:
        updates = Updates()
        views = StateViews(w.cluster, updates.get)
        updates.renew(w, "worker-1")
        slot, folding = w.slots["worker-0"], reads("worker-0", ("worker-1", "update"))
        await views.equip(slot, folding, START)
        updates.renew(w, "worker-1")
        before = w.node("worker-0").bytes_sent
        await views.equip(slot, folding, START)
        assert w.node("worker-0").bytes_sent > before


async def test_what_a_member_does_not_keep_is_an_error_that_names_it(tmp_path):
    async with running(tmp_path, 2) as w:
        views = StateViews(w.cluster, Updates().get)
        with pytest.raises(NodeUnavailable, match="worker-1 holds no update of c0"):
            views.key(START, "worker-1", "update")
        with pytest.raises(NodeUnavailable, match="worker-1 holds no state of c0"):
            await views.equip(w.slots["worker-0"], reads("worker-0", ("worker-1", "state")), START)


async def test_networks_of_one_member_do_not_share_a_state(tmp_path):
    async with running(tmp_path, 1) as w:
        views = StateViews(w.cluster, Updates().get)
        other = group(["worker-0"], params=[1.0, 1.0, 1.0, 1.0], key="c1")
        updates = [reads("worker-0"), reads("worker-0")]
        for network, folding in zip((START, other), updates, strict=True):
            await views.equip(w.slots["worker-0"], folding, network)
        one, two = (views.state_buffer(n, "worker-0") for n in (START, other))
        assert one is not two


async def test_the_engine_sums_what_members_keep_into_a_region_of_its_own(tmp_path):
    async with running(tmp_path, 2) as w:
        updates = Updates()
        for name, value in (("worker-0", 1.0), ("worker-1", 5.0)):
            updates.renew(w, name)
            held = {"params": START.state.params * 0 + value, "buffers": START.state.buffers}
            updates[name].store(held)
        views = StateViews(w.cluster, updates.get)
        views.fold_here(reads(ENGINE, ("worker-0", "update"), ("worker-1", "update")), START)
        slot = w.slots["worker-0"]
        await views.equip(slot, reads("worker-0", (ENGINE, "state")), START)
        assert views.key(START, ENGINE, "state") == "state:c0:engine"
        views.close()


async def test_after_a_release_everything_is_granted_anew(tmp_path):
    async with running(tmp_path, 2) as w:
        updates = Updates()
        views = StateViews(w.cluster, updates.get)
        updates.renew(w, "worker-1")
        slot, folding = w.slots["worker-0"], reads("worker-0", ("worker-1", "update"))
        await views.equip(slot, folding, START)
        await views.release()
        before = w.node("worker-0").bytes_sent
        await views.equip(slot, folding, START)
        assert w.node("worker-0").bytes_sent > before
