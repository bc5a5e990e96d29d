"""The Ray driver: the only module that imports Ray, in a process whose output is a log.

Run by the keeper as `python -I -m flow_nexus_neural.runtime.ray.driver <fd>`. It joins or starts a Ray
cluster, puts one agent on every machine, and carries messages between the server and the agents. It restarts
no actor and repeats no call. Every call has a deadline; a host that misses one is lost with all its nodes,
and what arrives from it later is ignored.
"""

import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

import anyio
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.runtime.ray.agent import HostAgent
from flow_nexus_neural.runtime.ray.same_code import code_digest
from flow_nexus_neural.runtime.ray.stream import MessageStream
from flow_nexus_neural.runtime.ray.wire import DRIVER, host_of, pack, unpack

T = TypeVar("T")

POLL_S: Final = 1.0
"""An agent answers a poll after this time at the latest."""
_BEGIN_S: Final = 120.0
_LOOK_S: Final = 2.0
_AGAIN_S: Final = 2.0
_LEASES: Final = 3
_BATCH_BYTES: Final = 64 << 20
_AGENT: Final = {
    "num_cpus": 0,
    "max_restarts": 0,
    "max_task_retries": 0,
    "max_concurrency": 4,
}


class _Lost(Exception):
    """A host does not belong to the cluster any more; the text says why."""


class _Host:
    """One machine of the cluster, from its agent's start to its loss.

    Args:
        number: Of this agent; a machine that comes back gets another one.
        agent: The actor.
        silence_s: The deadline of every call.
        answer: Takes whole messages of the host.
    """

    def __init__(
        self, number: int, agent: Any, silence_s: float, answer: Callable[[bytes], None]
    ) -> None:
        self.number = number
        self.agent = agent
        self._silence_s = silence_s
        self._answer = answer
        self._waiting: list[bytes] = []
        self._filled = anyio.Event()
        self._posted = 0

    def take(self, raw: bytes) -> None:
        """Queue a message for it."""
        self._waiting.append(raw)
        self._filled.set()

    async def carry(self) -> str:
        """Carry messages both ways until the host is lost; returns why."""
        reasons: list[str] = []

        async def until_lost(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except _Lost as lost:
                reasons.append(str(lost))
                carrying.cancel_scope.cancel()

        async with anyio.create_task_group() as carrying:
            carrying.start_soon(until_lost, self._post)
            carrying.start_soon(until_lost, self._poll)
        return reasons[0]

    async def _post(self) -> None:
        while True:
            await self._filled.wait()
            self._filled = anyio.Event()
            while self._waiting:
                batch = self._next_batch()
                self._posted += 1
                await within(self._silence_s, self.agent.post.remote(self._posted, batch))

    def _next_batch(self) -> bytes:
        n_messages, n_bytes = 0, 0
        for raw in self._waiting:
            n_messages, n_bytes = n_messages + 1, n_bytes + len(raw)
            if n_bytes >= _BATCH_BYTES:
                break
        batch, self._waiting = self._waiting[:n_messages], self._waiting[n_messages:]
        return b"".join(batch)

    async def _poll(self) -> None:
        while True:
            answers = await within(self._silence_s + POLL_S, self.agent.poll.remote(POLL_S))
            if answers:
                self._answer(answers)


class Driver:
    """Keeps an agent on every machine.

    Args:
        stream: To the server.
        config: What the server wants: settings, deadlines, the zygote's command.
    """

    def __init__(self, stream: MessageStream, config: Mapping[str, Any]) -> None:
        self._stream = stream
        self._config = config
        self._silence_s = float(config["silence_s"])
        self._hosts: dict[int, _Host] = {}
        self._covered: set[str] = set()
        self._numbers = count(1)

    async def serve(self) -> None:
        """Until the server is gone."""
        async with anyio.create_task_group() as tasks:
            first = [node for node in await known_nodes() if node["Alive"]]
            async with anyio.create_task_group() as starting:
                for node in first:
                    starting.start_soon(self._add, node, tasks)
            self._stream.send(DRIVER, {"kind": "up"})
            tasks.start_soon(self._look_for_hosts, tasks)
            async for raw in self._stream.messages():
                host = self._hosts.get(host_of(raw))
                if host is not None:  # else it is lost, which the server has been told
                    host.take(raw)
                elif host_of(raw) == DRIVER and unpack(raw).header["kind"] == "close":
                    break
            tasks.cancel_scope.cancel()

    async def _look_for_hosts(self, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.sleep(_LOOK_S)
            for node in await known_nodes():
                if node["Alive"] and node["NodeID"] not in self._covered:
                    tasks.start_soon(self._add, node, tasks)

    async def _add(self, node: Mapping[str, Any], tasks: anyio.abc.TaskGroup) -> None:
        """Put an agent on a machine, and carry its messages in a task of its own."""
        if node["NodeID"] in self._covered:
            return
        self._covered.add(node["NodeID"])
        number = next(self._numbers)
        kind = ray.remote(**_AGENT)(HostAgent)
        place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        agent = kind.options(scheduling_strategy=place).remote(number, _LEASES * self._silence_s)
        settings = json.dumps(self._config["settings"]).encode()
        zygote = json.dumps(self._config["zygote"]).encode()
        here = ray.get_runtime_context().get_node_id()
        told = {"address": node["NodeManagerAddress"], "is_here": node["NodeID"] == here}
        try:
            hello = json.loads(await within(_BEGIN_S, agent.begin.remote(settings, zygote)))
            _require_same_code(hello["code"])
        except _Lost as lost:
            await self._remove(agent)
            self._stream.send(DRIVER, {"kind": "no_host", "why": str(lost), **told})
            tasks.start_soon(self._uncover, node["NodeID"])
            return
        host = self._hosts[number] = _Host(number, agent, self._silence_s, self._stream.pass_on)
        self._stream.pass_on(*pack(number, {**hello, "kind": "joined", **told}))
        tasks.start_soon(self._carry, host, node["NodeID"])

    async def _carry(self, host: _Host, node_id: str) -> None:
        why = await host.carry()
        del self._hosts[host.number]
        self._stream.send(host.number, {"kind": "lost", "why": why})
        await self._remove(host.agent)
        await self._uncover(node_id)

    async def _uncover(self, node_id: str) -> None:
        await anyio.sleep(_AGAIN_S)
        self._covered.discard(node_id)

    async def _remove(self, agent: Any) -> None:
        """Have Ray kill an actor; where that is not possible, the agent's lease ends it."""
        with anyio.move_on_after(self._silence_s):
            await in_thread(partial(ray.kill, agent, no_restart=True))


async def within(limit_s: float, call: Any) -> Any:
    """The result of a Ray call.

    Raises:
        _Lost: It failed or took longer; whether it was done is not known.
    """
    try:
        with anyio.fail_after(limit_s):
            return await call
    except TimeoutError:
        raise _Lost(f"its agent has not answered for {limit_s:g} s") from None
    except (RayError, NeuralError) as failure:
        first = str(failure).strip().splitlines() or [""]
        raise _Lost(f"{type(failure).__name__}: {first[-1]:.300}") from failure


def _require_same_code(digest: str) -> None:
    if digest != code_digest():
        raise _Lost("it has another build of flow-nexus-neural than the server")


async def known_nodes() -> list[dict[str, Any]]:
    """The machines that Ray knows, the dead ones too; none while its head does not answer."""
    with anyio.move_on_after(_BEGIN_S):
        return await in_thread(ray.nodes)
    return []


async def in_thread(function: Callable[[], T]) -> T:
    """Call what may block for as long as Ray's head is silent."""
    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)


def connect(config: Mapping[str, Any]) -> None:
    """Join the cluster at the address, or start one on this machine."""
    own = {
        "num_cpus": 1,
        "include_dashboard": False,
        "object_store_memory": int(config["object_store_bytes"]),
        "_temp_dir": config["session_dir"],
    }
    ray.init(
        address=config["address"],
        log_to_driver=False,
        namespace="flow-nexus-neural",
        **(own if config["address"] == "local" else {}),
    )


async def run(connection: socket.socket, config: Mapping[str, Any]) -> None:
    """Serve the server at the other end until it is gone."""
    stream = MessageStream(connection)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.write)
        await Driver(stream, config).serve()
        tasks.cancel_scope.cancel()


def main(arguments: list[str]) -> None:
    """Connect, then serve."""
    connection = socket.socket(fileno=int(arguments[0]))
    with connection.makefile("rb") as first:
        config = json.loads(first.readline())
    connect(config)
    try:
        anyio.run(run, connection, config)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
