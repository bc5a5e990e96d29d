"""Serves one client over the standard streams."""

import os
from io import BufferedReader, FileIO, TextIOWrapper

import anyio
from anyio.abc import ObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError
from typing_extensions import override

from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.lifetime import limit_closing, serve_until_stopped
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.wire import Wire

UNREADABLE = JSONRPCError(
    jsonrpc="2.0",
    id=None,
    error=ErrorData(
        code=PARSE_ERROR,
        message="a line is no JSON-RPC message: not JSON, nested too deeply, or with a lone surrogate",
    ),
)
"""Reply to a line that cannot be decoded. It has no id, because that stands in the line."""


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
        async with (
            stdio_server(
                anyio.wrap_file(TextIOWrapper(reader, encoding="utf-8", errors="replace")),
                anyio.wrap_file(TextIOWrapper(writer, encoding="utf-8")),
            ) as (incoming, outgoing),
            anyio.create_task_group() as tasks,
        ):
            send, readable = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            tasks.start_soon(refuse_unreadable, incoming, outgoing, send)
            await server.serve_streams(readable, outgoing)
            tasks.cancel_scope.cancel()

    await serve_until_stopped(host, serve)


async def refuse_unreadable(
    incoming: ReadStream[SessionMessage | Exception],
    outgoing: WriteStream[SessionMessage],
    readable: ObjectSendStream[SessionMessage | Exception],
) -> None:
    """Pass messages on, and reply to what is none; the SDK drops that without a word."""
    async with readable:
        async for item in incoming:
            if isinstance(item, Exception):
                await outgoing.send(SessionMessage(UNREADABLE))
            else:
                await readable.send(item)
