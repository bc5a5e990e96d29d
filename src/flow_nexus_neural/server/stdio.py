"""Serves one client over the standard streams."""

import os
from collections.abc import AsyncIterator
from io import BufferedReader, FileIO, TextIOWrapper

import anyio
from mcp.server.stdio import stdio_server
from mcp.types import JSONRPCError
from typing_extensions import override

from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.lifetime import limit_closing, serve_until_stopped
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.request_lines import messages_in
from flow_nexus_neural.server.wire import Wire


class _Input(BufferedReader):
    """The client's bytes; at their end the time for closing begins, whatever is still being done."""

    @override
    def read1(self, size: int = -1, /) -> bytes:
        read = super().read1(size)
        if not read:
            limit_closing()
        return read


class _Output(anyio.AsyncFile[str]):
    """The client's end: whole messages, whoever of several tasks writes one.

    What is written is kept until it is flushed, so that a reply takes one turn of a thread and not two.
    """

    def __init__(self, file: TextIOWrapper) -> None:
        super().__init__(file)
        self._writing = anyio.Lock()
        self._kept: list[str] = []

    @override
    async def write(self, b: str) -> int:
        self._kept.append(b)
        return len(b)

    @override
    async def flush(self) -> None:
        async with self._writing:
            if self._kept:
                text, self._kept = "".join(self._kept), []
                await anyio.to_thread.run_sync(self._send, text)

    def _send(self, text: str) -> None:
        self.wrapped.write(text)
        self.wrapped.flush()


class _Messages:
    """What the SDK takes for a file: something to iterate over."""

    def __init__(self, messages: AsyncIterator[str]) -> None:
        self._messages = messages

    def __aiter__(self) -> AsyncIterator[str]:
        return self._messages


async def serve_stdio(server: NeuralServer, host: EngineHost, wire: Wire) -> None:
    """Serve until the client closes its end or dies, or a signal arrives; then end the process."""

    async def serve(_: anyio.Event) -> None:
        reader = _Input(FileIO(wire.read_fd, closefd=False))
        writer = os.fdopen(wire.write_fd, "wb", closefd=False)
        lines = anyio.wrap_file(TextIOWrapper(reader, encoding="utf-8", errors="replace"))
        output = _Output(TextIOWrapper(writer, encoding="utf-8"))

        async def answer(error: JSONRPCError) -> None:
            await output.write(error.model_dump_json(by_alias=True, exclude_unset=True) + "\n")
            await output.flush()

        messages = _Messages(messages_in(aiter(lines), answer))
        async with stdio_server(messages, output) as (  # type: ignore[arg-type] # it only iterates
            incoming,
            outgoing,
        ):
            await server.serve_streams(incoming, outgoing)

    await serve_until_stopped(host, serve)
