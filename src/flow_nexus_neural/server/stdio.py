"""Serves one client over the standard streams."""

import os
from io import TextIOWrapper

import anyio
from mcp.server.stdio import stdio_server

from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.lifetime import serve_until_stopped
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.wire import Wire


async def serve_stdio(server: NeuralServer, host: EngineHost, wire: Wire) -> None:
    """Serve until the client closes its end or dies, or a signal arrives; then end the process."""

    async def serve(_: anyio.Event) -> None:
        reader = os.fdopen(wire.read_fd, "rb", closefd=False)
        writer = os.fdopen(wire.write_fd, "wb", closefd=False)
        async with stdio_server(
            anyio.wrap_file(TextIOWrapper(reader, encoding="utf-8", errors="replace")),
            anyio.wrap_file(TextIOWrapper(writer, encoding="utf-8")),
        ) as (incoming, outgoing):
            await server.serve_streams(incoming, outgoing)

    await serve_until_stopped(host, serve)
