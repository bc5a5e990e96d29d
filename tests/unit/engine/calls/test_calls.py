"""Asking a slot: who has no process is not asked, and every call, failure and byte is counted once."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.calls.calls import NodeCalls, living
from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.state.metrics import Metrics
from flow_nexus_neural.errors import NodeDied, NodeFault, NodeTimeout, NodeUnavailable
from flow_nexus_neural.protocol.messages import Build, GetWeights, Ping
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import spec
from tests.unit.engine.building import slot
from tests.unit.engine.running import linear_runtime, virtual_time

SOON = Deadline(5.0, None)
PATIENCE = Patience(grant=Deadline(3.0, 3.0))


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def asking(runtime, category="train"):
    """A slot with a living node, and calls to it."""
    metrics = Metrics(anyio.current_time)
    made = slot("worker-0", state="healthy")
    made.attach(await runtime.start(spec()), anyio.current_time())
    return made, NodeCalls(metrics, anyio.current_time, category, PATIENCE), metrics


async def test_a_slot_without_a_process_is_unavailable_and_nothing_is_counted():
    metrics = Metrics(anyio.current_time)
    calls = NodeCalls(metrics, anyio.current_time, "train", PATIENCE)
    lost = slot("worker-0", state="failed", last_error="killed by SIGKILL")
    with pytest.raises(NodeUnavailable, match="no process: killed by SIGKILL") as refusal:
        await calls.ask(lost, Ping(), SOON)
    assert "replace worker-0" in refusal.value.hint
    assert (lost.calls, metrics.node_calls.values()) == (0, [])
    with pytest.raises(NodeUnavailable, match="no process: declared"):
        living(slot("worker-1"))


async def test_an_answer_counts_as_success_and_as_a_sign_of_life():
    async with linear_runtime() as runtime:
        asked, calls, metrics = await asking(runtime)
        await anyio.sleep(7)
        await calls.ask(asked, Build(network="net", plan=linear_plan(), seed=3), SOON)
        _, arrays = await calls.ask(asked, GetWeights(network="net"), SOON)
        assert arrays["params"].shape == (4,)
        assert metrics.node_calls.values() == [0.0, 0.0]
        assert (asked.calls, asked.heard_at_s) == (0, anyio.current_time())


@pytest.mark.parametrize(
    ("fault", "error"), [("kill", NodeDied), ("ignore", NodeTimeout), (None, NodeFault)]
)
async def test_every_failure_is_counted_and_none_is_a_sign_of_life(fault, error):
    faults = FaultPlan()
    if fault is not None:
        getattr(faults, fault)("worker-0", "get_weights")
    async with linear_runtime(faults) as runtime:
        asked, calls, metrics = await asking(runtime)
        heard_s = asked.heard_at_s
        await anyio.sleep(1)
        with pytest.raises(error):
            await calls.ask(asked, GetWeights(network="unknown"), SOON)
        assert (metrics.node_calls.values(), asked.calls) == ([1.0], 0)
        assert asked.heard_at_s == heard_s


async def test_a_call_is_under_way_until_it_is_answered_or_given_up():
    async with linear_runtime(FaultPlan().slow("worker-0", "ping", delay_s=2)) as runtime:
        asked, calls, metrics = await asking(runtime)
        async with anyio.create_task_group() as group:
            group.start_soon(calls.ask, asked, Ping(), SOON)
            await anyio.sleep(1)
            assert (asked.calls, metrics.node_calls.values()) == (1, [])
            group.cancel_scope.cancel()
        assert (asked.calls, metrics.node_calls.values()) == (0, [1.0])


async def test_every_byte_of_a_link_is_counted_once_under_the_category_that_asked():
    async with linear_runtime() as runtime:
        asked, calls, metrics = await asking(runtime)
        node = asked.handle
        await calls.ask(asked, Ping(), SOON)
        first = node.bytes_sent + node.bytes_received
        predicting = NodeCalls(metrics, anyio.current_time, "predict", PATIENCE)
        await predicting.ask(asked, Ping(), SOON)
        total = node.bytes_sent + node.bytes_received
        counted = metrics.bytes_by_category
        assert (counted["train"], counted["predict"]) == (first, total - first)
        calls.pulled(1000)
        assert metrics.communication_bytes == total + 1000
        assert counted["train"] == first + 1000


async def test_a_region_is_held_from_its_grant_to_its_revocation():
    services = []
    async with linear_runtime(services=services) as runtime:
        asked, calls, metrics = await asking(runtime, "sync")
        region = runtime.share("base:c0", {"params": np.arange(4, dtype="f4")})
        await calls.grant(asked, region)
        (service,) = services
        np.testing.assert_array_equal(service.regions["base:c0"]["params"], np.arange(4))
        await calls.revoke(asked, "base:c0")
        assert service.regions == {}
        node = asked.handle
        assert metrics.bytes_by_category["sync"] == node.bytes_sent + node.bytes_received
        region.close()


async def test_a_node_that_never_takes_a_grant_is_killed():
    async with linear_runtime(FaultPlan().ignore("worker-0", "grant")) as runtime:
        asked, calls, _ = await asking(runtime)
        region = runtime.share("base", {"params": np.zeros(4, "f4")})
        began_s = anyio.current_time()
        with pytest.raises(NodeTimeout, match="did not answer grant within 3 s and was killed"):
            await calls.grant(asked, region)
        assert anyio.current_time() - began_s == 3.0
        assert asked.handle.gone
        region.close()


async def test_a_process_that_is_gone_has_forgotten_its_regions_already():
    async with linear_runtime() as runtime:
        asked, calls, _ = await asking(runtime)
        await calls.revoke(asked)  # nothing to forget: nothing is sent
        sent = asked.handle.bytes_sent
        asked.handle.kill()
        await asked.handle.wait_exit()
        await calls.revoke(asked, "base")
        assert asked.handle.bytes_sent == sent
        asked.detach()
        await calls.revoke(asked, "base")
