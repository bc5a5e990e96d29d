"""Nodes on the event loop itself: no threads, virtual time, and one course for one seed."""

import threading

import anyio
import numpy as np
import pytest
from trio.testing import MockClock

from flow_nexus_neural.errors import (
    NodeDied,
    NodeError,
    NodeFault,
    NodeStartFailed,
    ProtocolViolation,
    RuntimeUnavailable,
)
from flow_nexus_neural.protocol.messages import Build, Cancel, GetWeights, Ping, Predict
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from tests.doubles.linear_service import LinearService, linear_plan
from tests.doubles.runtimes import LONG_TRAIN, TRAIN, prepare, spec
from tests.doubles.seeded import run_seeded

pytestmark = pytest.mark.anyio

N = 5
HOUR_S = 3600.0


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def inline(faults=None, service=lambda spec: LinearService(), **more):
    return InprocRuntime(service, faults, inline=True, **more)


def sent(node, request):
    """Send without waiting for an answer; a node that runs on this loop has not begun yet."""
    return node._conversation._begin(request, {}, None)


def plan_of_everything():
    return (
        FaultPlan()
        .kill("worker-1", "train", nth=2)
        .freeze("worker-2", "predict", nth=2)
        .garbage("worker-3", "ping", nth=2)
        .slow("worker-0", "train", delay_s=0.5)
        .slow("worker-4", "get_weights", delay_s=2.0)
    )


async def a_busy_day(faults):
    """Several callers ask several nodes at the same time, in the face of faults; gives every message."""
    trace = []

    def note(*event):
        trace.append((round(anyio.current_time() - began_s, 9), *event))

    async def ask(node, request, arrays=None):
        with anyio.move_on_after(10):
            try:
                await node.call(request, arrays)
            except NodeError:  # dead, or busy with a training
                return

    async def visit(node, number):
        await anyio.sleep(0.1 * (number % 2))
        for request in (Ping(), TRAIN, GetWeights(network="net"), Ping()):
            await ask(node, request)
        await ask(node, Predict(network="net"), {"x": np.ones((2, 3), "f4")})

    began_s = anyio.current_time()
    async with inline(faults, on_event=note) as runtime:
        nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(N)]
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(prepare, runtime, node)
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                for number in range(3):
                    tasks.start_soon(visit, node, number)
        await nodes[2].stop(grace_s=1)
    return tuple(trace)


@pytest.mark.parametrize("seed", range(3))
def test_two_runs_with_one_seed_and_one_plan_of_faults_give_the_same_messages(seed):
    first = run_seeded(a_busy_day, plan_of_everything(), seed=seed)
    assert run_seeded(a_busy_day, plan_of_everything(), seed=seed) == first
    ends = {slot: kind for _, slot, direction, kind in first if direction == "end"}
    assert ends == {
        "worker-0": "stopped",
        "worker-1": "killed",
        "worker-2": "killed",
        "worker-3": "protocol_violation",
        "worker-4": "stopped",
    }
    assert {"garbage", "trained", "outputs"} <= {event[3] for event in first}


def test_another_seed_gives_another_order_of_the_same_work():
    courses = [run_seeded(a_busy_day, FaultPlan(), seed=seed) for seed in range(6)]
    assert len(set(courses)) > 1
    asked = [sorted(event[1:] for event in c if event[2] == "to_node") for c in courses]
    assert asked == asked[:1] * len(courses)


async def test_no_thread_is_used(monkeypatch):
    here = threading.get_ident()
    seen = set()

    class Watched(LinearService):
        def handle(self, request, arrays, poll):
            seen.add((threading.get_ident(), request.kind))
            return super().handle(request, arrays, poll)

    def refuse(*_arguments, **_options):
        raise AssertionError("a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    monkeypatch.setattr(anyio.from_thread, "run_sync", refuse)
    async with inline(service=lambda spec: Watched()) as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        await node.call(TRAIN)
    assert seen == {(here, "build"), (here, "train")}


async def test_a_delay_is_kept_by_the_clock_of_the_loop():
    faults = FaultPlan().slow("worker-0", "ping", delay_s=HOUR_S)
    async with inline(faults) as runtime:
        node = await runtime.start(spec())
        began_s = anyio.current_time()
        await node.call(Ping())
        assert anyio.current_time() - began_s == pytest.approx(HOUR_S)
        await node.call(Ping())
        assert anyio.current_time() - began_s == pytest.approx(HOUR_S)


async def test_a_slow_node_is_killed_without_waiting_for_it():
    faults = FaultPlan().slow("worker-0", "train", delay_s=HOUR_S)
    async with inline(faults) as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        call = sent(node, TRAIN)
        await anyio.lowlevel.checkpoint()
        began_s = anyio.current_time()
        assert (await node.stop(grace_s=0)).reason == "killed"
        assert anyio.current_time() == began_s
        assert isinstance(call.failure, NodeDied)


async def test_requests_are_answered_in_the_order_of_arrival():
    order = []
    async with inline(on_event=lambda *event: order.append(event[1:])) as runtime:
        node = await runtime.start(spec())
        await node.call(Build(network="net", plan=linear_plan(), seed=3))
        order.clear()
        calls = [sent(node, r) for r in (Ping(), GetWeights(network="net"), Ping(), Cancel())]
        await calls[-1].answered.wait()
    assert order[:8] == [
        ("to_node", "ping"),
        ("to_node", "get_weights"),
        ("to_node", "ping"),
        ("to_node", "cancel"),
        ("from_node", "pong"),
        ("from_node", "weights"),
        ("from_node", "pong"),
        ("from_node", "done"),
    ]


async def test_what_has_arrived_before_a_training_begins_is_answered_between_its_steps():
    async with inline() as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        train, ping, cancel = [sent(node, r) for r in (LONG_TRAIN, Ping(), Cancel())]
        for call in (train, ping, cancel):
            await call.answered.wait()
        assert ping.reply.busy == "train"
        assert (train.reply.kind, train.reply.type) == ("failed", "cancelled")
        assert (await node.call(TRAIN))[0].kind == "trained"


async def test_a_delayed_request_behind_a_training_waits_for_its_end():
    order = []
    faults = FaultPlan().slow("worker-0", "ping", delay_s=1.0)
    async with inline(faults, on_event=lambda *event: order.append(event[2])) as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        order.clear()
        calls = [sent(node, request) for request in (TRAIN, Ping(), Cancel())]
        began_s = anyio.current_time()
        await calls[-1].answered.wait()
        assert anyio.current_time() - began_s == pytest.approx(1.0)
    assert order[3:6] == ["trained", "pong", "done"]


@pytest.mark.parametrize("fault", ["kill", "freeze", "garbage"])
async def test_a_fault_of_a_quick_request_strikes_a_node_that_trains(fault):
    faults = getattr(FaultPlan(), fault)("worker-0", "ping")
    async with inline(faults) as runtime:
        node = await runtime.start(spec())
        await prepare(runtime, node)
        train, ping = sent(node, LONG_TRAIN), sent(node, Ping())
        with anyio.move_on_after(10) as patience:
            await train.answered.wait()
        assert patience.cancelled_caught == (fault == "freeze")
        exit_ = await node.stop(grace_s=1)
        assert exit_.reason == ("protocol_violation" if fault == "garbage" else "killed")
        for call in (train, ping):
            expected = ProtocolViolation if fault == "garbage" else NodeDied
            assert isinstance(call.failure, expected)


async def test_closing_ends_nodes_in_every_state():
    faults = FaultPlan().freeze("worker-1", "ping").slow("worker-2", "ping", delay_s=HOUR_S)
    async with inline(faults) as runtime:
        nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(5)]
        calls = [sent(node, Ping()) for node in nodes[1:3]]
        await nodes[3].stop()
        nodes[4]._kill("killed: from outside")
        await runtime.aclose()
        assert [node.gone for node in nodes] == [True] * 5
        assert all(isinstance(call.failure, NodeDied) for call in calls)
        with pytest.raises(RuntimeUnavailable):
            await runtime.start(spec())
        await runtime.aclose()


async def test_a_start_that_raises_leaves_nothing():
    def refuse(spec):
        raise RuntimeError("refused to be born")

    async with inline(service=refuse) as runtime:
        with pytest.raises(NodeStartFailed, match="refused to be born") as caught:
            await runtime.start(spec())
        assert caught.value.details["reason"] == "node_bug"
        assert all(node.gone for node in runtime.nodes)


async def test_a_fault_in_the_work_is_a_fault_and_the_node_lives():
    async with inline() as runtime:
        node = await runtime.start(spec())
        with pytest.raises(NodeFault):
            await node.call(GetWeights(network="unheard of"))
        assert (await node.call(Ping()))[0].kind == "pong"
