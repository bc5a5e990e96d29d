"""A node's end of its socket: frames in with their descriptors, replies out."""

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
)
from flow_nexus_neural.protocol.messages import Grant, Host, Request

if sys.platform != "win32":
    from flow_nexus_neural.node.shared import map_region

_CHUNK_BYTES: Final = 1 << 18
_DESCRIPTOR_BYTES: Final = 4
_DESCRIPTORS_AT_ONCE: Final = 8
_MAX_BUFFERS: Final = 512

Ancillary = tuple[int, int, bytes]


class HungUp(Exception):
    """The engine has closed its end of this socket, or has died."""


class Wire:
    """Reads and writes one connected stream socket.

    Args:
        connection: Blocking.
        limits: Longest frames; the body may be larger where grants carry their arrays.

    Attributes:
        frames: Received and not answered yet.
        granted: The descriptor that came with the frame being answered; None if there was none.
        closed: Whether `close` was called.
    """

    def __init__(self, connection: socket.socket, limits: FrameLimits) -> None:
        self.frames: deque[Frame[Request] | Unreadable] = deque()
        self.granted: int | None = None
        self.closed = False
        self._connection = connection
        self._decoder: Decoder[Request] = Decoder(REQUEST_HEADERS, limits, tolerant=True)
        self._descriptors: deque[int] = deque()
        self._buffer = bytearray(_CHUNK_BYTES)

    def fileno(self) -> int:
        """Of the socket."""
        return self._connection.fileno()

    def receive(self, *, wait: bool) -> bool:
        """Read once; False if no data was available.

        Raises:
            HungUp: At the end of the stream.
        """
        try:
            n_bytes, ancillary = self._read(self._buffer, wait=wait)
        except BlockingIOError:
            return False
        except ConnectionError:
            n_bytes, ancillary = 0, []
        for _, _, data in ancillary:
            self._descriptors.extend(memoryview(data).cast("i"))
        if n_bytes == 0:
            raise HungUp
        self.frames.extend(self._decoder.feed(memoryview(self._buffer)[:n_bytes]))
        return True

    def next_frame(self) -> Frame[Request] | Unreadable:
        """Take the next frame, with the descriptor that rides on it; `done_with_descriptor` follows."""
        frame = self.frames.popleft()
        # A grant without arrays names the next descriptor that has arrived: both keep their order.
        message = frame.message if isinstance(frame, Frame) else None
        rides = isinstance(message, Host) or (
            isinstance(message, Grant) and not frame_arrays(frame)
        )
        self.granted = self._descriptors.popleft() if rides and self._descriptors else None
        return frame

    def done_with_descriptor(self) -> None:
        """Close it, unless it was taken: a mapping outlives it, and RLIMIT_NOFILE is low."""
        if self.granted is not None:
            os.close(self.granted)
            self.granted = None

    def take_descriptor(self) -> int:
        """The descriptor of the frame being answered; the caller closes it.

        Raises:
            ValueError: None came with it.
        """
        if self.granted is None:
            raise ValueError("no descriptor came with this order")
        taken, self.granted = self.granted, None
        return taken

    def open_region(self, grant: Grant) -> dict[str, NDArray[Any]]:
        """The arrays of a grant whose frame does not carry them."""
        if self.granted is None:
            raise ValueError(f"region {grant.key!r} came without a descriptor")
        return map_region(self.granted, grant)

    def send(self, buffers: list[bytes | memoryview]) -> None:
        """Write everything; blocking is safe, because the engine reads at all times.

        Raises:
            HungUp: The engine has closed its end.
        """
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
            raise HungUp from None

    def close(self) -> None:
        """Give up the socket and what came over it."""
        self.closed = True
        self.frames.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._connection.close()

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


def frame_arrays(frame: Frame[Request] | Unreadable) -> bool:
    """Whether a frame brings arrays in its body."""
    return isinstance(frame, Frame) and bool(frame.arrays)
