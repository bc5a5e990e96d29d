"""A node in a process of its own, as far as its connection goes: frames out, frames in, last words."""

import logging
import os
import socket
from collections import deque
from itertools import islice
from typing import Final

import anyio
from typing_extensions import override

from flow_nexus_neural.errors import NeuralError, ProtocolViolation
from flow_nexus_neural.protocol.codec import FrameLimits
from flow_nexus_neural.runtime.base import MemoryReading, NodeSpec, ProcessorTime
from flow_nexus_neural.runtime.connection.conversation import Outgoing
from flow_nexus_neural.runtime.connection.node_end import NodeEnd
from flow_nexus_neural.runtime.process.kernel_memory import proportional_bytes, resident_bytes
from flow_nexus_neural.runtime.process.kernel_state import is_stopped, processor_time
from flow_nexus_neural.runtime.process.last_words import LastWords

_LOG: Final = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1 << 17
_READS_PER_TURN: Final = 8
_MAX_BUFFERS: Final = 512
_HUNG_UP_S: Final = 0.5


class SocketNode(NodeEnd):
    """Owns a node's stream socket; what starts the process, waits for it and kills it comes on top.

    Args:
        spec: What it was started with.
        limits: Longest frames that it takes.
        pid: Of its process.
        connection: Non-blocking; owned from here on.
    """

    def __init__(
        self, spec: NodeSpec, limits: FrameLimits, pid: int, connection: socket.socket
    ) -> None:
        super().__init__(spec, limits)
        self._pid = pid
        self._connection = connection
        self._last_words = LastWords(spec.slot)
        self._outbox: deque[_Sending] = deque()
        self._blocked = anyio.Event()
        self._dead = anyio.Event()
        self._cause: str | None = None
        self._violation: NeuralError | None = None
        self._was_ready = False
        self._rss_when_ready: int | None = None

    @property
    @override
    def pid(self) -> int:
        """Process id."""
        return self._pid

    def note_ready(self) -> None:
        """Measure what it holds before it is given anything."""
        self._was_ready = True
        self._rss_when_ready = resident_bytes(self.pid)

    @override
    def memory(self) -> MemoryReading | None:
        """PSS where the system lets us read it, else the growth of VmRSS since it was ready."""
        if self._exit is not None:
            return None
        pss = proportional_bytes(self.pid)
        if pss is not None:
            return MemoryReading(pss, "pss")
        rss, before = resident_bytes(self.pid), self._rss_when_ready
        if rss is None or before is None:
            return None
        return MemoryReading(max(rss - before, 0), "rss_growth")

    @override
    def is_stopped(self) -> bool:
        """Whether its process is stopped by a signal or a tracer."""
        return self._exit is None and is_stopped(self.pid)

    @override
    def processor_time(self) -> ProcessorTime | None:
        """What the scheduler says of its process."""
        return None if self._exit is not None else processor_time(self.pid)

    async def _read(self) -> None:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        try:
            while True:
                await anyio.wait_readable(self._connection)
                if not self._receive(buffer):
                    break
        except NeuralError as violation:
            self._violation = violation
            self._kill(f"protocol_violation: {violation}")
            return
        except Exception as failure:  # noqa: BLE001 - the wall between what one node sends and everything else
            _LOG.exception("what node %s sent could not be read", self.spec.slot)
            self._violation = ProtocolViolation(
                f"node {self.spec.slot} sent what could not be read ({type(failure).__name__});"
                " it was killed",
                hint="call neural_node_deploy to replace it",
            )
            self._kill(f"protocol_violation: unreadable ({type(failure).__name__})")
            return
        if self._leaves_alone():
            return
        with anyio.move_on_after(_HUNG_UP_S):
            await self._dead.wait()
            return
        self._kill("protocol_violation: it closed its connection and lived on")

    def _leaves_alone(self) -> bool:
        """Whether it may close its connection while its process lives on."""
        return False

    def _receive(self, buffer: memoryview) -> bool:
        """Read what is there, within bounds; False at the end of the stream."""
        for _ in range(_READS_PER_TURN):
            try:
                n_bytes = self._connection.recv_into(buffer)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if n_bytes == 0:
                return False
            self._conversation.receive(buffer[:n_bytes])
            if n_bytes < len(buffer):
                return True
        return True

    async def _write(self) -> None:
        """Send what did not fit into the socket when it was queued."""
        while True:
            await self._blocked.wait()
            await anyio.wait_writable(self._connection)
            self._blocked = anyio.Event()
            self._flush()

    @override
    def _transmit(self, outgoing: Outgoing) -> None:
        descriptor = None if outgoing.descriptor is None else os.dup(outgoing.descriptor)
        self._outbox.append(_Sending(outgoing.buffers, descriptor))
        if not self._blocked.is_set():
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                self.bytes_sent += self._outbox[0].send(self._connection)
                if self._outbox[0].done:
                    self._outbox.popleft()
        except BlockingIOError:
            self._blocked.set()
        except OSError:
            self._drop_outbox()  # it is gone; whoever waits for the process tells so too

    def _drop_outbox(self) -> None:
        while self._outbox:
            self._outbox.popleft().close()

    def _hang_up(self) -> None:
        self._drop_outbox()
        self._connection.close()


class _Sending:
    """A frame on its way out; the descriptor rides on its first byte."""

    def __init__(self, buffers: list[bytes | memoryview], descriptor: int | None) -> None:
        self._rest = deque(memoryview(buffer) for buffer in buffers)
        self._descriptor = descriptor

    @property
    def done(self) -> bool:
        return not self._rest

    def send(self, connection: socket.socket) -> int:
        """Send some of it, without waiting."""
        rides = () if self._descriptor is None else (self._descriptor,)
        window = list(islice(self._rest, _MAX_BUFFERS))
        sent = left = _send(connection, window, rides)
        self.close()
        while self._rest and left >= len(self._rest[0]):
            left -= len(self._rest.popleft())
        if left:
            self._rest[0] = self._rest[0][left:]
        return sent

    def close(self) -> None:
        """Release the descriptor's duplicate."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _send(connection: socket.socket, window: list[memoryview], rides: tuple[int, ...]) -> int:
    if rides:
        return socket.send_fds(connection, window, rides)
    if hasattr(connection, "sendmsg"):
        return connection.sendmsg(window)
    return connection.send(window[0])  # Windows sends one buffer at a time
