"""The message loop of a node, which has one thread: reads frames, sends replies.

While a long request runs, the service calls `poll` between its steps; requests that have arrived by then are
answered there, so a prediction waits for one step at most.

The allocator keeps freed memory for the next request. After a long request, whose reply is sent first, it is
given back to the system at once; after predictions only when none has come for a while, since each would else
pay for fresh pages.
"""

import os
import select
import socket
import sys
from collections import deque
from typing import Any, Final

from numpy.typing import NDArray

from flow_nexus_neural.node.free_memory import CAN_RETURN_FREE_MEMORY, return_free_memory
from flow_nexus_neural.protocol.codec import (
    REQUEST_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    encode,
)
from flow_nexus_neural.protocol.dispatch import Responder, Service
from flow_nexus_neural.protocol.messages import Grant, Predict, Ready, Request

if sys.platform != "win32":
    from flow_nexus_neural.node.shared import map_region

_CHUNK_BYTES: Final = 1 << 18
_DESCRIPTOR_BYTES: Final = 4
_DESCRIPTORS_AT_ONCE: Final = 8
_MAX_BUFFERS: Final = 512
_IDLE_MS: Final = 1000

Ancillary = tuple[int, int, bytes]


class NodeLoop:
    """Serves one service on one connected stream socket until Shutdown or until the engine closes it.

    Args:
        connection: Blocking stream socket to the engine.
        service: Answers the requests.
        incarnation: Requests for another incarnation are refused.
        limits: Longest frames; the body may be larger where grants carry their arrays.
    """

    def __init__(
        self, connection: socket.socket, service: Service, incarnation: int, limits: FrameLimits
    ) -> None:
        self._connection = connection
        self._incarnation = incarnation
        self._responder = Responder(service, incarnation, limits)
        self._decoder: Decoder[Request] = Decoder(REQUEST_HEADERS, limits, tolerant=True)
        self._frames: deque[Frame[Request] | Unreadable] = deque()
        self._descriptors: deque[int] = deque()
        self._granted: int | None = None
        self._may_hold_free_memory = False
        self._buffer = bytearray(_CHUNK_BYTES)

    def serve(self, ready: Ready) -> None:
        """Send Ready, then answer requests until the end.

        Raises:
            SystemExit: With status 0, after Shutdown or when the engine's end is closed.
        """
        self._send(encode(0, self._incarnation, ready))
        while True:
            while not self._frames:
                if self._may_hold_free_memory and not self._readable(_IDLE_MS):
                    self._return_free_memory()
                self._receive(wait=True)
            self._responder.cancelled = False
            self._answer_next()

    def poll(self) -> bool:
        """Answer what has arrived; True if the running request must end.

        Frames after a Cancel stay queued until it has ended: they may hold the next long request.
        """
        while not self._responder.cancelled:
            if self._frames:
                self._answer_next()
            elif not self._receive(wait=False):
                return False
        return True

    def _answer_next(self) -> None:
        frame = self._frames.popleft()
        # A grant without arrays names the next descriptor that has arrived: both keep their order.
        rides = isinstance(frame, Frame) and isinstance(frame.message, Grant) and not frame.arrays
        self._granted = self._descriptors.popleft() if rides and self._descriptors else None
        try:
            reply = self._responder.answer(frame, self.poll, self._open_region)
        finally:
            if rides and self._granted is not None:
                os.close(self._granted)  # the mapping outlives it, and RLIMIT_NOFILE is low
        self._send(reply)
        if self._responder.closing:
            raise SystemExit(0)
        if isinstance(frame, Frame):
            self._tidy_after(frame.message)

    def _tidy_after(self, request: Request) -> None:
        """Give free memory back, or note that there may be some."""
        if request.is_long:
            self._return_free_memory()
        elif isinstance(request, Predict):
            self._may_hold_free_memory = CAN_RETURN_FREE_MEMORY

    def _return_free_memory(self) -> None:
        self._may_hold_free_memory = False
        return_free_memory()

    def _readable(self, wait_ms: int) -> bool:
        """Whether data or the end of the stream is there within this time."""
        # Not with a timeout of the socket: it would make the socket non-blocking, which confinement refuses.
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        return bool(poller.poll(wait_ms))

    def _receive(self, *, wait: bool) -> bool:
        """Read once; False if no data was available."""
        try:
            n_bytes, ancillary = self._read(self._buffer, wait=wait)
        except BlockingIOError:
            return False
        except ConnectionError:
            n_bytes, ancillary = 0, []
        for _, _, data in ancillary:
            self._descriptors.extend(memoryview(data).cast("i"))
        if n_bytes == 0:
            raise SystemExit(0)  # end of file: the engine has closed the socket or has died
        self._frames.extend(self._decoder.feed(memoryview(self._buffer)[:n_bytes]))
        return True

    def _open_region(self, grant: Grant) -> dict[str, NDArray[Any]]:
        if self._granted is None:
            raise ValueError(f"region {grant.key!r} came without a descriptor")
        return map_region(self._granted, grant)

    def _send(self, buffers: list[bytes | memoryview]) -> None:
        """Write everything; blocking is safe, because the engine reads at all times."""
        pending = deque(memoryview(buffer) for buffer in buffers)
        try:
            while pending:
                window = [pending[index] for index in range(min(len(pending), _MAX_BUFFERS))]
                written = self._write(window)
                while pending and written >= len(pending[0]):
                    written -= len(pending.popleft())
                if written:
                    pending[0] = pending[0][written:]
        except ConnectionError:
            raise SystemExit(0) from None

    def _read(self, buffer: bytearray, *, wait: bool) -> tuple[int, list[Ancillary]]:
        """Number of bytes read, with their control messages.

        A plain `recv` would lose the descriptors of grants, which arrive with the first byte of their frame.

        Raises:
            BlockingIOError: If there is no data and `wait` is false.
        """
        n_bytes, ancillary, _, _ = self._connection.recvmsg_into(
            [buffer],
            socket.CMSG_SPACE(_DESCRIPTORS_AT_ONCE * _DESCRIPTOR_BYTES),
            0 if wait else socket.MSG_DONTWAIT,
        )
        return n_bytes, ancillary

    def _write(self, window: list[memoryview]) -> int:
        """Write a part of these buffers, at least one byte; return the number of bytes written."""
        return os.writev(self._connection.fileno(), window)
