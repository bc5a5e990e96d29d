"""Drains the stderr of a process, since a full pipe would block it for ever, and keeps its end."""

import logging
import os
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream

from flow_nexus_neural.protocol.node_words import plain_lines, quoted

_LOG: Final = logging.getLogger(__name__)
_KEPT_BYTES: Final = 4096
_CHUNK_BYTES: Final = 1 << 16
_FLOOD_PAUSE_S: Final = 0.01


class LastWords:
    """Keeps the last 4 KiB that a process wrote; everything goes to the log at level debug.

    Args:
        name: Name of the process in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept = b""

    @property
    def text(self) -> str:
        """The kept bytes as printable lines."""
        return plain_lines(self._kept.decode("utf-8", "replace"), _KEPT_BYTES)

    async def drain(self, fd: int) -> None:
        """Read until every writer has closed its end."""
        while True:
            await anyio.wait_readable(fd)
            data = os.read(fd, _CHUNK_BYTES)
            if not data:
                return
            await self._take(data)

    async def drain_stream(self, stream: ByteReceiveStream) -> None:
        """As `drain`, for a pipe that the event loop reads."""
        async for data in stream:
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_KEPT_BYTES:]
        # A flood of output: pause, so that the full pipe slows its writer and not the event loop.
        if len(data) >= _CHUNK_BYTES:
            await anyio.sleep(_FLOOD_PAUSE_S)
        if _LOG.isEnabledFor(logging.DEBUG):
            for line in data.decode("utf-8", "replace").splitlines():
                _LOG.debug("%s wrote: %s", self._name, quoted(line, _KEPT_BYTES))
