"""Nodes of a host: forked and confined by the local runtime, their frames passed on as they are.

The host's process reads a node's bytes only until the node is ready, to measure what confines it. From then
on the server does, which knows what it asked.
"""

from collections.abc import Callable

from typing_extensions import override

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.conversation import Conversation, Outgoing
from flow_nexus_neural.runtime.local.node import Lines, LocalNode
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.runtime.process.orders import CARRIED_BODY_BYTES
from flow_nexus_neural.settings import Settings

Forward = Callable[[bytes], None]


class _Overheard(Conversation):
    """Passes on what a node sends, and reads it itself up to the Ready."""

    def __init__(
        self,
        spec: NodeSpec,
        send: Callable[[Outgoing], None],
        limits: FrameLimits,
        forward: Forward,
    ) -> None:
        super().__init__(spec, send, limits)
        self._forward = forward

    @override
    def receive(self, data: bytes | memoryview) -> None:
        self._forward(bytes(data))
        if self.waiting:
            super().receive(data)


class RelayedNode(LocalNode):
    """One node of a host.

    Args:
        spec: What it was started with.
        limits: Longest frames that it takes.
        lines: Owned from here on.
        out_of_memory: Whether the kernel counted a kill for memory that nobody has explained yet.
        forward: Takes the bytes that it sends.
    """

    def __init__(
        self,
        spec: NodeSpec,
        limits: FrameLimits,
        lines: Lines,
        out_of_memory: Callable[[], bool],
        forward: Forward,
    ) -> None:
        super().__init__(spec, limits, lines, out_of_memory)
        self._conversation = _Overheard(spec, self._transmit, limits, forward)

    def pass_in(self, frame: bytes, descriptor: int | None, *, asked_to_stop: bool) -> None:
        """Send a frame of the server to the node."""
        self._asked_to_stop |= asked_to_stop
        if not self.gone:
            self._transmit(Outgoing([frame], descriptor))

    def end(self, cause: str) -> None:
        """Kill it for a reason of the server's."""
        self._kill(cause)

    def exit_so_far(self) -> NodeExit | None:
        """How it ended; None while it lives."""
        return self._exit

    @property
    def violation(self) -> NeuralError | None:
        """What it did against the protocol before it was ready."""
        return self._violation


class HostRuntime(LocalRuntime):
    """The local runtime of one host; its nodes are relayed.

    Args:
        settings: What one node and all together may use.
        launch: Starts the zygote.
    """

    def __init__(
        self, settings: Settings, launch: Callable[[], ZygoteProcess] = ZygoteProcess.launch
    ) -> None:
        super().__init__(settings, launch=launch)
        self._limits = FrameLimits(body_bytes=CARRIED_BODY_BYTES)
        self._forwards: dict[str, Forward] = {}
        self._made: dict[str, RelayedNode] = {}

    async def begin(self, spec: NodeSpec, ready_timeout_s: float, forward: Forward) -> RelayedNode:
        """Start a node whose bytes go to `forward`; raises as `start`."""
        self._forwards[spec.node_id] = forward
        try:
            await self.start(spec, ready_timeout_s=ready_timeout_s)
            return self._made[spec.node_id]
        finally:
            del self._forwards[spec.node_id]
            self._made.pop(spec.node_id, None)

    @override
    def _lone_node(self, spec: NodeSpec, lines: Lines) -> LocalNode:
        claim = self._memory_kills.claim
        node = RelayedNode(spec, self._limits, lines, claim, self._forwards[spec.node_id])
        self._made[spec.node_id] = node
        return node
