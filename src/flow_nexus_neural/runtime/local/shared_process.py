"""Several nodes in one forked process: a socket each, one end for all.

The process is killed as a whole, so a kill that one node causes is the end of all of them, and the reasons
say so. A node that is asked to stop leaves by itself while the others go on.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import replace

import anyio
from typing_extensions import override

from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.protocol.messages import Host
from flow_nexus_neural.runtime.base import MemoryReading, NodeExit, NodeSpec
from flow_nexus_neural.runtime.connection.socket_node import SocketNode
from flow_nexus_neural.runtime.local.zygote_client import Child
from flow_nexus_neural.runtime.process.exits import ExitReport, describe_exit, unwatched
from flow_nexus_neural.runtime.process.last_words import LastWords

_LAST_BYTES_S = 2.0
_REPORT_S = 2.0
_SHARED_GRACE_S = 10.0
LEFT = ExitReport(returncode=0, max_rss_bytes=None, cpu_s=None)
"""Of a node that left a process which goes on: nothing was measured of it alone."""


class SharedProcess:
    """One process and the nodes in it. `run` must run from the fork to the end.

    Args:
        name: Of the group, for its last words.
        most: Nodes that it may hold at one time.
        child: The process.
        stderr: Its pipe, to read.
        out_of_memory: Whether the kernel counted a kill for memory that nobody has explained yet.
    """

    def __init__(
        self, name: str, most: int, child: Child, stderr: int, out_of_memory: Callable[[], bool]
    ) -> None:
        self.members: list[HostedNode] = []
        self.ended = anyio.Event()
        self._most = most
        self._child, self._stderr = child, stderr
        self._out_of_memory = out_of_memory
        self._words = LastWords(name)
        self._killed_for: tuple[str, str] | None = None
        self._reports_memory: bool | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def last_words(self) -> str:
        """The end of its stderr."""
        return self._words.text

    def guide(self) -> "HostedNode | None":
        """A node over which another can be brought in; None if the process takes no more."""
        if self.ended.is_set() or self._killed_for is not None or len(self.members) >= self._most:
            return None
        return next((one for one in self.members if one.stays), None)

    def tell_members(self) -> None:
        """Note in each node's isolation which slots share its process now."""
        for node in self.members:
            others = [one.spec.slot for one in self.members if one is not node]
            node.isolation = replace(node.isolation, shared_with=tuple(others))

    async def run(self) -> None:
        """Wait for its end, and release what belongs to it."""
        try:
            async with anyio.create_task_group() as reading:
                reading.start_soon(self._words.drain, self._stderr)
                await anyio.wait_readable(self._child.pidfd)
                reading.cancel_scope.deadline = anyio.current_time() + _LAST_BYTES_S
            with anyio.move_on_after(0 if self._child.unwatched else _REPORT_S):
                await self._child.reported.wait()
        finally:
            self._child.kill()
            os.close(self._stderr)
            os.close(self._child.pidfd)
            self.ended.set()

    def kill(self, cause: str, slot: str) -> None:
        """End the process because of one of its nodes; the first cause is the one that is told."""
        if self._killed_for is None:
            self._killed_for = cause, slot
        if not self.ended.is_set():
            self._child.kill()

    def exit_of(self, node: "HostedNode", *, was_ready: bool, asked: bool) -> NodeExit:
        """Why a node of a process that has ended is gone."""
        if self._reports_memory is None:  # each kill of the kernel's is counted once
            report = self._child.report
            by_signal = self._killed_for is None and report is not None and report.returncode == -9
            self._reports_memory = by_signal and self._out_of_memory()
        found = describe_exit(
            self._child.report,
            self.last_words,
            self._cause_for(node.spec.slot),
            lambda: bool(self._reports_memory),
            was_ready=was_ready,
            asked=asked,
        )
        return found if self._child.reported.is_set() else unwatched(found)

    def _cause_for(self, slot: str) -> str | None:
        if self._killed_for is None:
            return None
        cause, offender = self._killed_for
        if offender == slot:
            return cause
        return f"killed: its process was {offender}'s too, which was ended ({cause})"


class HostedNode(SocketNode):
    """A node that shares its process. Owns its socket; `run` must run from the start to the end.

    Args:
        spec: What it was started with.
        limits: Longest frames that it takes.
        process: In which it lives.
        connection: Non-blocking; owned from here on.
    """

    def __init__(
        self,
        spec: NodeSpec,
        limits: FrameLimits,
        process: SharedProcess,
        connection: socket.socket,
    ) -> None:
        self._process = process
        self._left = anyio.Event()
        super().__init__(spec, limits, process.pid, connection)
        process.members.append(self)

    @property
    def process(self) -> SharedProcess:
        """In which it lives."""
        return self._process

    @property
    def stays(self) -> bool:
        """Whether it is ready, alive and was not asked to stop."""
        return self._was_ready and not self._asked_to_stop and not self.gone

    async def enter(self, guide: "HostedNode", descriptor: int) -> None:
        """Have the process serve this node on a socket; raises as `call`."""
        spec = self.spec
        order = Host(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        await guide.bring_in(order, descriptor)

    async def bring_in(self, order: Host, descriptor: int) -> None:
        """Pass on the order to serve another node, with its socket."""
        await self._conversation.call(order, None, descriptor)

    async def run(self) -> None:
        """Serve the node until it is gone and its socket is released."""
        try:
            async with anyio.create_task_group() as serving:
                serving.start_soon(self._write)
                serving.start_soon(self._until_ended)
                async with anyio.create_task_group() as reading:
                    reading.start_soon(self._read)
                    await self._dead.wait()
                    reading.cancel_scope.deadline = anyio.current_time() + _LAST_BYTES_S
                serving.cancel_scope.cancel()
        finally:
            self._hang_up()
            self._process.members.remove(self)
            self._process.tell_members()
            ready, asked = self._was_ready, self._asked_to_stop
            if self._left.is_set() and not self._process.ended.is_set():
                exit_ = describe_exit(LEFT, "", None, was_ready=ready, asked=asked)
            else:
                await self._process.ended.wait()
                exit_ = self._process.exit_of(self, was_ready=ready, asked=asked)
            self._settle(exit_, self._violation)

    @override
    async def stop(self, grace_s: float = 0.5) -> NodeExit:
        """As `base.NodeHandle`, but with more grace where a kill would end nodes that are to stay."""
        if grace_s > 0 and any(one.stays for one in self._process.members if one is not self):
            grace_s = max(grace_s, _SHARED_GRACE_S)
        return await super().stop(grace_s)

    @override
    def memory(self) -> MemoryReading | None:
        """Its part of what the process holds: the nodes in it are not told apart by the system."""
        whole = super().memory()
        return whole and MemoryReading(
            whole.nbytes // max(len(self._process.members), 1), whole.source
        )

    def abandon(self) -> None:
        """It was never taken in: end it without harm to the others."""
        self._left.set()
        self._dead.set()

    @override
    def _leaves_alone(self) -> bool:
        others = [one for one in self._process.members if one is not self and not one.gone]
        if not self._asked_to_stop or not others:
            return False
        self.abandon()
        return True

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._process.kill(cause, self.spec.slot)

    async def _until_ended(self) -> None:
        await self._process.ended.wait()
        self._dead.set()
