"""What every runtime promises, one sentence a test."""

from dataclasses import replace
from typing import Literal, get_args

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import (
    NodeDied,
    NodeError,
    NodeFault,
    NodeStartFailed,
    NodeUnavailable,
    RuntimeUnavailable,
)
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Cancel,
    Failed,
    GetWeights,
    Infer,
    Load,
    Ping,
    Predict,
    ServiceRequest,
    Train,
)
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService, linear_plan
from tests.doubles.runtimes import (
    LONG_TRAIN,
    RAY,
    ROWS,
    TRAIN,
    kill,
    open_runtime,
    prepare,
    spec,
    training_data,
)

pytestmark = pytest.mark.anyio


async def begin(tasks, node, request, outcome):
    """Start a call in a task; returns once the node works on it."""

    async def ask():
        try:
            outcome.append(await node.call(request))
        except NodeError as failure:
            outcome.append(failure)

    tasks.start_soon(ask)
    with anyio.fail_after(HANG_S):
        while (await node.call(Ping()))[0].busy != request.kind:
            await anyio.lowlevel.checkpoint()
            if outcome:  # a busy machine looked too late: once more
                assert not isinstance(outcome.pop(), NodeError)
                tasks.start_soon(ask)


async def test_a_ready_node_answers_a_ping_and_counts_bytes(node):
    reply, arrays = await node.call(Ping())
    assert (reply.kind, reply.busy, reply.steps_done, arrays) == ("pong", None, 0, {})
    assert node.spec == spec()
    assert node.bytes_sent > 50
    assert node.bytes_received > 50


@pytest.mark.parametrize("rows", [0, 1, 5])
async def test_arrays_keep_their_values_shapes_and_types(node, rows):
    await node.call(Build(network="net", plan=linear_plan(outputs=2), seed=3))
    weights, state = await node.call(GetWeights(network="net"))
    assert state["params"].shape == (8,)
    assert state["buffers"].shape == (0,)
    assert weights.digest == weights_digest(
        linear_plan(outputs=2), state["params"], state["buffers"]
    )
    x = np.arange(rows * 3, dtype="f4").reshape(rows, 3)
    _, outputs = await node.call(Predict(network="net"), {"x": x})
    assert outputs["y"].dtype == np.float32
    kernel, bias = state["params"][:6].reshape(3, 2), state["params"][6:]
    np.testing.assert_allclose(outputs["y"], x @ kernel + bias, rtol=1e-5, atol=1e-6)


async def test_twenty_concurrent_calls_each_get_their_own_reply(node):
    await node.call(Build(network="net", plan=linear_plan(), seed=3))
    _, state = await node.call(GetWeights(network="net"))
    got = {}

    async def ask(number):
        x = np.full((number, 3), number, "f4")
        _, got[number] = await node.call(Predict(network="net"), {"x": x})

    async with anyio.create_task_group() as tasks:
        for number in range(1, 21):
            tasks.start_soon(ask, number)
    kernel, bias = state["params"][:3], state["params"][3]
    for number, arrays in got.items():
        expected = np.full((number, 1), number * kernel.sum() + bias)
        np.testing.assert_allclose(arrays["y"], expected, rtol=1e-5)
    assert len(got) == 20


async def test_an_operation_that_fails_leaves_the_node_alive(node):
    with pytest.raises(NodeFault) as caught:
        await node.call(Load(network="unheard of", region="neither"))
    assert caught.value.details["slot"] == "worker-0"
    assert caught.value.details["type"]
    assert (await node.call(Ping()))[0].kind == "pong"


@pytest.mark.usefixtures("concurrent")
async def test_a_cancelled_call_does_not_harm_the_next_and_its_late_reply_is_dropped(runtime, node):
    buffer = await prepare(runtime, node)
    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, outcome := [])
        tasks.cancel_scope.cancel()
    assert outcome == []
    await node.call(Cancel())
    reply, _ = await node.call(TRAIN)
    assert reply.opt_step == ROWS // 8
    assert node._conversation.waiting == 0
    buffer.close()


@pytest.mark.usefixtures("concurrent")
async def test_questions_are_answered_in_the_order_of_asking_also_while_a_node_trains(
    runtime, node
):
    """A ping that is answered before an earlier prediction shows that the prediction is withheld."""
    buffer = await prepare(runtime, node)
    settled = []

    async def ask(number, request, arrays):
        await node.call(request, arrays)
        settled.append(number)

    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, [])
        async with anyio.create_task_group() as asking:
            for number in range(0, 20, 2):
                x = {"x": np.zeros((4, 3), "f4")}
                asking.start_soon(ask, number, Predict(network="net"), x)
                asking.start_soon(ask, number + 1, Ping(), None)
        assert settled == list(range(20))
        await node.call(Cancel())
    buffer.close()


class Overdone(Ping):
    surprise: int = 1


class Teleport(Ping):
    kind: Literal["teleport"] = "teleport"


@pytest.mark.parametrize("request_", [Overdone(), Teleport()])
async def test_an_unknown_message_or_field_is_a_fault_and_the_node_lives(node, request_):
    with pytest.raises(NodeFault) as caught:
        await node.call(request_)
    assert caught.value.details["type"] == "unreadable"
    assert (await node.call(Ping()))[0].kind == "pong"


@pytest.mark.usefixtures("concurrent")
async def test_death_in_flight_fails_the_calls_of_that_node_only(runtime, node):
    other = await runtime.start(spec("worker-1"))
    buffer = await prepare(runtime, node)
    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, outcome := [])
        kill(node)
        exit_ = await node.wait_exit()
    assert isinstance(outcome[0], NodeDied)
    assert outcome[0].details["reason"] == exit_.reason == "killed"
    assert (await other.call(Ping()))[0].kind == "pong"
    await other.stop()
    buffer.close()


async def test_death_between_calls_reaches_every_waiter_and_fails_the_next_call(node):
    exits = []

    async def wait():
        exits.append(await node.wait_exit())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked() if node.pid is None else None
        kill(node)
    assert len(exits) == 3
    assert exits[0] is exits[1] is exits[2] is await node.wait_exit()
    with pytest.raises(NodeUnavailable):
        await node.call(Ping())
    with pytest.raises(NodeUnavailable):
        await node.revoke("anything")


async def test_stop_is_idempotent_and_equal_for_everybody(node):
    exits = []

    async def stop():
        exits.append(await node.stop(grace_s=HANG_S))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(stop)
    assert exits[0] is exits[1] is exits[2] is await node.stop()
    assert exits[0].reason == "stopped"
    assert exits[0].returncode in (0, None)


async def test_stop_runs_to_its_end_when_it_is_cancelled(node):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await node.stop(grace_s=HANG_S)
    assert node.gone
    assert (await node.wait_exit()).reason == "stopped"


@pytest.mark.usefixtures("concurrent")
async def test_a_node_that_trains_stops_at_once_when_asked(runtime, node):
    buffer = await prepare(runtime, node)
    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, outcome := [])
        exit_ = await node.stop(grace_s=HANG_S)
    assert exit_.reason == "stopped"
    assert isinstance(outcome[0], NodeDied)
    buffer.close()


async def test_a_request_of_another_incarnation_is_fenced_by_the_node(node):
    conversation = node._conversation
    conversation._spec = replace(node.spec, incarnation=99)
    call = conversation._begin(Ping(), {}, None)
    conversation._spec = node.spec
    with anyio.fail_after(HANG_S):
        await call.answered.wait()
    assert isinstance(call.reply, Failed)
    assert call.reply.type == "fenced"
    assert (await node.call(Ping()))[0].kind == "pong"


async def test_the_same_seeds_give_the_same_weights_in_every_runtime(runtime, node):
    buffer = await prepare(runtime, node)
    digests = set()
    for _ in range(2):
        reply, arrays = await node.call(TRAIN)
        assert arrays == {}
        copied = buffer.copy()
        assert reply.digest == weights_digest(linear_plan(), copied["params"], copied["buffers"])
        digests.add(reply.digest)
    assert len(digests) == 1
    reference = np.zeros(4, "f8")
    data = {name: array.astype("f8") for name, array in training_data().items()}
    for rows in np.random.Generator(np.random.PCG64(5)).permutation(ROWS).reshape(-1, 8):
        x = np.c_[data["x"][rows], np.ones(8)]
        reference -= 0.01 * 2 / 8 * x.T @ (x @ reference - data["y"][rows])
    np.testing.assert_allclose(copied["params"], reference, rtol=1e-4, atol=1e-6)
    buffer.close()


async def test_the_engine_keeps_what_it_copied(runtime, node):
    buffer = await prepare(runtime, node)
    await node.call(TRAIN)
    first = buffer.copy()
    kept = first["params"].copy()
    await node.call(TRAIN.model_copy(update={"learning_rate": 0.05}))
    np.testing.assert_array_equal(first["params"], kept)
    assert not np.array_equal(buffer.copy()["params"], kept)
    buffer.close()


async def test_a_node_restarted_from_a_version_has_its_weights(runtime, node):
    buffer = await prepare(runtime, node)
    reply, _ = await node.call(TRAIN)
    version = runtime.share("version", buffer.copy())
    heir = await runtime.start(spec(incarnation=2))
    await heir.call(Build(network="net", plan=linear_plan(), seed=4))
    await heir.grant(version)
    loaded, _ = await heir.call(Load(network="net", region="version"))
    assert loaded.digest == reply.digest
    await heir.stop()
    buffer.close()
    version.close()


@pytest.mark.usefixtures("concurrent")
async def test_quick_requests_are_answered_while_it_trains_by_the_serving_copy(runtime, node):
    buffer = await prepare(runtime, node)
    before, state = await node.call(GetWeights(network="net"))
    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, outcome := [])
        reply, arrays = await node.call(Predict(network="net"), {"x": np.eye(3, dtype="f4")})
        assert outcome == []
        assert reply.digest == before.digest
        np.testing.assert_allclose(
            arrays["y"][:, 0], state["params"][:3] + state["params"][3], rtol=1e-5
        )
        with pytest.raises(NodeFault) as caught:
            await node.call(GetWeights(network="net"))
        assert caught.value.details["type"] == "busy"
        await node.call(Cancel())
    buffer.close()


@pytest.mark.usefixtures("concurrent")
async def test_cancel_ends_a_training_and_the_next_one_runs(runtime, node):
    buffer = await prepare(runtime, node)
    async with anyio.create_task_group() as tasks:
        await begin(tasks, node, LONG_TRAIN, outcome := [])
        assert (await node.call(Cancel()))[0].kind == "done"
    assert isinstance(outcome[0], NodeFault)
    assert outcome[0].details["type"] == "cancelled"
    assert (await node.call(Ping()))[0].steps_done < LONG_TRAIN_STEPS
    assert (await node.call(TRAIN))[0].steps == ROWS // 8
    buffer.close()


LONG_TRAIN_STEPS = 64 * ROWS


async def test_only_granted_regions_can_be_used_and_revoked_ones_no_longer(runtime, node):
    buffer = await prepare(runtime, node)
    infer = Infer(network="net", weights="base", data="shard")
    _, arrays = await node.call(infer)
    assert arrays["y"].shape == (ROWS, 1)
    assert not arrays["y"].any()
    await node.revoke("shard")
    with pytest.raises(NodeFault):
        await node.call(infer)
    other = runtime.share("shard", {"x": np.ones((2, 3), "f4"), "y": np.ones(2, "f4")})
    await node.grant(other)
    _, arrays = await node.call(infer)
    assert arrays["y"].shape == (2, 1)
    other.close()
    buffer.close()


async def test_granting_a_held_key_replaces_it(runtime, node):
    buffer = await prepare(runtime, node)
    ones = runtime.share("base", {"params": np.ones(4, "f4"), "buffers": np.zeros(0, "f4")})
    await node.grant(ones)
    ones.close()
    data = runtime.share("data", {"x": np.ones((1, 3), "f4")})
    await node.grant(data)
    data.close()
    _, arrays = await node.call(Infer(network="net", weights="base", data="data"))
    assert arrays["y"].item() == 4.0
    buffer.close()


async def test_a_region_given_up_by_the_engine_stays_with_the_nodes_that_hold_it(runtime, node):
    region = runtime.share("base", {"params": np.ones(4, "f4"), "buffers": np.zeros(0, "f4")})
    await node.call(Build(network="net", plan=linear_plan(), seed=3))
    await node.grant(region)
    region.close()
    region.close()
    loaded, _ = await node.call(Load(network="net", region="base"))
    assert loaded.digest == weights_digest(linear_plan(), np.ones(4, "f4"), np.zeros(0, "f4"))


async def test_arrays_of_a_reply_are_private(node):
    await node.call(Build(network="net", plan=linear_plan(), seed=3))
    _, first = await node.call(GetWeights(network="net"))
    kept = first["params"].copy()
    first["params"][:] = 9
    _, second = await node.call(GetWeights(network="net"))
    np.testing.assert_array_equal(second["params"], kept)


@pytest.mark.parametrize("kind", ["local", "local-carried", "exec", "exec-port", "inproc", RAY])
async def test_closing_with_nodes_in_every_state_ends_them_all(kind):
    async with open_runtime(kind) as runtime:
        idle, training, dead, stopped = [
            await runtime.start(spec(f"worker-{number}")) for number in range(4)
        ]
        await stopped.stop()
        kill(dead)
        buffer = await prepare(runtime, training)
        async with anyio.create_task_group() as tasks:
            await begin(tasks, training, LONG_TRAIN, outcome := [])
            await runtime.aclose()
        assert isinstance(outcome[0], NodeDied)
        assert [node.gone for node in (idle, training, dead, stopped)] == [True] * 4
        with pytest.raises(RuntimeUnavailable):
            await runtime.start(spec())
        await runtime.aclose()
        buffer.close()


@pytest.mark.parametrize("kind", ["local", "exec", "inproc", "inproc-inline", RAY])
async def test_closing_runs_to_its_end_when_it_is_cancelled(kind):
    async with open_runtime(kind) as runtime:
        nodes = [await runtime.start(spec(f"worker-{number}")) for number in range(2)]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.aclose()
        assert [node.gone for node in nodes] == [True, True]


@pytest.mark.parametrize("kind", ["local", "exec", "inproc", "inproc-inline", RAY])
async def test_a_start_that_is_cancelled_or_late_leaves_no_node(kind):
    async with open_runtime(kind) as runtime:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.start(spec())
        with pytest.raises(NodeStartFailed, match="within 0 s"):
            await runtime.start(spec(incarnation=2), ready_timeout_s=0)
        assert all(node.gone for node in runtime.nodes)
        node = await runtime.start(spec(incarnation=3))
        assert (await node.call(Ping()))[0].kind == "pong"


async def test_a_start_that_raises_is_told_as_such_in_process():
    from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime

    def refuse(spec):
        raise RuntimeError("refused to be born")

    async with InprocRuntime(refuse) as runtime:
        with pytest.raises(NodeStartFailed, match="refused to be born"):
            await runtime.start(spec())


def test_the_double_speaks_every_request_of_the_protocol():
    handled = {name.removeprefix("on_") for name in dir(LinearService) if name.startswith("on_")}
    assert handled == {request.model_fields["kind"].default for request in get_args(ServiceRequest)}
    assert isinstance(TRAIN, Train)
