"""Planned faults happen to the request that the plan names, and look like the real ones."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import NodeDied, ProtocolViolation
from flow_nexus_neural.protocol.messages import Cancel, Ping, Predict
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import LONG_TRAIN, TRAIN, open_runtime, prepare, spec

pytestmark = pytest.mark.anyio

MODES = ("inproc", "inproc-inline")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("kind", MODES)
async def test_a_planned_kill_hits_the_nth_request_of_its_kind_and_slot(kind):
    plan = FaultPlan().kill("worker-1", "train", nth=2)
    async with open_runtime(kind, plan) as runtime:
        nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(3)]
        for node in nodes:
            await prepare(runtime, node)
            assert (await node.call(TRAIN))[0].kind == "trained"
        with pytest.raises(NodeDied) as caught:
            await nodes[1].call(TRAIN)
        assert caught.value.details["reason"] == "killed"
        for node in (nodes[0], nodes[2]):
            assert (await node.call(TRAIN))[0].kind == "trained"
        heir = await runtime.start(spec("worker-1", incarnation=2))
        await prepare(runtime, heir)
        assert (await heir.call(TRAIN))[0].kind == "trained"


@pytest.mark.parametrize("kind", MODES)
async def test_a_frozen_node_answers_nothing_until_it_is_killed(kind):
    plan = FaultPlan().freeze("worker-0", "ping", nth=2)
    async with open_runtime(kind, plan) as runtime:
        node = await runtime.start(spec())
        await node.call(Ping())
        for request in (Ping(), Cancel()):
            with anyio.move_on_after(0.02) as waiting:
                await node.call(request)
            assert waiting.cancelled_caught
        assert (await node.stop(grace_s=0.02)).reason == "killed"


@pytest.mark.parametrize("kind", MODES)
async def test_garbage_is_a_violation(kind):
    plan = FaultPlan().garbage("worker-0", "ping")
    async with open_runtime(kind, plan) as runtime:
        node = await runtime.start(spec())
        with pytest.raises(ProtocolViolation):
            await node.call(Ping())
        assert (await node.wait_exit()).reason == "protocol_violation"


@pytest.mark.parametrize("kind", MODES)
async def test_a_slow_node_answers_later(kind):
    plan = FaultPlan().slow("worker-0", "ping", delay_s=0.1)
    async with open_runtime(kind, plan) as runtime:
        node = await runtime.start(spec())
        with anyio.move_on_after(0.01) as waiting:
            await node.call(Ping())
        assert waiting.cancelled_caught
        with anyio.fail_after(HANG_S):
            assert (await node.call(Ping()))[0].kind == "pong"


@pytest.mark.parametrize("fault", ["kill", "freeze", "garbage"])
async def test_a_fault_of_a_quick_request_strikes_a_node_that_trains(fault):
    plan = getattr(FaultPlan(), fault)("worker-0", "predict")
    async with open_runtime("inproc", plan) as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        outcome = []

        async def train():
            with pytest.raises((NodeDied, ProtocolViolation)):
                await node.call(LONG_TRAIN)
            outcome.append("ended")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(train)
            with anyio.fail_after(HANG_S):
                while (await node.call(Ping()))[0].busy != "train":
                    await anyio.lowlevel.checkpoint()
            with anyio.move_on_after(0.05), pytest.raises((NodeDied, ProtocolViolation)):
                await node.call(Predict(network="net"), {"x": np.zeros((1, 3), "f4")})
            exit_ = await node.stop(grace_s=0.01)
        assert outcome == ["ended"]
        assert exit_.reason == ("protocol_violation" if fault == "garbage" else "killed")
