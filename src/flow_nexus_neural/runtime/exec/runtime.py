"""Nodes started by exec, for systems on which a zygote cannot fork them: macOS and Windows.

Every node imports its own copy of the libraries, which takes seconds and their full memory; arrays travel
inside frames. The reported isolation is what the platform offers and the probes confirm, no more. Tested on
Linux, where it is not used; never run on macOS or Windows.

Use it as a context manager, as `local.runtime.LocalRuntime`.
"""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import anyio
from typing_extensions import override

from flow_nexus_neural.errors import RuntimeUnavailable
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import Capabilities, NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.readiness import isolation_of
from flow_nexus_neural.runtime.connection.socket_node import SocketNode
from flow_nexus_neural.runtime.exec.spawn import (
    EXEC_COMMAND,
    INHERITS_DESCRIPTORS,
    Spawned,
    spawn,
)
from flow_nexus_neural.runtime.managed import ManagedRuntime, processors
from flow_nexus_neural.runtime.process.exits import ExitReport, describe_exit
from flow_nexus_neural.runtime.process.isolation import best_level
from flow_nexus_neural.runtime.process.orders import CARRIED_BODY_BYTES, order_of
from flow_nexus_neural.settings import Settings

_LAST_BYTES_S: Final = 2.0
_STATUS_SHOWS_SIGNAL: Final = hasattr(signal, "SIGKILL")
"""Whether an exit status shows which signal ended the process."""


class ExecNode(SocketNode):
    """Owns the process, the socket and the stderr pipe of one node.

    A task must execute `run` from the start to the end of the node, shielded from cancellation.
    """

    def __init__(self, spec: NodeSpec, limits: FrameLimits, spawned: Spawned) -> None:
        super().__init__(spec, limits, spawned.process.pid, spawned.connection)
        self._process = spawned.process
        self._stderr = spawned.stderr

    async def run(self) -> None:
        """Serve the node until it has ended and all its resources are released."""
        report: ExitReport | None = None
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write)
                async with anyio.create_task_group() as reading:
                    reading.start_soon(self._last_words.drain_stream, self._stderr)
                    reading.start_soon(self._read)
                    # The event loop reaps children without their resource use: memory and CPU are unknown.
                    report = ExitReport(await self._process.wait(), None, None)
                    self._dead.set()
                    # Both streams end with the process, unless another process inherited their descriptors.
                    reading.cancel_scope.deadline = anyio.current_time() + _LAST_BYTES_S
                writing.cancel_scope.cancel()
        finally:
            # Waiters are released last: after them nothing of the node may still run or be open.
            self._end_process()
            self._hang_up()
            self._settle(self._exit_of(report), self._violation)
        await self._process.aclose()

    def _exit_of(self, report: ExitReport | None) -> NodeExit:
        cause = self._cause
        found = describe_exit(
            report,
            self._last_words.text,
            cause,
            was_ready=self._was_ready,
            asked=self._asked_to_stop,
        )
        if not _STATUS_SHOWS_SIGNAL and cause is not None:
            reason, _, why = cause.partition(": ")
            return replace(found, reason=reason, sentence=f"terminated: {why}")
        return found

    def _end_process(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._end_process()


class ExecRuntime(ManagedRuntime[ExecNode]):
    """Starts nodes by exec, each in a process with its own copy of the libraries.

    Args:
        settings: Limits of one node, and the required isolation level.
        command: Program and arguments of a node.
        inherit: Whether nodes inherit their socket; else they connect to a loopback port.
    """

    name = "exec"

    def __init__(
        self,
        settings: Settings,
        *,
        command: Sequence[str] = EXEC_COMMAND,
        inherit: bool = INHERITS_DESCRIPTORS,
    ) -> None:
        super().__init__(Capabilities(places=processors(), isolation=best_level(), processes=True))
        self._settings = settings
        self._command = tuple(command)
        self._inherit = inherit
        self._limits = FrameLimits(body_bytes=CARRIED_BODY_BYTES)

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> ExecNode:
        """Start a node and measure its isolation; see `base.NodeRuntime`."""
        return await self._bring_up(partial(self._begin, spec), spec, ready_timeout_s)

    async def _begin(self, spec: NodeSpec) -> ExecNode:
        self._require_open()
        order = order_of(spec, self._settings, self._limits)
        spawned = await spawn(self._command, order, inherit=self._inherit)
        try:
            self._require_open()
        except RuntimeUnavailable:  # the runtime was closed meanwhile and would not stop this node
            await spawned.abandon()
            raise
        node = ExecNode(spec, self._limits, spawned)
        self._keep(node, node.run)
        return node

    @override
    async def _measure(self, node: ExecNode) -> None:
        node.isolation = await isolation_of(node, self._settings)
