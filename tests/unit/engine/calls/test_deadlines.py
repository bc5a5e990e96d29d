"""Waiting on a node ends in time: a slow one lives, a frozen one is killed, and the error says which."""

import anyio
import pytest

from flow_nexus_neural.engine.calls.deadlines import ask, in_time
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.errors import NodeDied, NodeFault, NodeTimeout
from flow_nexus_neural.protocol.messages import GetWeights, Ping
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.runtimes import spec
from tests.unit.engine.running import linear_runtime, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def started(runtime):
    return await runtime.start(spec())


async def test_an_answer_in_time_is_returned_and_no_time_is_spent():
    async with linear_runtime() as runtime:
        node, began_s = await started(runtime), anyio.current_time()
        pong, arrays = await ask(node, Ping(), Deadline(5.0, None))
        assert (pong.kind, arrays) == ("pong", {})
        assert anyio.current_time() == began_s


async def test_a_slow_node_costs_the_answer_deadline_and_lives():
    async with linear_runtime(FaultPlan().slow("worker-0", "ping", delay_s=60)) as runtime:
        node, began_s = await started(runtime), anyio.current_time()
        with pytest.raises(NodeTimeout, match="did not answer ping within 5 s") as timeout:
            await ask(node, Ping(), Deadline(5.0, None))
        assert anyio.current_time() - began_s == 5.0
        assert timeout.value.details == {"slot": "worker-0", "killed": False}
        assert not node.gone
        await anyio.sleep(60)
        await ask(node, Ping(), Deadline(5.0, None))  # the late reply is not taken for this one's


async def test_a_node_that_answers_a_ping_before_the_second_deadline_is_spared():
    async with linear_runtime(FaultPlan().ignore("worker-0", "ping")) as runtime:
        node = await started(runtime)
        with pytest.raises(NodeTimeout) as timeout:
            await ask(node, Ping(), Deadline(2.0, 10.0))
        assert timeout.value.details["killed"] is False
        assert not node.gone


async def test_a_node_that_stays_silent_until_the_second_deadline_is_killed_before_the_error():
    async with linear_runtime(FaultPlan().freeze("worker-0", "ping")) as runtime:
        node, began_s = await started(runtime), anyio.current_time()
        with pytest.raises(NodeTimeout, match="and was killed") as timeout:
            await ask(node, Ping(), Deadline(2.0, 10.0))
        assert anyio.current_time() - began_s == 10.0
        assert (timeout.value.details["killed"], node.gone) == (True, True)
        assert timeout.value.hint.startswith("call neural_cluster_status")


async def test_where_both_deadlines_are_one_nobody_is_pinged_before_the_kill():
    faults = FaultPlan().ignore("worker-0", "get_weights")
    async with linear_runtime(faults) as runtime:
        node, began_s = await started(runtime), anyio.current_time()
        with pytest.raises(NodeTimeout, match="and was killed"):
            await ask(node, GetWeights(network="net"), Deadline(3.0, 3.0))
        assert anyio.current_time() - began_s == 3.0
        assert (node.gone, faults.met("worker-0", "ping")) == (True, 0)


async def test_what_a_node_answers_or_dies_of_is_raised_as_it_is():
    faults = FaultPlan().kill("worker-0", "ping")
    async with linear_runtime(faults) as runtime:
        node = await started(runtime)
        with pytest.raises(NodeFault) as fault:
            await ask(node, GetWeights(network="nowhere"), Deadline(5.0, 10.0))
        assert fault.value.details["type"] == "KeyError"
        with pytest.raises(NodeDied):
            await ask(node, Ping(), Deadline(5.0, 10.0))


async def test_a_node_that_ends_while_it_is_doubted_is_not_called_frozen():
    async with linear_runtime(FaultPlan().freeze("worker-0", "ping")) as runtime:
        node = await started(runtime)

        async def end_it():
            await anyio.sleep(4)
            node.kill()

        async with anyio.create_task_group() as group:
            group.start_soon(end_it)
            with pytest.raises(NodeTimeout) as failure:
                await in_time(node, "a long call", Deadline(2.0, 30.0), anyio.sleep_forever)
        assert failure.value.details["killed"] is False


async def test_the_callers_own_cancellation_is_no_timeout():
    async with linear_runtime(FaultPlan().freeze("worker-0", "ping")) as runtime:
        node = await started(runtime)
        with anyio.move_on_after(1.0) as scope:
            await ask(node, Ping(), Deadline(5.0, 10.0))
        assert scope.cancelled_caught
        assert not node.gone
