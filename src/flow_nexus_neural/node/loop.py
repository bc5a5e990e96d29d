"""The single thread of a node: frames in, replies out.

While a long request runs, the service calls `poll` between its steps; whatever has arrived by then is
answered in place, so a prediction waits for one step at most.
"""

import os
import socket
import sys
from collections import deque
from typing import Any, Final

from numpy.typing import NDArray

from flow_nexus_neural.protocol.codec import (
    REQUEST_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    encode,
)
from flow_nexus_neural.protocol.dispatch import Responder, Service
from flow_nexus_neural.protocol.messages import Grant, Ready, Request

if sys.platform != "win32":
    from flow_nexus_neural.node.shared import map_region

_CHUNK_BYTES: Final = 1 << 18
_DESCRIPTOR_BYTES: Final = 4
_DESCRIPTORS_AT_ONCE: Final = 8
_MAX_BUFFERS: Final = 512

Ancillary = tuple[int, int, bytes]


class NodeLoop:
    """Serves one service on one connected stream socket until the engine goes or says Shutdown.

    Args:
        connection: Blocking stream socket to the engine.
        service: Answers the requests.
        incarnation: Requests of another one are fenced.
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
        self._buffer = bytearray(_CHUNK_BYTES)

    def serve(self, ready: Ready) -> None:
        """Say ready, then answer until the end.

        Raises:
            SystemExit: With status 0, after Shutdown or when the engine's end is closed.
        """
        self._send(encode(0, self._incarnation, ready))
        while True:
            while not self._frames:
                self._receive(wait=True)
            self._responder.cancelled = False
            self._answer_next()

    def poll(self) -> bool:
        """Answer what has arrived; True when the running request shall end.

        What comes behind a Cancel waits for that end: it may be the next long request.
        """
        while not self._responder.cancelled:
            if self._frames:
                self._answer_next()
            elif not self._receive(wait=False):
                return False
        return True

    def _answer_next(self) -> None:
        frame = self._frames.popleft()
        rides = isinstance(frame, Frame) and isinstance(frame.message, Grant) and not frame.arrays
        self._granted = self._descriptors.popleft() if rides and self._descriptors else None
        try:
            reply = self._responder.answer(frame, self.poll, self._open_region)
        finally:
            if rides and self._granted is not None:
                os.close(self._granted)
        self._send(reply)
        if self._responder.closing:
            raise SystemExit(0)

    def _receive(self, *, wait: bool) -> bool:
        """Read once; False when nothing was there."""
        try:
            n_bytes, ancillary = self._read(self._buffer, wait=wait)
        except BlockingIOError:
            return False
        except ConnectionError:
            n_bytes, ancillary = 0, []
        for _, _, data in ancillary:
            self._descriptors.extend(memoryview(data).cast("i"))
        if n_bytes == 0:
            raise SystemExit(0)  # the engine is gone; there is nobody left to work for
        self._frames.extend(self._decoder.feed(memoryview(self._buffer)[:n_bytes]))
        return True

    def _open_region(self, grant: Grant) -> dict[str, NDArray[Any]]:
        if self._granted is None:
            raise ValueError(f"region {grant.key!r} came without a descriptor")
        return map_region(self._granted, grant)

    def _send(self, buffers: list[bytes | memoryview]) -> None:
        """Write everything; the engine always reads."""
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
        """Bytes read, with what rode on them; raises BlockingIOError when it may not wait for some."""
        n_bytes, ancillary, _, _ = self._connection.recvmsg_into(
            [buffer],
            socket.CMSG_SPACE(_DESCRIPTORS_AT_ONCE * _DESCRIPTOR_BYTES),
            0 if wait else socket.MSG_DONTWAIT,
        )
        return n_bytes, ancillary

    def _write(self, window: list[memoryview]) -> int:
        """Bytes written of these buffers; at least one."""
        return os.writev(self._connection.fileno(), window)
