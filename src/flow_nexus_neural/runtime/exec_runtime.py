"""Nodes as processes started one by one, for systems where no process can fork them: macOS and Windows.

Every node imports its libraries for itself, which takes seconds and all of their memory; arrays travel inside
frames. What confines it is what its platform offers and its probes prove; nothing here claims more. Tested on
Linux, where it is not used; never run on macOS or Windows.

Use it as a context manager, as `local.LocalRuntime`.
"""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup
from typing_extensions import override

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.protocol.dispatch import Arrays
from flow_nexus_neural.runtime.base import Buffer, Isolation, NodeExit, NodeSpec, Region
from flow_nexus_neural.runtime.exec_spawn import (
    EXEC_COMMAND,
    INHERITS_DESCRIPTORS,
    Spawned,
    spawn,
)
from flow_nexus_neural.runtime.exits import ExitReport, describe_exit
from flow_nexus_neural.runtime.isolation import judge, platform_name
from flow_nexus_neural.runtime.memory import CarriedBuffer, CarriedRegion, view_of
from flow_nexus_neural.runtime.orders import CARRIED_BODY_BYTES, order_of
from flow_nexus_neural.runtime.readiness import late, until_ready
from flow_nexus_neural.runtime.socket_node import SocketNode
from flow_nexus_neural.settings import Settings

_LAST_BYTES_S: Final = 2.0
_SIGNALS_TELL: Final = hasattr(signal, "SIGKILL")
"""Whether a status says by what a process was ended."""


class ExecNode(SocketNode):
    """Owns the process, the socket and the stderr pipe of one node.

    `run` must run, shielded from cancellation, from the start to the end, as `LocalNode.run`.
    """

    def __init__(self, spec: NodeSpec, limits: FrameLimits, spawned: Spawned) -> None:
        super().__init__(spec, limits, spawned.process.pid, spawned.connection)
        self._process = spawned.process
        self._stderr = spawned.stderr

    async def run(self) -> None:
        """Serve the node until it is gone and everything of it is released."""
        report: ExitReport | None = None
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write)
                async with anyio.create_task_group() as reading:
                    reading.start_soon(self._last_words.drain_stream, self._stderr)
                    reading.start_soon(self._read)
                    # The event loop waits for its children one by one: what one of them used is not told.
                    report = ExitReport(await self._process.wait(), None, None)
                    self._dead.set()
                    # Both streams end with it; the deadline is for descriptors that leaked elsewhere.
                    reading.cancel_scope.deadline = anyio.current_time() + _LAST_BYTES_S
                writing.cancel_scope.cancel()
        finally:
            self._end_process()
            self._hang_up()
            self._settle(self._told(report), self._violation)
        await self._process.aclose()

    def _told(self, report: ExitReport | None) -> NodeExit:
        cause = self._cause
        told = describe_exit(
            report,
            self._last_words.text,
            cause,
            was_ready=self._was_ready,
            asked=self._asked_to_stop,
        )
        if not _SIGNALS_TELL and cause is not None:
            reason, _, why = cause.partition(": ")
            return replace(told, reason=reason, sentence=f"terminated: {why}")
        return told

    def _end_process(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._end_process()


class ExecRuntime:
    """Starts nodes by exec, each in a process that imports everything for itself.

    Args:
        settings: What one node may use, and whether a weaker node is refused.
        command: Program and arguments of a node.
        inherit: Whether nodes get their socket by inheritance, or connect to a loopback port.
    """

    name = "exec"
    capabilities: frozenset[str] = frozenset()

    def __init__(
        self,
        settings: Settings,
        *,
        command: Sequence[str] = EXEC_COMMAND,
        inherit: bool = INHERITS_DESCRIPTORS,
    ) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._inherit = inherit
        self._limits = FrameLimits(body_bytes=CARRIED_BODY_BYTES)
        self._tasks: TaskGroup | None = None
        self._nodes: set[ExecNode] = set()
        self._closed = False
        self._last_isolation: Isolation | None = None

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

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> ExecNode:
        """Start, confine and judge a node; see `base.NodeRuntime`."""
        deadline = anyio.current_time() + ready_timeout_s
        node: ExecNode | None = None
        with anyio.CancelScope(deadline=deadline):
            node = await self._spawn(spec)
        if node is None:
            raise late(spec, ready_timeout_s)
        await until_ready(node, self._judge, deadline, ready_timeout_s)
        return node

    def share(self, key: str, arrays: Arrays) -> Region:
        """Copy arrays once; see `base.NodeRuntime`."""
        return CarriedRegion(key, arrays)

    def buffer(self, key: str, layout: Sequence[tuple[str, str, tuple[int, ...]]]) -> Buffer:
        """Make a zeroed buffer of (name, dtype, shape) arrays."""
        return CarriedBuffer(key, layout)

    def view(self, buffer: Buffer) -> Region:
        """Let a neighbour of a buffer's writer read it; see `base.NodeRuntime`."""
        return view_of(buffer)

    def isolation_preview(self) -> Isolation:
        """What nodes will get: what the last one got; `unknown` before the first."""
        return self._last_isolation or Isolation(
            level="unknown", layers={"platform": platform_name()}
        )

    async def aclose(self) -> None:
        """Stop every node in whatever state. Idempotent; runs to its end when cancelled."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for node in tuple(self._nodes):
                    stopping.start_soon(_stop, node)
            self._nodes.clear()

    async def _spawn(self, spec: NodeSpec) -> ExecNode:
        self._opened()
        order = order_of(spec, self._settings, self._limits)
        spawned = await spawn(self._command, order, inherit=self._inherit)
        try:
            tasks = self._opened()
        except RuntimeUnavailable:  # closed while it was started: nobody would serve it
            await spawned.abandon()
            raise
        node = ExecNode(spec, self._limits, spawned)
        self._nodes = {other for other in self._nodes if not other.gone}
        self._nodes.add(node)
        tasks.start_soon(_to_its_end, node)
        return node

    def _opened(self) -> TaskGroup:
        if self._closed or self._tasks is None:
            raise RuntimeUnavailable("the runtime is not open")
        return self._tasks

    async def _judge(self, node: ExecNode) -> None:
        ready = await node.ready()
        node.runtime_version = ready.runtime
        node.isolation = judge(
            node.pid,
            ready.steps,
            ready.probes,
            self._settings.require_isolation,
            hostile=self._settings.hostile,
        )
        node.note_ready()
        self._last_isolation = node.isolation


async def _to_its_end(node: ExecNode) -> None:
    with anyio.CancelScope(shield=True):
        await node.run()


async def _stop(node: ExecNode) -> None:
    await node.stop()
