"""Drains the stderr of a process: a full pipe would block it for ever."""

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
        name: Of the process, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept = b""

    @property
    def text(self) -> str:
        """What is kept, as printable lines."""
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
        """The same where the event loop reads the pipe."""
        async for data in stream:
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_KEPT_BYTES:]
        if len(data) >= _CHUNK_BYTES:  # a flood: the full pipe then slows its writer, not us
            await anyio.sleep(_FLOOD_PAUSE_S)
        if _LOG.isEnabledFor(logging.DEBUG):
            for line in data.decode("utf-8", "replace").splitlines():
                _LOG.debug("%s wrote: %s", self._name, quoted(line, _KEPT_BYTES))
