"""Serves one client over the standard streams."""

import os
from io import BufferedReader, FileIO, TextIOWrapper

import anyio
from mcp.server.stdio import stdio_server
from typing_extensions import override

from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.lifetime import limit_closing, serve_until_stopped
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.wire import Wire


class _Input(BufferedReader):
    """The client's bytes; at their end the time for closing begins, whatever is still being done."""

    @override
    def read1(self, size: int = -1, /) -> bytes:
        read = super().read1(size)
        if not read:
            limit_closing()
        return read


async def serve_stdio(server: NeuralServer, host: EngineHost, wire: Wire) -> None:
    """Serve until the client closes its end or dies, or a signal arrives; then end the process."""

    async def serve(_: anyio.Event) -> None:
        reader = _Input(FileIO(wire.read_fd, closefd=False))
        writer = os.fdopen(wire.write_fd, "wb", closefd=False)
        async with stdio_server(
            anyio.wrap_file(TextIOWrapper(reader, encoding="utf-8", errors="replace")),
            anyio.wrap_file(TextIOWrapper(writer, encoding="utf-8")),
        ) as (incoming, outgoing):
            await server.serve_streams(incoming, outgoing)

    await serve_until_stopped(host, serve)
