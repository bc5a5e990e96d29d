"""A node that was forked: its last words, its end."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import anyio
from typing_extensions import override

from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.connection.socket_node import SocketNode
from flow_nexus_neural.runtime.local.zygote_client import Child
from flow_nexus_neural.runtime.process.exits import describe_exit, unwatched

_LAST_BYTES_S: Final = 2.0
_REPORT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Lines:
    """What connects this side with one node: its process, a non-blocking socket, a pipe to read."""

    child: Child
    connection: socket.socket
    stderr: int


class LocalNode(SocketNode):
    """Owns the socket, the stderr pipe and the pidfd of one forked node.

    `run` must run, shielded from cancellation, from the fork to the end: it notices the death, collects what
    is known of it, releases every descriptor and tells everybody.

    Args:
        spec: What it was started with.
        limits: Longest frames that it takes.
        lines: Owned from here on.
        out_of_memory: Whether the kernel counted a kill for memory that nobody has explained yet.
    """

    def __init__(
        self, spec: NodeSpec, limits: FrameLimits, lines: "Lines", out_of_memory: Callable[[], bool]
    ) -> None:
        super().__init__(spec, limits, lines.child.pid, lines.connection)
        self._child = lines.child
        self._stderr = lines.stderr
        self._out_of_memory = out_of_memory

    async def run(self) -> None:
        """Serve the node until it is gone and everything of it is released."""
        try:
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._write)
                async with anyio.create_task_group() as reading:
                    reading.start_soon(self._last_words.drain, self._stderr)
                    reading.start_soon(self._read)
                    await anyio.wait_readable(self._child.pidfd)
                    self._dead.set()
                    # Both streams end with it; the deadline is for descriptors that leaked elsewhere.
                    reading.cancel_scope.deadline = anyio.current_time() + _LAST_BYTES_S
                writing.cancel_scope.cancel()
            with anyio.move_on_after(0 if self._child.unwatched else _REPORT_S):
                await self._child.reported.wait()
        finally:
            self._child.kill()
            self._release()
            exit_ = describe_exit(
                self._child.report,
                self._last_words.text,
                self._cause,
                self._out_of_memory,
                was_ready=self._was_ready,
                asked=self._asked_to_stop,
            )
            told = self._child.reported.is_set()
            self._settle(exit_ if told else unwatched(exit_), self._violation)

    @override
    def _kill(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
        self._child.kill()

    def _release(self) -> None:
        self._hang_up()
        os.close(self._stderr)
        os.close(self._child.pidfd)
