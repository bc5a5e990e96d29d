"""Messages over a stream socket on an event loop: queued without waiting, read as whole messages."""

import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import anyio

from flow_nexus_neural.runtime.ray.wire import Buffer, Splitter, pack

_CHUNK_BYTES: Final = 1 << 20
_MAX_BUFFERS: Final = 256


class MessageStream:
    """One end of a connection. Run `write` in a task; it ends with the connection.

    Args:
        connection: Owned from here on.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._connection = connection
        self._outbox: deque[memoryview] = deque()
        self._filled = anyio.Event()
        self._closed = False
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, host: int, header: Mapping[str, Any], *body: Buffer) -> None:
        """Queue a message; must be called on the event loop. What is sent to a closed one is dropped."""
        self.pass_on(*pack(host, header, *body))

    def pass_on(self, *raw: Buffer) -> None:
        """Queue the bytes of whole messages."""
        if self._closed:
            return
        self._outbox.extend(memoryview(part).cast("B") for part in raw if len(part))
        self._filled.set()

    async def write(self) -> None:
        """Send what is queued until the other end is gone."""
        while not self._closed:
            await self._filled.wait()
            self._filled = anyio.Event()
            try:
                while self._outbox:
                    await self._write_some()
            except (OSError, anyio.ClosedResourceError):
                self._outbox.clear()
                return

    async def messages(self) -> AsyncIterator[bytes]:
        """Whole messages, until the other end is gone."""
        splitter, buffer = Splitter(), memoryview(bytearray(_CHUNK_BYTES))
        while not self._closed:
            try:
                await anyio.wait_readable(self._connection)
                nbytes = self._connection.recv_into(buffer)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError):
                return
            if nbytes == 0:
                return
            self.bytes_received += nbytes
            for raw in splitter.feed(buffer[:nbytes]):
                yield raw

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._outbox.clear()
            self._filled.set()
            anyio.notify_closing(self._connection)
            self._connection.close()

    async def _write_some(self) -> None:
        window = [self._outbox[i] for i in range(min(len(self._outbox), _MAX_BUFFERS))]
        try:
            left = sent = self._connection.sendmsg(window)
        except BlockingIOError:
            await anyio.wait_writable(self._connection)
            return
        self.bytes_sent += sent
        while self._outbox and left >= len(self._outbox[0]):
            left -= len(self._outbox.popleft())
        if left:
            self._outbox[0] = self._outbox[0][left:]
