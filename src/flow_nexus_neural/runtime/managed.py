"""The parts that all runtimes share: opening and closing, starting nodes under a deadline, shared memory.

A concrete runtime adds how a node is started and how its isolation is measured; see `ManagedRuntime`.
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
    """Base of every runtime. Use it as a context manager: its tasks end with the block.

    The tasks are shielded from cancellation and end only when their node or process ends, so that a cancelled
    caller loses neither a node nor a descriptor.

    Args:
        capabilities: What this runtime offers on this machine.
        isolation: Expected confinement of nodes, if known before the first one is measured.

    Attributes:
        nodes: All live nodes, and some that have ended (`NodeEnd.gone`).
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
        """Create a zeroed buffer of (name, dtype, shape) arrays."""
        if self.capabilities.shared_memory:
            return MemoryBuffer.of(key, layout)
        return CarriedBuffer(key, layout)

    def view(self, buffer: Buffer) -> Region:
        """Create a read-only region over a buffer; see `base.NodeRuntime`."""
        return view_of(buffer)

    def isolation_preview(self) -> Isolation:
        """Confinement of the last node; before the first, what is known without measuring."""
        return self._isolation

    async def aclose(self) -> None:
        """Stop every node, whatever its state. Idempotent; completes even if the caller is cancelled."""
        # First: a start that is under way must not add a node after the loop below.
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
        """Start a node and return once it is ready and measured; after a failure nothing of it is left.

        Args:
            begin: Starts the node's process and passes the node to `_keep`. Cancelled at the deadline.
            spec: For the error text.
            ready_timeout_s: Time for the whole start.

        Raises:
            NodeStartFailed, IsolationUnavailable: As `base.NodeRuntime.start`.
        """
        deadline = anyio.current_time() + ready_timeout_s
        node: Node | None = None
        with anyio.CancelScope(deadline=deadline):
            node = await begin()
        if node is None:
            raise self._not_started(spec, ready_timeout_s)
        # Outside the scope above: the deadline must not cancel the clean-up of a node that is late.
        await until_ready(node, self._measure, deadline, ready_timeout_s)
        self._isolation = node.isolation
        return node

    def _keep(self, node: Node, run: Callable[[], Awaitable[None]]) -> None:
        """Run a node's task until the node ends; closing the runtime stops it."""
        self.nodes = [other for other in self.nodes if not other.gone]
        self.nodes.append(node)
        self._spawn(run)

    def _spawn(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run a function that ends by itself in a task that is shielded from cancellation."""
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
        """Wait for a node's Ready and record its confinement; raises if that is below the required level."""

    async def _release(self) -> None:
        """Release resources other than nodes. Called by `aclose`, shielded; idempotent."""


def processors() -> int:
    """Number of processors that this process, and so every child process, may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _to_its_end(run: Callable[[], Awaitable[None]]) -> None:
    with anyio.CancelScope(shield=True):
        await run()


async def _stop(node: NodeEnd) -> None:
    await node.stop()
