"""Confined processes with several nodes: what they learn, how they end, and what is said of them."""

import os
import signal

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import NodeDied
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import Build, GetWeights, Pass, Ping, Pong, Together, Train
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import until
from tests.unit.node.building import FLAT, plan_of, rows

pytestmark = pytest.mark.anyio
PLAN = plan_of([{"type": "dense", "units": 8, "activation": "relu"}], FLAT, "regression")


MANY = 4000
"""Rows of which a training of 64 passes takes so long that it is met at work on a busy machine too."""


class Clients:
    """Nodes of one group with rows of their own."""

    def __init__(self, runtime):
        self.runtime, self.nodes, self.buffers = runtime, [], []
        self._asked = 0

    async def start(self, n_nodes, group="g", n_rows=40):
        for _ in range(n_nodes):
            number = len(self.nodes)
            spec = NodeSpec(
                node_id=f"node-{number}",
                slot=f"worker-{number}",
                incarnation=1,
                seed=number,
                group=group,
                group_size=4,
            )
            node = await self.runtime.start(spec)
            await node.call(Build(network="net", plan=PLAN, seed=1))
            x = rows(n_rows + number, FLAT, number)
            shard = self.runtime.share(f"shard:{number}", {"x": x, "y": x[:, 0].copy()})
            size = (PLAN.n_params,)
            layout = [(name, "f4", size) for name in ("params", "m", "v")]
            layout.insert(1, ("buffers", "f4", (0,)))
            buffer = self.runtime.buffer(f"publish:{number}", layout)
            await node.grant(shard)
            await node.grant(buffer)
            self.nodes.append(node)
            self.buffers.append(buffer)
        return self

    async def base(self, numbers):
        _, arrays = await self.nodes[numbers[0]].call(GetWeights(network="net"))
        zeros = {name: np.zeros(PLAN.n_params, np.float32) for name in ("m", "v")}
        region = self.runtime.share("base", arrays | zeros)
        for number in numbers:
            await self.nodes[number].grant(region)

    async def train(self, numbers, *, together, passes=1):
        await self.base(numbers)
        self._asked += 1
        replies = {}

        async def ask(place, number):
            told = Together(round=self._asked, size=len(numbers), place=place)
            request = Train(
                network="net",
                base="base",
                opt_step=0,
                shard=f"shard:{number}",
                publish=f"publish:{number}",
                optimizer="adam",
                learning_rate=1e-3,
                batch_size=8,
                passes=tuple(Pass(order_seed=number) for _ in range(passes)),
                dropout_seed=number,
                together=told if together else None,
            )
            try:
                replies[number], _ = await self.nodes[number].call(request)
            except NodeDied as failure:
                replies[number] = failure

        async with anyio.create_task_group() as group:
            for place, number in enumerate(numbers):
                group.start_soon(ask, place, number)
        return replies


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def runtime(anyio_backend, tmp_path_factory):
    place = tmp_path_factory.mktemp("state")
    settings = Settings(state_dir=place, require_isolation="auto", cgroup=False)
    async with LocalRuntime(settings, ZygoteProcess.launch()) as opened:
        yield opened


@pytest.fixture
async def clients(runtime):
    made = Clients(runtime)
    with anyio.fail_after(HANG_S):
        yield made
        for node in runtime.nodes:
            await node.stop(grace_s=0)


async def test_a_group_is_one_confined_process_and_learns_what_single_nodes_learn(clients):
    await clients.start(3)
    first = clients.nodes[0]
    assert {node.pid for node in clients.nodes} == {first.pid}
    assert {node.isolation.level for node in clients.nodes} == {
        clients.runtime.isolation_preview().level
    }
    assert first.isolation.missing == clients.nodes[2].isolation.missing
    assert first.isolation.shared_with == ("worker-1", "worker-2")
    single = await clients.train([0, 1, 2], together=False)
    states = [buffer.copy() for buffer in clients.buffers]
    stacked = await clients.train([0, 1, 2], together=True)
    assert [reply.stacked for _, reply in sorted(stacked.items())] == [3, 3, 3]
    assert [reply.stacked for _, reply in sorted(single.items())] == [None] * 3
    for number, buffer in enumerate(clients.buffers):
        state = buffer.copy()
        for name, vector in state.items():
            np.testing.assert_allclose(vector, states[number][name], rtol=0, atol=1e-6)
        digest = weights_digest(PLAN, state["params"], state["buffers"])
        assert digest == stacked[number].digest

    # A further group has a process of its own; one that stops leaves the others, and its place is free.
    await clients.start(1, group="other")
    assert clients.nodes[3].pid != first.pid
    stopped = await clients.nodes[0].stop()
    assert (stopped.reason, stopped.returncode) == ("stopped", 0)
    assert clients.nodes[1].isolation.shared_with == ("worker-2",)
    await clients.nodes[1].call(Ping())
    again = await clients.train([1, 2], together=True)
    assert again[1].digest == stacked[1].digest  # whoever is in the stack
    await clients.start(1)
    assert clients.nodes[4].pid == first.pid


async def test_the_end_of_the_process_is_the_end_of_all_its_nodes_and_is_told_of_each(clients):
    await clients.start(3, n_rows=MANY)
    pid = clients.nodes[0].pid
    undisturbed = await clients.train([0, 1, 2], together=True)

    async with anyio.create_task_group() as group:
        group.start_soon(kill_when_busy, clients.nodes[2], pid)
        replies = await clients.train([0, 1, 2], together=True, passes=64)
    assert {type(reply) for reply in replies.values()} == {NodeDied}
    exits = [await node.wait_exit() for node in clients.nodes]
    assert {(one.reason, one.returncode) for one in exits} == {("killed", -9)}

    # A new process of the group learns what the first one learnt.
    clients.nodes.clear()
    clients.buffers.clear()
    await clients.start(3, n_rows=MANY)
    assert clients.nodes[0].pid != pid
    repeated = await clients.train([0, 1, 2], together=True)
    assert [repeated[n].digest for n in range(3)] == [undisturbed[n].digest for n in range(3)]


async def kill_when_busy(node, pid):
    """SIGKILL in the middle of a training."""
    while (await node.call(Ping()))[0].busy is None:
        pass
    os.kill(pid, signal.SIGKILL)


async def test_a_node_that_is_killed_takes_the_others_along_and_they_say_for_whom(clients):
    await clients.start(2)
    await clients.nodes[0].stop(grace_s=0)
    told = await clients.nodes[1].wait_exit()
    assert told.reason == "killed"
    assert "its process was worker-0's too, which was ended" in told.sentence


async def test_a_node_that_is_asked_to_stop_has_time_to_leave_without_harm_to_the_others(clients):
    await clients.start(2)
    first, second = clients.nodes
    os.kill(first.pid, signal.SIGSTOP)
    async with anyio.create_task_group() as group:
        group.start_soon(first.stop, 0.01)
        with anyio.move_on_after(0.5):
            await second.wait_exit()
        os.kill(first.pid, signal.SIGCONT)
    assert (await first.wait_exit()).reason == "stopped"
    assert isinstance((await second.call(Ping()))[0], Pong)


async def test_a_group_of_which_no_process_is_left_is_forgotten(clients):
    await clients.start(2)
    assert list(clients.runtime._shared) == ["g"]
    for node in clients.nodes:
        await node.stop()
    await until(lambda: not clients.runtime._shared)
    assert not clients.runtime._joining
