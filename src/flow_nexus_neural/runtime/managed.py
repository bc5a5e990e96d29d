"""What every runtime does alike: it opens and closes, brings nodes up, keeps them, shares memory with them.

A runtime of its own kind adds how a node is begun and how its isolation is measured; see `ManagedRuntime`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from flow_nexus_neural.errors import NodeStartFailed, RuntimeUnavailable
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.runtime.base import Buffer, Capabilities, Isolation, NodeSpec, Region
from flow_nexus_neural.runtime.connection.memory import (
    CarriedBuffer,
    CarriedRegion,
    MemoryBuffer,
    MemoryRegion,
    view_of,
)
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.connection.readiness import not_started, until_ready
from flow_nexus_neural.runtime.process.isolation import platform_name

Node = TypeVar("Node", bound=NodeEnd)


class ManagedRuntime(ABC, Generic[Node]):
    """Base of every runtime. Use it as a context manager: its tasks live inside, and none outlives the block.

    The tasks are shielded from cancellation and end because what they watch ends, so a cancelled caller can
    lose neither a node nor a descriptor.

    Args:
        capabilities: What this runtime offers here.
        isolation: What nodes will get, where that is known before the first one is measured.

    Attributes:
        nodes: Those that live, and some that have ended (`NodeEnd.gone`).
    """

    def __init__(self, capabilities: Capabilities, isolation: Isolation | None = None) -> None:
        self.capabilities = capabilities
        self._isolation = isolation or Isolation(
            level="unknown", layers={"platform": platform_name()}
        )
        self.nodes: list[Node] = []
        self._tasks: TaskGroup | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        await self.aclose()
        if self._tasks is None:
            return None
        return await self._tasks.__aexit__(kind, failure, trace)

    def share(self, key: str, arrays: Arrays) -> Region:
        """Write arrays once into a sealed region; see `base.NodeRuntime`."""
        if self.capabilities.shared_memory:
            return MemoryRegion.of(key, arrays)
        return CarriedRegion(key, arrays)

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Make a zeroed buffer of (name, dtype, shape) arrays."""
        if self.capabilities.shared_memory:
            return MemoryBuffer.of(key, layout)
        return CarriedBuffer(key, layout)

    def view(self, buffer: Buffer) -> Region:
        """Let a neighbour of a buffer's writer read it; see `base.NodeRuntime`."""
        return view_of(buffer)

    def isolation_preview(self) -> Isolation:
        """What nodes will get: what the last one got; before the first, what is known without one."""
        return self._isolation

    async def aclose(self) -> None:
        """Stop every node in whatever state. Idempotent; runs to its end when cancelled."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for node in self.nodes:
                    stopping.start_soon(_stop, node)
            await self._release()
            self.nodes.clear()

    async def _bring_up(
        self, begin: Callable[[], Awaitable[Node]], spec: NodeSpec, ready_timeout_s: float
    ) -> Node:
        """Begin a node and return once it is ready and measured; on failure nothing is left of it.

        Args:
            begin: Starts the node and hands it to `_keep`. Cancelled when the time is over.
            spec: For the error text.
            ready_timeout_s: For all of it.

        Raises:
            NodeStartFailed, IsolationUnavailable: As `base.NodeRuntime.start`.
        """
        deadline = anyio.current_time() + ready_timeout_s
        node: Node | None = None
        with anyio.CancelScope(deadline=deadline):
            node = await begin()
        if node is None:
            raise self._not_started(spec, ready_timeout_s)
        await until_ready(node, self._measure, deadline, ready_timeout_s)
        self._isolation = node.isolation
        return node

    def _keep(self, node: Node, run: Callable[[], Awaitable[None]]) -> None:
        """Serve a node from now to its end; it is stopped when the runtime closes."""
        self.nodes = [other for other in self.nodes if not other.gone]
        self.nodes.append(node)
        self._spawn(run)

    def _spawn(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run something that ends by itself in a task that no cancellation interrupts."""
        if self._tasks is None:
            raise RuntimeUnavailable("the runtime is not open")
        self._tasks.start_soon(_to_its_end, run)

    def _not_started(self, spec: NodeSpec, ready_timeout_s: float) -> NodeStartFailed:
        """The failure of a node that could not even be begun in time."""
        return not_started(spec, ready_timeout_s)

    def _require_open(self) -> None:
        if self._closed or self._tasks is None:
            raise RuntimeUnavailable("the runtime is not open")

    @abstractmethod
    async def _measure(self, node: Node) -> None:
        """Wait for a node's Ready and note what confines it; raises when that is too little."""

    async def _release(self) -> None:
        """Give back what the runtime holds besides its nodes. Called by `aclose`, shielded; idempotent."""


def processors() -> int:
    """Processors that this process, and so every process it starts, may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _to_its_end(run: Callable[[], Awaitable[None]]) -> None:
    with anyio.CancelScope(shield=True):
        await run()


async def _stop(node: NodeEnd) -> None:
    await node.stop()
