"""A version reaches the nodes that serve it: in the copy that nobody reads, and checked by digest."""

from dataclasses import replace
from functools import partial

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.versions.loading import (
    adopt,
    catch_up,
    expected_slots,
    load,
    load_everywhere,
    serving_name,
    serving_slots,
    share_weights,
    synchronise,
)
from flow_nexus_neural.errors import NodeDied, SyncMismatch
from flow_nexus_neural.protocol.messages import GetWeights
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.doubles.runtimes import until
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, slot
from tests.unit.engine.running import running, virtual_time

WIDE = ({"type": "dense", "units": 8}, {"type": "dense", "units": 1})


@pytest.fixture
def anyio_backend():
    return virtual_time()


def other_weights(group, shift=1.0):
    """The same network group with other weights."""
    return group.with_state(replace(group.state, params=group.state.params + np.float32(shift)))


def names(slots):
    return [one.name for one in slots]


async def held(w, name, parity):
    """The weights that a node says it holds in one serving copy."""
    reply, arrays = await w.node(name).call(GetWeights(network=serving_name(parity)))
    return reply.digest, arrays["params"]


class Forgetful(LinearService):
    """Answers a load with the digest of something else."""

    def on_load(self, request, arrays, poll):
        reply, arrays = super().on_load(request, arrays, poll)
        return reply.model_copy(update={"digest": "0" * 64}), arrays


async def trained(w):
    await w.train()
    return w.committed.networks["c0"], w.committed.bundle.parity


async def test_a_node_that_loaded_holds_the_committed_weights_in_one_copy_only(tmp_path):
    async with running(tmp_path, 2) as w:
        group, parity = await trained(w)
        newer = other_weights(group)
        region = await share_weights(w.engine.context, newer, "test")
        made = w.slots["worker-0"]
        await load(w.cluster.calls("sync"), made, newer, 1 - parity, region)
        region.close()
        digest, params = await held(w, "worker-0", 1 - parity)
        assert digest == newer.digest == made.served[serving_name(1 - parity)]
        np.testing.assert_array_equal(params, newer.state.params)
        assert (await held(w, "worker-0", parity))[0] == group.digest
        assert made in serving_slots(w.cluster)  # the copy that answers was not touched


async def test_a_copy_is_built_once_and_its_region_is_forgotten_after_the_load(tmp_path):
    services, faults = [], FaultPlan()

    def make(spec):
        services.append(LinearService())
        return services[-1]

    async with running(tmp_path, 1, faults=faults, service=make) as w:
        group, parity = await trained(w)
        builds = faults.met("worker-0", "build")
        before = w.cluster.metrics.bytes_by_category["sync"]
        region = await share_weights(w.engine.context, group, "test")
        for _ in range(2):
            await load(w.cluster.calls("sync"), w.slots["worker-0"], group, parity, region)
        assert faults.met("worker-0", "build") == builds
        assert region.key not in services[0].regions
        assert w.cluster.metrics.bytes_by_category["sync"] - before > 2 * region.nbytes
        region.close()


async def test_a_copy_of_another_network_is_built_anew(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 1, faults=faults) as w:
        group, parity = await trained(w)
        w.slots["worker-0"].note_built(serving_name(parity), "another plan")
        builds = faults.met("worker-0", "build")
        await synchronise(w.cluster, w.slots["worker-0"])
        assert faults.met("worker-0", "build") == builds + 1
        assert w.slots["worker-0"].built[serving_name(parity)] == group.plan_digest


async def test_a_node_that_holds_something_else_is_refused_and_does_not_serve(tmp_path):
    def make(spec):
        return Forgetful() if spec.slot == "worker-1" else LinearService()

    async with running(tmp_path, 2, service=make) as w:
        group, _ = await trained(w)
        assert names(serving_slots(w.cluster)) == ["worker-0"]
        assert names(expected_slots(w.cluster)) == ["worker-0", "worker-1"]
        assert "sync_mismatch" in w.slots["worker-1"].last_error
        with pytest.raises(SyncMismatch, match=f"000000000000 after loading {group.digest[:12]}"):
            await synchronise(w.cluster, w.slots["worker-1"])


async def test_one_node_that_fails_while_loading_keeps_no_other_from_it(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults) as w:
        group, parity = await trained(w)
        newer = other_weights(group)
        faults.kill("worker-1", "load", nth=faults.met("worker-1", "load") + 1)
        await load_everywhere(w.cluster, [newer], 1 - parity)
        for name in ("worker-0", "worker-2"):
            assert (await held(w, name, 1 - parity))[0] == newer.digest
        assert w.slots["worker-1"].last_error.startswith("node_died")
        assert names(serving_slots(w.cluster)) == ["worker-0", "worker-2"]


async def test_weights_that_are_not_known_cannot_be_shared(tmp_path):
    async with running(tmp_path, 0) as w:
        with pytest.raises(ValueError, match="c0 has no weights"):
            await share_weights(w.engine.context, network(), "test")


async def test_there_is_nothing_to_synchronise_before_the_first_version_or_outside_of_it(tmp_path):
    async with running(tmp_path, 1) as w:
        assert await synchronise(w.cluster, w.slots["worker-0"]) is False
        await w.train()
        await w.deploy(layers=WIDE)
        assert await synchronise(w.cluster, w.slots["worker-1"]) is False
        assert await synchronise(w.cluster, w.slots["worker-0"]) is True


async def test_a_synchronisation_with_a_dead_node_fails_and_leaves_no_region_open(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 1, faults=faults) as w:
        await w.train()
        faults.kill("worker-0", "load", nth=faults.met("worker-0", "load") + 1)
        with pytest.raises(NodeDied):
            await synchronise(w.cluster, w.slots["worker-0"])
        await anyio.wait_all_tasks_blocked()
        assert serving_slots(w.cluster) == []


async def test_who_came_while_a_version_was_installed_catches_up(tmp_path):
    async with running(tmp_path, 3) as w:
        group, parity = await trained(w)
        for late in ("worker-1", "worker-2"):
            w.slots[late].served.clear()
        assert names(serving_slots(w.cluster)) == ["worker-0"]
        asked = {w.slots[name].node_id for name in ("worker-0", "worker-1")}
        await catch_up(w.cluster, asked)  # worker-1 was there: it failed at it
        assert names(serving_slots(w.cluster)) == ["worker-0", "worker-2"]
        assert (await held(w, "worker-2", parity))[0] == group.digest


async def test_a_member_that_comes_back_while_a_version_is_installed_serves_that_version(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults) as w:
        await trained(w)
        before = w.committed.version
        await w.kill("worker-1")
        faults.slow("worker-0", "load", delay_s=5, nth=faults.met("worker-0", "load") + 1)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(w.train, epochs=1))
            await until(lambda: w.cluster.state.installing is not None)
            group.start_soon(partial(w.deploy, layers=None))
            await until(lambda: w.slots["worker-1"].healthy)
            assert w.cluster.state.installing is not None  # worker-0 is still loading it
        assert (
            w.committed.version == before + 1
        )  # and no later version, which would be loaded into all
        assert names(serving_slots(w.cluster)) == ["worker-0", "worker-1", "worker-2"]
        assert (await w.predict()).nodes_used == 3


def at_rest(*slots, members=("worker-0",)):
    state = cluster_state()
    for one in slots:
        state.slots.add(one)
    weights = {name: 1 / len(members) for name in members}
    state.commit(committed([network(slots=members)], bundle(weights)))
    return live(state)


def test_a_worker_with_the_layers_of_a_trained_network_adopts_it():
    new = slot("worker-1")
    cluster = at_rest(slot("worker-0"), new)
    adopt(cluster, new)
    assert cluster.committed.members == {"worker-0": "c0", "worker-1": "c0"}
    assert new.parameters == cluster.committed.networks["c0"].plan.n_params
    adopt(cluster, new)  # once only
    assert cluster.committed.networks["c0"].slots == ("worker-0", "worker-1")


def test_nobody_else_adopts_a_network():
    other = slot("worker-1")
    other.spec = replace(other.spec, layers=WIDE)
    validator = slot("validator-0")
    cluster = at_rest(slot("worker-0"), other, validator)
    for one in (other, validator):
        adopt(cluster, one)
    assert cluster.committed.members == {"worker-0": "c0"}
    untrained = live(cluster_state())
    adopt(untrained, slot("worker-0"))
    assert untrained.committed is None


def test_only_a_healthy_slot_with_the_right_copy_serves():
    present = {serving_name(1): "d0"}
    slots = [
        slot("worker-0", state="healthy", handle=object(), served=dict(present)),
        slot("worker-1", state="healthy", handle=object(), served={serving_name(0): "d0"}),
        slot("worker-2", state="healthy", handle=object(), served={serving_name(1): "old"}),
        slot("worker-3", state="failed", served=dict(present)),
        slot("worker-4", state="healthy", handle=object(), served=dict(present)),
    ]
    cluster = at_rest(*slots, members=("worker-0", "worker-1", "worker-2", "worker-3"))
    assert names(serving_slots(cluster)) == ["worker-0"]
    assert names(expected_slots(cluster)) == ["worker-0", "worker-1", "worker-2", "worker-3"]
    earlier = committed([network(slots=("worker-1",))], bundle({"worker-1": 1.0}, parity=0))
    assert names(serving_slots(cluster, earlier)) == ["worker-1"]
    assert serving_slots(live(cluster_state())) == expected_slots(live(cluster_state())) == []
