"""Nodes that die, freeze, lie, or never come up: real processes."""

import gc
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import (
    Fenced,
    NodeDied,
    NodeError,
    NodeFault,
    NodeStartFailed,
    ProtocolViolation,
)
from flow_nexus_neural.protocol.codec import FrameLimits, encode
from flow_nexus_neural.protocol.messages import (
    Build,
    GetWeights,
    Outputs,
    Ping,
    Pong,
    Predict,
    Ready,
)
from flow_nexus_neural.runtime.local.node import Lines, LocalNode
from flow_nexus_neural.runtime.local.zygote_client import Child
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import (
    LONG_TRAIN,
    descriptors,
    gone,
    open_runtime,
    prepare,
    spec,
    until,
)

pytestmark = pytest.mark.anyio

RAISES, EXITS, STAYS_SILENT, SPEAKS_FIRST = 9001, 9002, 9003, 9004
NO_ROWS = {"x": np.zeros((0, 3), "f4")}


async def ask(node, behaviour, arrays=NO_ROWS):
    """Make the rogue do what the network's name says."""
    with anyio.fail_after(HANG_S):
        return await node.call(Predict(network=behaviour), arrays)


async def test_an_exit_tells_signal_status_and_what_it_cost(node):
    os.kill(node.pid, signal.SIGKILL)
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.returncode, exit_.signal) == ("killed", -9, "SIGKILL")
    assert exit_.sentence == "killed by SIGKILL"
    assert exit_.cpu_s > 0
    assert exit_.max_rss_bytes > 1 << 20


@pytest.mark.parametrize("status", [0, 9, 70, 71])
async def test_a_node_cannot_choose_how_its_end_is_told(node, status):
    with pytest.raises(NodeDied):
        await ask(node, "leave", {**NO_ROWS, "status": np.array([status], "i4")})
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.returncode) == ("node_bug", status)
    assert "after it was asked" not in exit_.sentence


async def test_a_crash_is_told_as_one_with_its_last_words(node):
    with pytest.raises(NodeDied) as caught:
        await ask(node, "talk")
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.signal) == ("crashed", "SIGABRT")
    assert caught.value.details["reason"] == "crashed"
    assert exit_.stderr_tail.endswith("last words")
    assert len(exit_.stderr_tail) == 4096


@pytest.mark.parametrize("behaviour", ["stop_itself", "loop_for_ever"])
async def test_a_frozen_node_is_stopped_by_force_after_its_grace(runtime, behaviour):
    node = await runtime.start(spec("frozen"))
    other = await runtime.start(spec("other"))
    with anyio.move_on_after(0.05) as waiting:
        await ask(node, behaviour)
    assert waiting.cancelled_caught
    assert not gone(node.pid)
    assert (await other.call(Ping()))[0].kind == "pong"
    exit_ = await node.stop(grace_s=0.05)
    assert (exit_.reason, exit_.signal) == ("killed", "SIGKILL")
    assert "grace" in exit_.sentence
    assert gone(node.pid)
    await other.stop()


async def test_calls_that_wait_on_a_frozen_node_fail_when_it_is_killed(node):
    outcome = []

    async def wait():
        with pytest.raises(NodeDied):
            await ask(node, "stop_itself")
        outcome.append("told")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await until(lambda: stopped(node.pid))
        await node.stop(grace_s=0)
    assert outcome == ["told"]


def stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


async def test_garbage_kills_the_node_that_sent_it_and_no_other(runtime, node):
    other = await runtime.start(spec("other"))
    with pytest.raises(ProtocolViolation):
        await ask(node, "garbage")
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.signal) == ("protocol_violation", "SIGKILL")
    assert gone(node.pid)
    assert (await other.call(Ping()))[0].kind == "pong"
    await other.stop()


def reply(call_id, message, arrays=None, incarnation=1):
    return b"".join(encode(call_id, incarnation, message, arrays or {}))


# The rogue is asked by its second call: a Build makes the network `raw` known, then it is told what to send.
LIES = {
    "an old incarnation": (reply(2, Outputs(digest=None), incarnation=0), Fenced),
    "a call never asked": (reply(3, Outputs(digest=None)), ProtocolViolation),
    "a call already answered": (reply(1, Outputs(digest=None)), ProtocolViolation),
    "another kind": (
        reply(2, Pong(busy=None, steps_done=0, longest_step_ms=0.0)),
        ProtocolViolation,
    ),
    "no arrays": (reply(2, Outputs(digest=None)), ProtocolViolation),
    "more rows": (
        reply(2, Outputs(digest=None), {"y": np.zeros((1 << 20, 1), "f4")}),
        ProtocolViolation,
    ),
    "another type": (
        reply(2, Outputs(digest=None), {"y": np.zeros((1, 1), "f8")}),
        ProtocolViolation,
    ),
    "another name": (
        reply(2, Outputs(digest=None), {"z": np.zeros((1, 1), "f4")}),
        ProtocolViolation,
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_node_is_killed(node, lie):
    data, error = LIES[lie]
    await node.call(Build(network="raw", plan=linear_plan(), seed=1))
    with pytest.raises(error):
        await ask(node, "raw", {"x": np.zeros((1, 3), "f4"), "raw": np.frombuffer(data, "u1")})
    assert (await node.wait_exit()).reason == "protocol_violation"
    assert gone(node.pid)


async def test_the_truth_in_the_same_form_is_believed(node):
    data = reply(2, Outputs(digest=None), {"y": np.full((1, 1), 7, "f4")})
    await node.call(Build(network="raw", plan=linear_plan(), seed=1))
    _, arrays = await ask(
        node, "raw", {"x": np.zeros((1, 3), "f4"), "raw": np.frombuffer(data, "u1")}
    )
    assert arrays["y"].item() == 7


async def test_half_a_frame_is_no_answer(node):
    data = reply(2, Outputs(digest=None), {"y": np.full((1, 1), 7, "f4")})[:-1]
    await node.call(Build(network="raw", plan=linear_plan(), seed=1))
    with anyio.move_on_after(0.1) as waiting:
        await ask(node, "raw", {"x": np.zeros((1, 3), "f4"), "raw": np.frombuffer(data, "u1")})
    assert waiting.cancelled_caught
    assert (await node.stop(grace_s=0)).reason == "killed"


async def test_a_node_that_hangs_up_and_lives_on_is_killed(node):
    with pytest.raises(NodeDied):
        await ask(node, "hang_up")
    assert (await node.wait_exit()).reason == "protocol_violation"
    assert gone(node.pid)


async def test_memory_above_the_limit_is_refused_and_the_node_lives(runtime):
    node = await runtime.start(spec("small", memory_mb=64))
    with pytest.raises(NodeFault) as caught:
        await ask(node, "allocate")
    assert "Memory" in caught.value.details["type"]
    assert (await node.call(Ping()))[0].kind == "pong"
    await node.stop()


@pytest.mark.parametrize(
    ("seed", "timeout_s", "reason", "words"),
    [
        (RAISES, HANG_S, "node_bug", "refused to be born"),
        (EXITS, HANG_S, "node_bug", ""),
        (STAYS_SILENT, 0.2, None, ""),
        (SPEAKS_FIRST, HANG_S, "protocol_violation", ""),
    ],
)
async def test_a_failed_start_leaves_nothing_behind(runtime, seed, timeout_s, reason, words):
    await (await runtime.start(spec())).stop()
    before = descriptors()
    with pytest.raises(NodeStartFailed) as caught:
        await runtime.start(spec("stillborn", seed=seed), ready_timeout_s=timeout_s)
    assert caught.value.details.get("reason") == reason
    assert words in str(caught.value.details.get("stderr_tail", ""))
    assert sorted(descriptors()) == sorted(before)
    assert children(runtime.zygote_info().pid) == []


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as names:
        return [child for child in names.read().split() if not gone(child)]


async def test_a_cancelled_start_leaves_nothing_behind(runtime):
    before = descriptors()
    zygote = runtime.zygote_info().pid
    for rounds in range(4):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.start, spec("unwanted", seed=STAYS_SILENT))
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            if rounds == 3:
                await until(lambda: children(zygote) != [])
            tasks.cancel_scope.cancel()
        await until(lambda: children(zygote) == [])
        await until(lambda: sorted(descriptors()) == sorted(before))


async def test_a_cancelled_owner_loses_no_node():
    nodes = []
    with anyio.CancelScope() as scope:
        async with open_runtime("local") as runtime:
            nodes += [await runtime.start(spec(f"worker-{n}")) for n in range(2)]
            zygote = runtime.zygote_info().pid
            with anyio.move_on_after(0.05):
                await ask(nodes[1], "stop_itself")
            scope.cancel()
            await anyio.sleep_forever()
    assert [gone(node.pid) for node in nodes] == [True, True]
    assert gone(zygote)


async def test_thirty_starts_and_stops_leave_no_descriptor(runtime):
    async def cycle(number):
        node = await runtime.start(spec(f"worker-{number}"))
        buffer = await prepare(runtime, node)
        if number % 3 == 0:
            os.kill(node.pid, signal.SIGKILL)
            await node.wait_exit()
        else:
            await node.stop(grace_s=0.5 * (number % 2))
        buffer.close()
        return node.pid

    await cycle(0)
    before = descriptors()
    pids = [await cycle(number) for number in range(30)]
    after = descriptors()
    assert sorted(after) == sorted(before)
    assert not [link for link in after.values() if "memfd" in link]
    assert all(gone(pid) for pid in pids)


async def test_a_large_reply_and_a_large_request_pass_whole(node):
    plan = linear_plan(features=60_000)
    await node.call(Build(network="wide", plan=plan, seed=1))
    x = np.ones((3, 60_000), "f4")
    _, arrays = await node.call(Predict(network="wide"), {"x": x})
    assert arrays["y"].shape == (3, 1)
    assert node.bytes_sent > x.nbytes


async def test_memory_of_a_node_is_read_from_the_system(runtime):
    node = await runtime.start(spec())
    reading = node.memory()
    assert reading.source in ("pss", "rss_growth")
    await node.call(Build(network="keep_mb", plan=linear_plan(), seed=1))
    await ask(node, "keep_mb", {"mb": np.array([40], "f4"), "x": np.zeros((1, 3), "f4")})
    grown = node.memory().nbytes - reading.nbytes
    assert 40 << 20 <= grown < 60 << 20
    await node.stop()
    assert node.memory() is None


async def test_a_confined_node_gives_back_what_it_freed_once_a_long_request_is_answered(runtime):
    node = await runtime.start(spec())
    await node.call(Build(network="free_mb", plan=linear_plan(), seed=1))
    at_rest = node.memory().nbytes
    await ask(node, "free_mb", {"mb": np.array([40], "f4"), "x": np.zeros((1, 3), "f4")})
    assert node.memory().nbytes - at_rest > 30 << 20, "kept for the next prediction"
    await node.call(GetWeights(network="free_mb"))
    await node.call(Ping())  # is read only after that
    assert node.memory().nbytes - at_rest < 5 << 20
    await node.stop()


async def test_a_node_that_used_up_its_processor_time_says_so(runtime):
    node = await runtime.start(spec("busy", cpu_s=1))
    with pytest.raises(NodeDied):
        await ask(node, "loop_for_ever")
    exit_ = await node.wait_exit()
    assert (exit_.reason, exit_.signal) == ("cpu_limit", "SIGXCPU")
    assert exit_.cpu_s > 0.5


async def test_starting_without_free_descriptors_fails_and_leaks_none(runtime):
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(6):
        highest = max(int(number) for number in before)
        blocked = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest + 1 - len(before))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))
        try:
            node = await runtime.start(spec("last"))
        except NodeStartFailed:
            node = None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in blocked:
                os.close(descriptor)
        if node is not None:
            await node.stop()
        await until(lambda: children(runtime.zygote_info().pid) == [])
        assert sorted(descriptors()) == sorted(before)
    assert node is not None


async def test_a_storm_of_starts_kills_and_cancellations_leaves_nothing(runtime):
    draw = np.random.Generator(np.random.PCG64(3))
    before = descriptors()
    zygote = runtime.zygote_info().pid
    tally = Counter()

    async def life(number, choices):
        buffer = runtime.buffer("mine", [("params", "f4", (4,))])
        try:
            node = await runtime.start(spec(f"worker-{number}"))
            await node.grant(buffer)
            (await prepare(runtime, node)).close()
            with anyio.move_on_after(0.02 * choices[0]):
                await node.call(LONG_TRAIN)
            if choices[1] == 0:
                os.kill(node.pid, signal.SIGSTOP)
            elif choices[1] == 1:
                os.kill(node.pid, signal.SIGKILL)
            elif choices[1] == 2:
                await ask(node, "garbage")
            exit_ = await node.stop(grace_s=0.1 * choices[2])
            tally[exit_.reason] += 1
        except NodeError as failure:
            tally[failure.code] += 1
        finally:
            buffer.close()

    async with anyio.create_task_group() as tasks:
        for number in range(24):
            tasks.start_soon(life, number, draw.integers(4, size=3).tolist())
            if number % 6 == 5:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await runtime.start(spec("unwanted"))
        await until(lambda: tally.total() >= 12)
        tasks.cancel_scope.cancel()
    survivors = [node for node in runtime.nodes if not node.gone]
    for node in survivors:
        await node.stop(grace_s=0)
    await until(lambda: children(zygote) == [])
    gc.collect()
    assert {n: link for n, link in descriptors().items() if n not in before} == {}
    assert tally["killed"] > 0


async def test_a_node_that_cannot_confine_itself_does_not_start(runtime):
    with pytest.raises(NodeStartFailed) as caught:
        await runtime.start(spec("unbound", max_regions=-100))
    assert caught.value.details["reason"] == "confinement_failed"
    assert "rlimits" in caught.value.details["stderr_tail"]


TRACER = """
import ctypes, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = (ctypes.c_long,) * 4
SEIZE, INTERRUPT = 0x4206, 0x4207
for request in (SEIZE, INTERRUPT):
    if ptrace(request, int(sys.argv[1]), 0, 0) == -1:
        print("refused", ctypes.get_errno(), flush=True)
        sys.exit()
print("traced", flush=True)
sys.stdin.read()
"""


def trace(pid):
    return subprocess.Popen(
        [sys.executable, "-c", TRACER, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_a_node_stopped_by_a_tracer_is_killed_although_the_tracer_keeps_its_corpse(node):
    with trace(node.pid) as tracer:
        if tracer.stdout.readline() != "traced\n":
            pytest.skip("the kernel refuses to trace a node here, which is what it should do")
        with anyio.move_on_after(0.05) as waiting:
            await node.call(Ping())
        assert waiting.cancelled_caught
        with anyio.fail_after(HANG_S):
            exit_ = await node.stop(grace_s=0.05)
        assert exit_.reason == "killed"
        assert gone(node.pid)
        tracer.kill()


async def test_descriptors_that_a_node_sends_are_dropped():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        child = Child(pid=0, pidfd=-1)
        node = LocalNode(spec(), FrameLimits(), Lines(child, ours, -1), lambda: False)
        before = descriptors()
        ready = Ready(node_id="worker-0#1", incarnation=1, runtime="r", steps={}, probes={})
        frame = b"".join(encode(0, 1, ready))
        socket.send_fds(theirs, [frame], [theirs.fileno()])
        node._receive(memoryview(bytearray(1 << 16)))
        assert await node.ready() == ready
        assert sorted(descriptors()) == sorted(before)
