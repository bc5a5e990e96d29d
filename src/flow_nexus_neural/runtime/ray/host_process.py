"""The process of a host that runs its nodes. Started by the host's agent, and ends with it.

Run as `python -I -m flow_nexus_neural.runtime.ray.host_process <fd> <parent pid> [zygote command ...]`. It is
a process of its own since a zygote has to be started by a main thread, and an actor's methods never run in
one.
"""

import platform
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import anyio
import numpy as np

from flow_nexus_neural.errors import NeuralError, NodeStartFailed
from flow_nexus_neural.protocol.codec import DTYPES
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.connection.memory import MemoryRegion
from flow_nexus_neural.runtime.local.zygote_process import ZYGOTE_COMMAND, ZygoteProcess
from flow_nexus_neural.runtime.managed import processors
from flow_nexus_neural.runtime.ray.relayed import HostRuntime, RelayedNode
from flow_nexus_neural.runtime.ray.same_code import code_digest
from flow_nexus_neural.runtime.ray.shapes import spec_of, told_error, told_isolation
from flow_nexus_neural.runtime.ray.stream import MessageStream
from flow_nexus_neural.runtime.ray.ties import die_with
from flow_nexus_neural.runtime.ray.wire import DRIVER, Buffer, Message, unpack
from flow_nexus_neural.settings import Settings

_READINGS_EVERY_S: Final = 1.0
_SEND: Final = DRIVER
"""The driver writes the host's number into what leaves here."""


class _Hosted:
    """A node that was ordered: its start, itself, its end."""

    def __init__(self) -> None:
        self.starting = anyio.CancelScope()
        self.node: RelayedNode | None = None
        self.cause: str | None = None


class Host:
    """Obeys the server's messages.

    Args:
        runtime: Open.
        stream: To the agent.
    """

    def __init__(self, runtime: HostRuntime, stream: MessageStream) -> None:
        self._runtime = runtime
        self._stream = stream
        self._nodes: dict[int, _Hosted] = {}
        self._regions: dict[int, MemoryRegion] = {}

    async def serve(self) -> None:
        """Until the agent is gone."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell_readings)
            async for raw in self._stream.messages():
                self._obey(unpack(raw), tasks.start_soon)
            tasks.cancel_scope.cancel()

    def _obey(self, message: Message, start_soon: Callable[..., object]) -> None:
        told = message.header
        match told["kind"]:
            case "start":
                hosted = self._nodes[told["node"]] = _Hosted()
                patience_s = float(told["ready_timeout_s"])
                start_soon(self._start, told["node"], hosted, spec_of(told["spec"]), patience_s)
            case "frame":
                self._pass_in(told, message.body)
            case "kill":
                self._kill(told["node"], told["cause"])
            case "put":
                self._put(told["region"], told["key"], told["specs"], message.body)
            case "drop":
                region = self._regions.pop(told["region"], None)
                if region is not None:
                    region.close()

    async def _start(
        self, number: int, hosted: _Hosted, spec: NodeSpec, ready_timeout_s: float
    ) -> None:
        forward = partial(self._forward, number)
        failure: NeuralError = NodeStartFailed(f"node {spec.slot} was not wanted any more")
        with hosted.starting:
            try:
                hosted.node = await self._runtime.begin(spec, ready_timeout_s, forward)
            except NeuralError as refusal:
                failure = refusal
        node = hosted.node
        if node is None:
            del self._nodes[number]
            self._tell("refused", number, error=told_error(failure))
            return
        self._tell(
            "started",
            number,
            pid=node.pid,
            isolation=told_isolation(node.isolation),
            runtime_version=node.runtime_version,
        )
        exit_ = await node.wait_exit()
        del self._nodes[number]
        self._tell("exit", number, exit=asdict(exit_))

    def _pass_in(self, told: Any, body: Buffer) -> None:
        hosted = self._nodes.get(told["node"])
        if hosted is None or hosted.node is None:
            return  # it has ended, and its end is on the way
        region = told.get("region")
        held = self._regions.get(region)
        if region is not None and held is None:
            hosted.node.end("runtime_lost: its host does not hold a region that it was granted")
            return
        descriptor = None if held is None else held.fd
        hosted.node.pass_in(bytes(body), descriptor, asked_to_stop=told["asked_to_stop"])

    def _kill(self, number: int, cause: str) -> None:
        hosted = self._nodes.get(number)
        if hosted is None:
            return
        if hosted.node is None:
            hosted.starting.cancel()
        else:
            hosted.node.end(cause)

    def _put(self, number: int, key: str, specs: Sequence[Sequence[Any]], body: memoryview) -> None:
        arrays, start = {}, 0
        for name, dtype, shape in specs:
            kind = DTYPES[dtype]
            nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            arrays[name] = np.frombuffer(body[start : start + nbytes], kind).reshape(shape)
            start += nbytes
        self._regions[number] = MemoryRegion.of(key, arrays)

    def _forward(self, number: int, data: bytes) -> None:
        self._stream.send(_SEND, {"kind": "frame", "node": number}, data)

    def _tell(self, kind: str, number: int, **more: Any) -> None:
        self._stream.send(_SEND, {"kind": kind, "node": number, **more})

    async def _tell_readings(self) -> None:
        while True:
            await anyio.sleep(_READINGS_EVERY_S)
            found = await anyio.to_thread.run_sync(self._readings)
            if found:
                self._stream.send(_SEND, {"kind": "readings", "nodes": found})

    def _readings(self) -> list[dict[str, Any]]:
        found = []
        for number, hosted in list(self._nodes.items()):
            if hosted.node is not None and not hosted.node.gone:
                memory, time = hosted.node.memory(), hosted.node.processor_time()
                found.append(
                    {
                        "node": number,
                        "memory": None if memory is None else asdict(memory),
                        "processor_time": None if time is None else asdict(time),
                        "is_stopped": hosted.node.is_stopped(),
                    }
                )
        return found


async def run(connection: socket.socket, zygote: Sequence[str]) -> None:
    """Serve the agent at the other end until it is gone."""
    stream = MessageStream(connection)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.write)
        try:
            await _serve(stream, zygote)
        finally:
            stream.close()
            tasks.cancel_scope.cancel()


async def _serve(stream: MessageStream, zygote: Sequence[str]) -> None:
    async for raw in stream.messages():
        settings = Settings.model_validate(unpack(raw).header["settings"])
        launch = partial(ZygoteProcess.launch, tuple(zygote))
        async with HostRuntime(settings, launch) as runtime:
            stream.send(_SEND, hello(runtime))
            await Host(runtime, stream).serve()
        return


def hello(runtime: HostRuntime) -> dict[str, Any]:
    """What the server has to know of this host."""
    return {
        "kind": "hello",
        "code": code_digest(),
        "name": platform.node(),
        "cores": processors(),
        "isolation": runtime.capabilities.isolation,
    }


def main(arguments: Sequence[str]) -> None:
    """Run the host's process."""
    number, parent_pid, *zygote = arguments
    die_with(int(parent_pid))
    with suppress(KeyboardInterrupt):
        anyio.run(run, socket.socket(fileno=int(number)), zygote or ZYGOTE_COMMAND)


if __name__ == "__main__":
    main(sys.argv[1:])
