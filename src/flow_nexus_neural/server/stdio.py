"""Serves one client over the standard streams."""

import os
import select
import stat
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

AT_ONCE_BYTES = 65_536
"""Most of a message that is written on the event loop: more than any usual reply has."""


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

    What is written is kept until it is flushed. A reply is written at once where the client's pipe has room.
    What it has no room for takes a turn of a thread, where a client that does not read can be waited for.
    """

    def __init__(self, file: TextIOWrapper) -> None:
        super().__init__(file)
        self._writing = anyio.Lock()
        self._kept: list[str] = []
        self._bytes = file.buffer
        self._pipe = _pipe_of(file)

    @override
    async def write(self, b: str) -> int:
        self._kept.append(b)
        return len(b)

    @override
    async def flush(self) -> None:
        async with self._writing:
            if self._kept:
                text, self._kept = "".join(self._kept), []
                rest = memoryview(text.encode())
                if self._pipe is not None:
                    rest = rest[written_at_once(self._pipe, rest[:AT_ONCE_BYTES]) :]
                if rest:
                    with anyio.CancelScope(shield=True):  # half a message would spoil the next
                        await anyio.to_thread.run_sync(self._send, rest)

    def _send(self, rest: memoryview) -> None:
        self._bytes.write(bytes(rest))
        self._bytes.flush()


def written_at_once(pipe: int, data: memoryview) -> int:
    """Write to a pipe as long as that does not wait for its reader.

    A pipe that is ready has room for `PIPE_BUF` bytes (POSIX, `poll` and `write`), so that so few never wait.

    Returns:
        Bytes that were written.
    """
    ready, done = select.poll(), 0
    ready.register(pipe, select.POLLOUT)
    while done < len(data) and ready.poll(0) == [(pipe, select.POLLOUT)]:
        done += os.write(pipe, data[done : done + select.PIPE_BUF])
    return done


def _pipe_of(file: TextIOWrapper) -> int | None:
    """The descriptor, if it is a pipe and the system can say whether that has room."""
    if not (hasattr(select, "poll") and hasattr(select, "PIPE_BUF")):
        return None
    return file.fileno() if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode) else None


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
