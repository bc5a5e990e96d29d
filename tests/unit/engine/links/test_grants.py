"""Grants are carried out on nodes: buffers, tokens, views, and what is kept of a failure."""

import pytest

from flow_nexus_neural.engine.links.grants import LinkGrants
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.links.linked_nodes import FIRST_TOKEN, nodes

pytestmark = pytest.mark.anyio


async def equip(of, grants, topology="mesh", epoch=1):
    """Everything that a change of topology does, without trying the links."""
    grants.want(of.graph(topology), epoch)
    for slot in of.slots:
        grants.publish(slot)
    return await settle(of, grants)


async def settle(of, grants):
    changes = grants.due(of.slots.healthy())
    for change in changes:
        await grants.carry_out(of.slots[change.reader], change)
    return changes


async def test_each_node_announces_its_token_and_holds_its_own_key_and_its_neighbours():
    async with nodes(4) as of:
        grants = LinkGrants(of.context, of.calls)
        await equip(of, grants, "ring")
        tokens = [grants.token(slot.name) for slot in of.slots]
        assert tokens == [FIRST_TOKEN + number for number in range(4)]
        keys = [grants.key(slot.name) for slot in of.slots]
        assert grants.held("worker-0") == {keys[0], keys[1], keys[3]}
        assert grants.due(of.slots.healthy()) == ()
        assert await of.sights(of.slots["worker-0"], keys[0], keys[2]) == [tokens[0], None]
        grants.close()
        assert (grants.key("worker-0"), grants.token("worker-0")) == (None, None)
        assert grants.held("worker-0") == frozenset()


async def test_a_node_that_does_not_announce_has_a_fault_and_is_tried_again_later():
    faults = FaultPlan().ignore("worker-1", "announce")
    async with nodes(2, faults=faults, link_s=3.0) as of:
        grants = LinkGrants(of.context, of.calls)
        await equip(of, grants)
        assert grants.fault("worker-0") is None
        assert grants.fault("worker-1")
        own = grants.key("worker-1")
        assert own not in grants.held("worker-1")
        (again,) = await settle(of, grants)
        assert [publication.key for publication in again.grant] == [own]
        assert grants.fault("worker-1") is None
        assert own in grants.held("worker-1")
        grants.close()


async def test_only_new_buffers_of_others_are_to_be_tried_and_none_by_a_faulty_node():
    faults = FaultPlan().ignore("worker-2", "announce")
    async with nodes(3, faults=faults) as of:
        grants = LinkGrants(of.context, of.calls)
        changes = await equip(of, grants)
        tried = {c.reader: [a.slot for a in grants.to_try(c)] for c in changes}
        assert tried == {
            "worker-0": ["worker-1", "worker-2"],
            "worker-1": ["worker-0", "worker-2"],
            "worker-2": [],
        }
        one = grants.to_try(changes[0])[0]
        assert one.token == grants.token("worker-1")
        assert grants.is_current(one)
        grants.publish(of.slots["worker-1"])
        assert not grants.is_current(one)
        assert [a.slot for a in grants.to_try(changes[0])] == ["worker-2"]
        grants.close()


async def test_a_slot_without_a_buffer_keeps_that_as_its_fault_until_it_has_one(monkeypatch):
    async with nodes(2) as of:
        grants = LinkGrants(of.context, of.calls)
        await equip(of, grants)
        make = of.runtime.buffer

        def refuse(key, layout):
            if "worker-0" in key:
                raise OSError("no memory")
            return make(key, layout)

        monkeypatch.setattr(of.runtime, "buffer", refuse)
        await equip(of, grants, epoch=2)  # it still held keys of the first epoch, which are revoked
        assert grants.fault("worker-0") == "there is no link buffer for worker-0: no memory"
        assert grants.key("worker-0") is None
        assert grants.held("worker-0") == frozenset()
        assert grants.held("worker-1") == {grants.key("worker-1")}
        monkeypatch.undo()
        await equip(of, grants, epoch=3)
        assert grants.fault("worker-0") is None
        assert grants.key("worker-0") in grants.held("worker-1")
        grants.close()


async def test_the_incarnation_that_publishes_is_known_and_a_living_one_that_leaves_moves_others():
    async with nodes(3) as of:
        grants = LinkGrants(of.context, of.calls)
        await equip(of, grants)
        assert grants.publisher_id("worker-1") == of.slots["worker-1"].node_id
        assert grants.leave("worker-1", lives_on=True) == ("worker-0", "worker-2")
        assert grants.publisher_id("worker-1") is None
        assert grants.leave("worker-0", lives_on=False) == ()
        grants.close()
