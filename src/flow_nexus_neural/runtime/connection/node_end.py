"""The engine's end of one node, without the transport: calls, grants, and the end of the node.

A subclass adds how frames travel and how the node is killed. No message is treated here by its name: what a
request reads and fills is said by its class (`protocol.contract`), how a region is granted by the region
(`runtime.connection.memory`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import anyio
from numpy.typing import NDArray

from flow_nexus_neural.errors import InternalError, NeuralError
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.protocol.contract import AnsweredBy, R
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.protocol.messages import Ready, Revoke, Shutdown
from flow_nexus_neural.runtime.base import (
    Buffer,
    Isolation,
    MemoryReading,
    NodeExit,
    NodeSpec,
    Placement,
    ProcessorTime,
    Region,
)
from flow_nexus_neural.runtime.connection.conversation import Conversation, Outgoing
from flow_nexus_neural.runtime.connection.memory import Grantable


class NodeEnd(ABC):
    """Implements `base.NodeHandle` but for transport and killing.

    Args:
        spec: Of the node.
        limits: Longest frames that the node accepts.
    """

    def __init__(self, spec: NodeSpec, limits: FrameLimits) -> None:
        self.spec = spec
        self.isolation = Isolation(level="unknown")
        self.runtime_version = ""
        self.bytes_sent = 0
        self._conversation = Conversation(spec, self._transmit, limits)
        self._carried: dict[str, Grantable] = {}
        self._asked_to_stop = False
        self._exit: NodeExit | None = None
        self._gone = anyio.Event()

    @property
    def pid(self) -> int | None:
        """Process id; None where the node has no process of its own."""
        return None

    @property
    def placement(self) -> Placement | None:
        """Where it lives; None on this machine."""
        return None

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._exit is not None

    @property
    def bytes_received(self) -> int:
        """Bytes of frames received from it."""
        return self._conversation.bytes_received

    @property
    def inter_host_bytes(self) -> int:
        """Bytes that went between two machines: none, where it lives on this one."""
        return 0

    async def call(
        self, request: AnsweredBy[R], arrays: Arrays | None = None
    ) -> tuple[R, dict[str, NDArray[Any]]]:
        """One reply for one request; see `base.NodeHandle`."""
        await self._relay(request.regions_observed())
        self._asked_to_stop |= isinstance(request, Shutdown)
        reply, brought = await self._conversation.call(request, arrays)
        filled = request.region_filled()
        if filled is None or not brought:
            return reply, brought
        region = self._carried.get(filled)
        if region is not None:  # else it was revoked while the node worked
            region.store(brought)
        return reply, {}

    async def grant(self, region: Region | Buffer) -> None:
        """Let the node use a region or a buffer; see `base.NodeHandle`."""
        if not isinstance(region, Grantable):
            raise InternalError(f"region {region.key} was not made by a runtime")
        frame = region.grant_frame()
        self._carried.pop(region.key, None)
        if frame.arrays is not None:
            self._carried[region.key] = region
        await self._conversation.call(frame.grant, frame.arrays, frame.descriptor)

    async def revoke(self, *keys: str) -> None:
        """Make the node forget regions; see `base.NodeHandle`."""
        if keys:
            await self._conversation.call(Revoke(keys=keys))
        for key in keys:
            self._carried.pop(key, None)

    async def ready(self) -> Ready:
        """The answer to the start; raises as `Conversation.ready`."""
        return await self._conversation.ready()

    async def wait_exit(self) -> NodeExit:
        """Return once the node is gone, to every waiter, as often as asked."""
        await self._gone.wait()
        return self._ended()

    async def stop(self, grace_s: float = 0.5) -> NodeExit:
        """Ask, wait, kill; see `base.NodeHandle`."""
        with anyio.CancelScope(shield=True):
            if self._exit is None and grace_s > 0:
                with anyio.move_on_after(grace_s):
                    await self._ask_to_stop()
            if self._exit is None:
                late = f", after {grace_s:g} s of grace" if grace_s > 0 else ""
                self._kill(f"killed: killed by the engine{late}")
            await self._gone.wait()
        return self._ended()

    def memory(self) -> MemoryReading | None:
        """Memory now, read from the system; None where it cannot be known."""
        return None

    def is_stopped(self) -> bool:
        """Whether the system keeps its process from running; False where that cannot be known."""
        return False

    def processor_time(self) -> ProcessorTime | None:
        """How long its process ran and waited for a processor; None where that cannot be known."""
        return None

    async def _relay(self, keys: Sequence[str]) -> None:
        """Grant again what neighbours have written since, where the node cannot see that by itself."""
        for key in keys:
            region = self._carried.get(key)
            if region is not None and region.is_relayed:
                await self.grant(region)

    async def _ask_to_stop(self) -> None:
        try:
            await self.call(Shutdown())
        except NeuralError:
            return  # it is gone or refuses; `stop` kills it in either case
        await self._gone.wait()

    def _settle(self, exit_: NodeExit, violation: NeuralError | None = None) -> None:
        """Record that the node is gone and end every wait on it. Called once."""
        self._exit = exit_
        self._conversation.end(exit_, violation)
        self._carried.clear()
        self._gone.set()

    def _ended(self) -> NodeExit:
        if self._exit is None:
            raise InternalError(f"node {self.spec.slot} has no exit")
        return self._exit

    @abstractmethod
    def _transmit(self, outgoing: Outgoing) -> None:
        """Queue a frame; must not block, must keep the order."""

    @abstractmethod
    def _kill(self, cause: str) -> None:
        """End the node at once. Idempotent; the first cause (`reason: sentence`) is the one reported."""
